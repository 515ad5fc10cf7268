"""The parts of a report, and a report as Markdown; `plotting.sections_page` shows the same parts as a page."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from persona_interp.measure.markdown_table import markdown_table


@dataclass(frozen=True)
class Section:
    """A part of a report.

    Attributes:
        title: its heading.
        paragraphs: plain text.
        headings: of the table; empty: there is none.
        rows: its cells, plain text.
    """

    title: str
    paragraphs: tuple[str, ...] = ()
    headings: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()


def sections_markdown(title: str, sections: Sequence[Section]) -> str:
    """A report as Markdown; what a model wrote is shown as written."""
    parts = [f"# {title}"]
    for section in sections:
        parts.append(f"## {section.title}")
        parts += [_escaped(paragraph) for paragraph in section.paragraphs]
        if section.headings:
            rows = (map(_cell, row) for row in section.rows)
            parts.append("\n".join(markdown_table([_cell(heading) for heading in section.headings], rows)))
    return "\n\n".join(parts) + "\n"


def _cell(text: str) -> str:
    """A table's cell is one line and holds no bar."""
    return _escaped(" ".join(text.split())).replace("|", "\\|")


def _escaped(text: str) -> str:
    """What a model wrote is shown as written, never read as Markdown or HTML."""
    return re.sub(r"([\\`*_<>~]|(?<=\])\()", r"\\\1", text)
