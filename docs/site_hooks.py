"""What mkdocs does for pages that link to files of the repository outside docs/: it brings the files along."""

from __future__ import annotations

import os
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
BROUGHT = ("figures", "notebooks")
"""Folders that pages link to. They are read in the repository as they stand, so links are written for it."""

_LINK = re.compile(r"(\]\()((?:\.\./)+(?:figures|notebooks)/[^)#\s]*)")


def on_files(files: Files, config: Any) -> Files:
    """Add the folders that pages link to."""
    for folder in BROUGHT:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_file() and path.suffix != ".md":
                place = path.relative_to(ROOT).as_posix()
                files.append(File.generated(config, place, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turn links out of docs/ into links to what was brought; a folder of data becomes plain words."""
    here = posixpath.dirname(page.file.src_uri)

    def within(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join("docs", here, match.group(2)))
        if target.endswith(".md") or not (ROOT / target).is_file():
            return f"{match.group(1)}{os.path.relpath('figures/index.html', here or '.')}"
        return match.group(1) + posixpath.relpath(target, here or ".")

    return _LINK.sub(within, markdown)
