"""An evaluation as one web page that needs no network: the figure, then the sections of its Markdown report as tables."""

from __future__ import annotations

import html
from collections.abc import Iterator
from pathlib import Path

from persona_interp.evaluation.evaluation import Evaluation
from persona_interp.evaluation.report import Section, sections, title
from persona_interp.plotting.evaluation import evaluation_figure
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


def save_report(path: str | Path, evaluation: Evaluation) -> Path:
    """Write the report as a page that opens offline (about 5 MB: plotly's script is inside).

    Raises:
        PersonaInterpError: the file cannot be written; nothing is left behind.
    """
    first, *others = sections(evaluation)
    figure = evaluation_figure(evaluation).to_html(
        full_html=False, include_plotlyjs=True, config={"displaylogo": False}, div_id="figure-0"
    )
    parts = [*_section(first), figure, *(part for section in others for part in _section(section))]
    return write_text(Path(path), _PAGE.format(title=html.escape(title(evaluation)), body="\n".join(parts)))


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
