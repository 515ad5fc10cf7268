"""The page in a real browser: served, opened, and used as a person would; for tests."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SOON = 120_000
"""Milliseconds something on the page may take on a busy machine."""
LATER = 300_000
"""Likewise, where a vector is extracted or a model loaded first."""
PHONE = {"width": 390, "height": 844}
TABS = ("Steer", "Chat", "Transfer", "Vectors", "Custom trait")


@dataclass(frozen=True)
class Ended:
    """What a tab said last, and whether it was a good end."""

    text: str
    good: bool


@contextmanager
def served(folder: Path, *models: str) -> Iterator[str]:
    """The command on a free port, with an empty home of its own; its address."""
    command = [sys.executable, "-m", "persona_interp", "demo", "--port", "0", "--model", *models]
    environment = {**os.environ, "PERSONA_INTERP_HOME": str(folder / "home"), "OMP_NUM_THREADS": "1"}
    log = (folder / "log").open("w")
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment)
    try:
        line = process.stdout.readline() if process.stdout else ""
        assert "The page is at" in line, (folder / "log").read_text()
        yield line.split()[4]
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=LATER / 1000)  # closes the pipe too
        log.close()
    assert process.returncode == 0
    assert "Traceback" not in (folder / "log").read_text()


@contextmanager
def visits(chromium: Any, url: str) -> Iterator[Callable[..., Any]]:
    """`visit()`: the page, opened by somebody new. Nothing may be asked of another server, and no script may fail."""
    contexts: list[Any] = []
    strangers: list[str] = []
    faults: list[str] = []

    def open_page(**options: Any) -> Any:
        context = chromium.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(SOON)
        page.on("request", lambda request: strangers.append(request.url) if outside(request.url, url) else None)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(url)
        page.wait_for_selector("#pi-steer")
        page.wait_for_selector(".pi-layer >> visible=true", timeout=LATER)  # the model is loaded and the page alive
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert strangers == []
    assert faults == []


def outside(asked: str, url: str) -> bool:
    return not asked.startswith((url, "data:", "blob:"))


def open_tab(page: Any, name: str) -> None:
    page.get_by_role("tab", name=name).click()


def field(page: Any, label: str) -> Any:
    """A control of the tab in sight."""
    return page.get_by_label(label, exact=True).locator("visible=true").first


def choose(page: Any, label: str, option: str) -> None:
    """Pick from a dropdown of the visible tab."""
    field(page, label).click()
    sized = rf"^\W*{re.escape(option)}( \(\d+(\.\d)? [MG]B\))?$"  # models stand there with their size
    page.get_by_role("option", name=re.compile(sized)).click()


def notice(page: Any, tab: str) -> int:
    """Number of what the tab says now."""
    return int(page.locator(f"#pi-{tab}-status [data-notice]").get_attribute("data-notice"))


def ended(page: Any, tab: str, after: int = 0) -> Ended:
    """How the tab's job ended, in a notice later than `after`."""
    later = f"""() => {{
        const said = document.querySelector("#pi-{tab}-status :is(.pi-done, .pi-failed)");
        return said !== null && Number(said.dataset.notice) > {after};
    }}"""
    page.wait_for_function(later, timeout=LATER)
    place = page.locator(f"#pi-{tab}-status")
    return Ended(place.inner_text(), place.locator(".pi-failed").count() == 0)


def cards(page: Any) -> list[str]:
    return [text.strip() for text in page.locator(".pi-text >> visible=true").all_inner_texts()]


def press(page: Any, selector: str, tab: str) -> Ended:
    """Press a button, and wait for the end of what it sets going."""
    before = notice(page, tab)
    page.click(selector)
    return ended(page, tab, before)


def steer(page: Any) -> Ended:
    return press(page, "#pi-steer", "steer")


def refined(page: Any) -> None:
    """Steer, wait until the vector is refined, and have the page know."""
    assert steer(page).good
    page.wait_for_function("document.querySelector('.pi-heat-body').innerText.includes('by screened-likelihood')", timeout=LATER)
    page.wait_for_function("!document.querySelector('#pi-steer-refining .pi-working')", timeout=LATER)


def sideways(page: Any) -> list[str]:
    """Tabs that scroll sideways on a phone."""
    found = []
    for tab in TABS:
        button = page.get_by_role("tab", name=tab)
        if not button.is_visible():  # those without room lie in a menu
            page.get_by_role("button", name="More tabs").click()
            button = page.locator(".overflow-dropdown button", has_text=tab)
        button.click()
        page.wait_for_timeout(400)
        if page.evaluate("document.documentElement.scrollWidth") > PHONE["width"]:
            found.append(tab)
    return found
