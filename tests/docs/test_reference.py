"""Generated pages are current, pages stand in the navigation, and the site builds without a warning."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import docs_reference
import pytest

import persona_interp

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("page", docs_reference.PAGES)
def test_a_generated_page_is_current(page: str) -> None:
    written = (docs_reference.REFERENCE / page).read_text(encoding="utf-8")
    assert written == docs_reference.PAGES[page](), "run: python tests/docs_reference.py"


def test_every_public_name_is_on_the_page_of_python() -> None:
    page = (docs_reference.REFERENCE / "api.md").read_text(encoding="utf-8")
    named = {each.rpartition(".")[2] for each in re.findall(r"^::: (\S+)$", page, flags=re.MULTILINE)}
    assert named == set(dir(persona_interp)) - {"__version__"}


def test_the_navigation_has_every_page_that_is_no_guide_and_none_that_is_missing() -> None:
    listed = set(re.findall(r": ([\w/-]+\.md)$", (ROOT / ".ci" / "mkdocs.yml").read_text(encoding="utf-8"), flags=re.MULTILINE))
    there = {page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").rglob("*.md")}
    assert listed <= there
    assert [page for page in there - listed if not page.startswith("guides/")] == []


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    if any(importlib.util.find_spec(name) is None for name in ("mkdocs", "mkdocstrings")):
        (pytest.fail if os.environ.get("CI") else pytest.skip)('runs once mkdocs is here: pip install -e ".[docs]"')
    words = [sys.executable, "-m", "mkdocs", "build", "--config-file", ".ci/mkdocs.yml", "--strict", "--quiet"]
    words += ["--site-dir", str(tmp_path / "site")]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "steer" in (tmp_path / "site" / "reference" / "api.html").read_text(encoding="utf-8")
    assert (tmp_path / "site" / "figures" / "doses.png").is_file()
