"""Sections of a report and figures as one web page that needs no network."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from pathlib import Path

import plotly.graph_objects as go

from persona_interp.measure.sections import Section
from persona_interp.plotting.html import drawn, page
from persona_interp.storage import write_text


def save_sections(path: str | Path, title: str, sections: Sequence[Section], figures: Sequence[go.Figure]) -> Path:
    """Write the first section, the figures, and the other sections (about 5 MB: plotly's script is inside, once).

    Raises:
        PersonaInterpError: the file cannot be written; nothing is left behind.
    """
    first, *others = sections
    parts = [*_section(first), *drawn(figures, script=True), *(part for section in others for part in _section(section))]
    return write_text(Path(path), page(title, parts))


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
