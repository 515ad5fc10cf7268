"""Pages of prose in which marked regions are written from data.

A region begins with ``<!-- written: NAME -->`` and ends with ``<!-- end -->``. What stands between the two is made by `REGIONS`
and by nothing else, so that the words around it can be improved while its numbers are those of the studies.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from persona_interp.errors import FileFormatError, unknown_name
from persona_interp.storage import write_text

Region = Callable[[Path], str]
"""From the folder of the data to Markdown."""

_REGION = re.compile(r"(<!-- written: ([a-z-]+) -->\n)(.*?)(<!-- end -->)", flags=re.DOTALL)


def regions_in(text: str) -> tuple[str, ...]:
    """The names of the regions of a page, in their order."""
    return tuple(match.group(2) for match in _REGION.finditer(text))


def filled(text: str, folder: Path, regions: Mapping[str, Region]) -> str:
    """The page with every region written anew.

    Args:
        text: of the page.
        folder: holds the data, as ``figures/`` does.
        regions: how each is made.

    Raises:
        UnknownNameError: the page has a region of an unknown name; lists those there are.
        FileFormatError: data are missing, or a region has no end.
    """
    if text.count("<!-- written: ") != len(regions_in(text)):
        raise FileFormatError("a region of the page has no end: close each <!-- written: NAME --> with <!-- end -->")

    def made(match: re.Match[str]) -> str:
        begin, name, _, end = match.groups()
        if name not in regions:
            raise unknown_name("region", name, list(regions))
        return f"{begin}\n{regions[name](folder).strip()}\n\n{end}"

    return _REGION.sub(made, text)


def write_pages(pages: Sequence[Path], folder: Path, regions: Mapping[str, Region]) -> list[Path]:
    """Write the regions of all pages.

    Returns:
        The pages that changed.

    Raises:
        PersonaInterpError: as `filled`; pages before the one that failed are written.
    """
    changed: list[Path] = []
    for page in pages:
        if not page.is_file():
            raise FileFormatError(f"{page} is no file: run this in the folder of the project, or name pages with --pages")
        before = page.read_text(encoding="utf-8")
        if (after := filled(before, folder, regions)) != before:
            changed.append(write_text(page, after))
    return changed
