"""An evaluation as one web page that needs no network: the figure, then the sections of its Markdown report as tables."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from persona_interp.evaluation.dose import DosePoint
from persona_interp.evaluation.evaluation import COHERENT, Evaluation
from persona_interp.evaluation.report import Section, sections, title
from persona_interp.evaluation.statistics import Estimate
from persona_interp.plotting.palette import BLUE, GREEN, GREY, ORANGE, VERMILION, styled
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
    figure = _figure(evaluation).to_html(full_html=False, include_plotlyjs=True, config={"displaylogo": False}, div_id="figure-0")
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


def _figure(evaluation: Evaluation) -> go.Figure:
    """Trait score and coherence with their intervals against the coefficient, and beneath them what the controls did."""
    controls, figure = evaluation.controls, go.Figure()
    for number, random in enumerate(controls.random):
        points = _with_baseline(evaluation, random.points)
        line = {"color": GREY, "width": 1}
        shared = {"legendgroup": "random", "showlegend": number == 0, "name": f"{len(controls.random)} random directions"}
        figure.add_trace(_curve(points, [evaluation.trait_score(each) for each in points], line, bars=False, **shared))
    other = _with_baseline(evaluation, controls.other_vector.points)
    line = {"color": ORANGE, "dash": "dashdot"}
    name = f"{controls.other_vector.name} vector, same norm"
    figure.add_trace(_curve(other, [evaluation.trait_score(each) for each in other], line, bars=False, name=name))
    curve = evaluation.curve
    figure.add_trace(_curve(curve, [evaluation.coherence(each) for each in curve], _DASHED, name="coherence"))
    solid = {"color": BLUE, "width": 3}
    figure.add_trace(_curve(curve, [evaluation.trait_score(each) for each in curve], solid, name=f"{evaluation.trait} score"))
    for prompted, what in ((controls.prompted, "for"), (controls.prompted_against, "against")):
        if prompted.trait is not None:
            figure.add_hline(y=prompted.trait, line={"color": GREEN, "dash": "dot"}, annotation_text=f"prompted {what} it")
    figure.add_hline(y=COHERENT, line={"color": GREY, "dash": "dot", "width": 1})
    figure.update_xaxes(title_text="coefficient (multiples of the vector; 0 = unsteered)", zeroline=True)
    figure.update_yaxes(title_text="score (0 to 100)", range=[-4, 104])
    layers = ", ".join(map(str, evaluation.layers))
    return styled(figure, f"{evaluation.vector} added to {evaluation.model} at layer {layers}", height=560)


_DASHED = {"color": VERMILION, "dash": "dash"}


def _with_baseline(evaluation: Evaluation, points: Sequence[DosePoint]) -> list[DosePoint]:
    return sorted((evaluation.controls.baseline, *points), key=lambda point: point.coefficient)


def _curve(
    points: Sequence[DosePoint], scores: Sequence[Estimate], line: Mapping[str, Any], *, bars: bool = True, **options: Any
) -> go.Scatter:
    """Points without a score leave a gap; bars are intervals, where there are any."""
    above = [None if each.value is None or each.high is None else each.high - each.value for each in scores]
    below = [None if each.value is None or each.low is None else each.value - each.low for each in scores]
    error = {"type": "data", "array": above, "arrayminus": below, "thickness": 1.2} if bars else None
    return go.Scatter(
        x=[point.coefficient for point in points],
        y=[each.value for each in scores],
        mode="lines+markers",
        line=dict(line),
        error_y=error,
        connectgaps=False,
        hovertemplate="%{y:.1f}",
        **options,
    )
