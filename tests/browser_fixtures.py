"""A real browser, for what only a browser can tell: that a page opens without a network, and what a figure looks like."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from persona_interp.errors import UnsupportedError
from persona_interp.plotting.png import find_browser


@pytest.fixture
def browser() -> str:
    """Chromium or Chrome. `.ci/run` installs it, so that nothing is skipped there."""
    try:
        return find_browser()
    except UnsupportedError as error:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"runs once Chromium is installed: {error}")


@pytest.fixture
def opened(browser: str, tmp_path: Path) -> Callable[[Path], str]:
    """The document a page becomes in a browser that can resolve no name."""

    def page(path: Path) -> str:
        command = [
            browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            "--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={tmp_path / 'profile'}",
            "--virtual-time-budget=20000", "--dump-dom", path.as_uri(),
        ]  # fmt: skip
        return subprocess.run(command, capture_output=True, timeout=120, check=True).stdout.decode("utf-8")

    return page
