"""Figures as a web page that needs no network."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

import plotly.graph_objects as go

from persona_interp.storage import write_text

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font-family: sans-serif; max-width: 1100px; margin: 1em auto; padding: 0 1em; }}
p {{ max-width: 75ch; line-height: 1.4; }}
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
    listed = [figures] if isinstance(figures, go.Figure) else list(figures)
    parts = [f"<p>{html.escape(part)}</p>" for part in note.split("\n\n") if part.strip()]
    parts += [
        figure.to_html(full_html=False, include_plotlyjs=number == 0, config={"displaylogo": False}, div_id=f"figure-{number}")
        for number, figure in enumerate(listed)
    ]
    return write_text(Path(path), _PAGE.format(title=html.escape(title), body="\n".join(parts)))
