"""Sections of a report and figures as one web page that needs no network."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from pathlib import Path

import plotly.graph_objects as go

from persona_interp.evaluation.sections import Section
from persona_interp.storage import write_text

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


def save_sections(path: str | Path, title: str, sections: Sequence[Section], figures: Sequence[go.Figure]) -> Path:
    """Write the first section, the figures, and the other sections (about 5 MB: plotly's script is inside, once).

    Raises:
        PersonaInterpError: the file cannot be written; nothing is left behind.
    """
    first, *others = sections
    drawn = (
        figure.to_html(full_html=False, include_plotlyjs=number == 0, config={"displaylogo": False}, div_id=f"figure-{number}")
        for number, figure in enumerate(figures)
    )
    parts = [*_section(first), *drawn, *(part for section in others for part in _section(section))]
    return write_text(Path(path), _PAGE.format(title=html.escape(title), body="\n".join(parts)))


def _section(section: Section) -> Iterator[str]:
    yield f"<h2>{html.escape(section.title)}</h2>"
    yield from (f"<p>{html.escape(paragraph)}</p>" for paragraph in section.paragraphs)
    if section.headings:
        yield '<div class="scroll"><table>'
        yield _row("th", section.headings)
        yield from (_row("td", row) for row in section.rows)
        yield "</table></div>"


def _row(tag: str, cells: tuple[str, ...]) -> str:
    return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"
