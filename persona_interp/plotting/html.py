"""Figures as web pages that need no network."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import plotly.graph_objects as go

from persona_interp.errors import InvalidInputError
from persona_interp.storage import safe_name, write_text

SCRIPT = "plotly.min.js"
"""File that the pages of a folder share."""

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font-family: sans-serif; max-width: 1100px; margin: 1em auto; padding: 0 1em; line-height: 1.4; }}
p {{ max-width: 75ch; }}
.scroll {{ overflow-x: auto; }}
.wide {{ min-width: 1000px; }}
img {{ max-width: 100%; height: auto; }}
pre {{ overflow-x: auto; background: #f4f4f4; padding: 0.7em; }}
table {{ border-collapse: collapse; }}
th, td {{ border-bottom: 1px solid #ccc; padding: 0.25em 0.7em; text-align: left; vertical-align: top; white-space: pre-wrap; }}
th {{ border-bottom-color: #767676; }}
</style>
</head>
<body>
<h1>{title}</h1>
{body}
</body>
</html>
"""


def save_html(path: str | Path, figures: go.Figure | Sequence[go.Figure], *, title: str, note: str = "") -> Path:
    """Write figures below each other as one page that opens offline (about 5 MB: plotly's script is inside, once).

    Args:
        path: an ``.html`` file.
        figures: one or several.
        title: heading of the page.
        note: plain text above the figures, for example what was measured on what; an empty line begins a paragraph.

    Raises:
        PersonaInterpError: the file cannot be written; nothing is left behind.
    """
    return write_text(Path(path), page(title, [*paragraphs(note), *drawn(figures, script=True)]))


def save_html_folder(
    folder: str | Path, pages: Mapping[str, go.Figure | Sequence[go.Figure]], *, title: str, note: str = ""
) -> Path:
    """Write a page for each entry, with one file of plotly's script for all of them, and an index; all open offline.

    Pages are a few kilobytes beside the script's 5 MB, and must stay in its folder. Pages of the same names are replaced, others
    left as they are.

    Example:
        >>> save_html_folder("figures", {"scan": scan_figure(scan), "doses": evaluation_figure(found)}, title="silly")

    Args:
        folder: made if it is not there.
        pages: name of the page, which becomes ``name.html`` -> one figure or several below each other.
        title: heading of the index; each page has its own name beside it.
        note: plain text above the list of pages.

    Returns:
        The index.

    Raises:
        InvalidInputError: there is no page, or a name that cannot be a file's or is ``index``.
        PersonaInterpError: a file cannot be written.
    """
    folder = Path(folder)
    if not pages or "index" in pages:
        raise InvalidInputError(f"cannot write {folder} with pages {list(pages)}: give at least one, none of them called index")
    for name in pages:
        safe_name(name, "page")
    write_script(folder)
    for name, figures in pages.items():
        write_text(folder / f"{name}.html", page(f"{title}: {name}", [*drawn(figures, script=SCRIPT), BACK]))
    listed = "\n".join(f'<li><a href="{name}.html">{html.escape(name)}</a></li>' for name in pages)
    return write_text(folder / "index.html", page(title, [*paragraphs(note), f"<ul>\n{listed}\n</ul>"]))


def write_script(folder: Path) -> Path:
    """Write plotly's script where the pages of `folder` expect it."""
    from plotly.offline import get_plotlyjs

    return write_text(folder / SCRIPT, get_plotlyjs())


BACK = '<p><a href="index.html">All figures</a></p>'
"""A way back to the index, for the end of a page."""


def page(title: str, parts: Sequence[str]) -> str:
    """A whole page around its parts, which are HTML already."""
    return _PAGE.format(title=html.escape(title), body="\n".join(parts))


def paragraphs(note: str) -> Iterator[str]:
    """Plain text as parts of a page; an empty line begins a paragraph."""
    return (f"<p>{html.escape(part)}</p>" for part in note.split("\n\n") if part.strip())


def drawn(figures: go.Figure | Sequence[go.Figure], *, script: bool | str) -> Iterator[str]:
    """The figures as parts of a page, the first of which brings plotly's script or says where it is."""
    listed = [figures] if isinstance(figures, go.Figure) else list(figures)
    return (
        figure.to_html(
            full_html=False,
            include_plotlyjs=False if number else script,
            config={"displaylogo": False},
            div_id=f"figure-{number}",
        )
        for number, figure in enumerate(listed)
    )
