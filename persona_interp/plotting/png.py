"""Figures as PNG, drawn by a Chromium that is already on the machine: no other package is needed."""

from __future__ import annotations

import base64
import binascii
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import plotly.graph_objects as go

from persona_interp.errors import InvalidInputError, PersonaInterpError, UnsupportedError
from persona_interp.storage import safe_name, write_bytes

BROWSER = "BROWSER_PATH"
"""Environment variable that names the browser, where it is not found by itself."""
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge", "microsoft-edge")
_ELSEWHERE = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "C:/Program Files/Google/Chrome/Application/chrome.exe",
)
_SECONDS = 120
_HEIGHT = 500

_PAGE = """<!DOCTYPE html>
<html><head><meta charset="utf-8"><script src="plotly.min.js"></script></head><body><script>
(async () => {{
  const found = [];
  for (const spec of [{specs}])
    found.push(await Plotly.toImage({{data: spec.data, layout: spec.layout}}, {{
      format: "png", scale: {scale}, width: spec.layout.width || {width}, height: spec.layout.height || {height},
    }}));
  const drawn = document.createElement("pre");
  drawn.id = "drawn";
  drawn.textContent = found.join(" ");
  document.body.appendChild(drawn);
}})();
</script></body></html>
"""


def save_png(path: str | Path, figure: go.Figure, *, width: int = 1100, scale: float = 2.0) -> Path:
    """Write one figure as PNG.

    Args:
        path: a ``.png`` file.
        figure: drawn at its own size, or at `width` and 500 pixels high where it has none.
        width: pixels.
        scale: pixels of the file for each of those.

    Raises:
        UnsupportedError: no Chromium was found; says what to install.
        PersonaInterpError: it drew nothing, or the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise InvalidInputError(f"cannot write a PNG as {path}: name a .png file")
    return write_bytes(path, png_bytes([figure], width=width, scale=scale)[0])


def save_png_folder(
    folder: str | Path, figures: Mapping[str, go.Figure], *, width: int = 1100, scale: float = 2.0
) -> tuple[Path, ...]:
    """Write each figure as ``name.png``; the browser is started once for all of them.

    Args:
        folder: made if it is not there.
        figures: name -> figure.
        width: as in `save_png`.
        scale: likewise.

    Raises:
        InvalidInputError: a name that cannot be a file's.
        UnsupportedError: no Chromium was found; says what to install.
        PersonaInterpError: it drew nothing, or a file cannot be written.
    """
    names = [safe_name(name, "figure") for name in figures]
    drawn = png_bytes(list(figures.values()), width=width, scale=scale)
    return tuple(write_bytes(Path(folder) / f"{name}.png", image) for name, image in zip(names, drawn, strict=True))


def png_bytes(figures: Sequence[go.Figure], *, width: int = 1100, scale: float = 2.0) -> list[bytes]:
    """The PNG of each figure, see `save_png`."""
    from plotly.offline import get_plotlyjs

    if not figures:
        return []
    browser = find_browser()
    # a browser installed as a snap sees neither /tmp nor hidden folders, so what it reads lies in the open
    with tempfile.TemporaryDirectory(prefix="persona-interp-png-", dir=_readable_by(browser), ignore_cleanup_errors=True) as name:
        folder = Path(name)
        specs = ",".join(str(figure.to_json()).replace("<", "\\u003c") for figure in figures)
        (folder / "plotly.min.js").write_text(get_plotlyjs(), encoding="utf-8")
        page = folder / "page.html"
        page.write_text(_PAGE.format(specs=specs, scale=scale, width=width, height=_HEIGHT), encoding="utf-8")
        shown, said = _dumped(browser, page)
    found = re.search(r'<pre id="drawn">([^<]*)</pre>', shown)
    images = [] if found is None else found[1].split()
    try:
        decoded = [base64.b64decode(image.removeprefix("data:image/png;base64,"), validate=True) for image in images]
    except binascii.Error:
        decoded = []
    if len(decoded) != len(figures):
        raise PersonaInterpError(
            f"{browser} drew {len(decoded)} of {len(figures)} figures; save them with save_html and look at the page, or set "
            f"{BROWSER} to another Chromium. It said: {said.strip()[-400:] or 'nothing'}"
        )
    return decoded


def find_browser() -> str:
    """The Chromium or Chrome to draw with: that of ``BROWSER_PATH``, else the first known name that is installed.

    Raises:
        UnsupportedError: there is none; says what to install.
    """
    named = os.environ.get(BROWSER)
    if named:
        if found := shutil.which(named):
            return found
        raise UnsupportedError(f"{BROWSER} is {named!r}, which is no program: name a Chromium or Chrome, or unset it")
    for name in (*_NAMES, *_ELSEWHERE):
        if found := shutil.which(name):
            return found
    raise UnsupportedError(
        "PNG needs Chromium or Chrome, and none was found: install one (on Debian: apt-get install chromium), set "
        f"{BROWSER} to where it is, or save HTML, which needs none"
    )


def _readable_by(browser: str) -> str | None:
    """Where files for the browser go; None: where temporary files always go."""
    return str(Path.home()) if "/snap/" in browser or Path(browser).resolve().name == "snap" else None


def _dumped(browser: str, page: Path) -> tuple[str, str]:
    """The page as it is once its scripts have run, and what the browser said meanwhile."""
    # Without a sandbox, which needs rights that containers lack: the page is ours, and loads nothing from elsewhere.
    options = ["--headless", "--disable-gpu", "--no-first-run", "--disable-extensions", "--disable-dev-shm-usage"]
    if sys.platform == "linux":
        options.append("--no-sandbox")
    profile = page.parent / "profile"
    command = [browser, *options, f"--user-data-dir={profile}", "--virtual-time-budget=60000", "--dump-dom", page.as_uri()]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise PersonaInterpError(
            f"{browser} drew nothing in {_SECONDS} seconds: save HTML instead, or set {BROWSER} to another Chromium"
        ) from error
    except OSError as error:
        raise UnsupportedError(f"{browser} cannot be started ({error}): set {BROWSER} to a Chromium that can") from error
    return done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")
