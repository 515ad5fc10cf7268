"""What every head and MLP writes along a vector, and what ablating them does to the trait."""

from __future__ import annotations

from pathlib import Path

import plotly.graph_objects as go

from persona_interp.attribution.attribution import Attribution, Contribution
from persona_interp.attribution.check import AblationArm, AblationCheck
from persona_interp.attribution.component import Component
from persona_interp.attribution.vector_lens import VectorLens
from persona_interp.measure.point import DosePoint
from persona_interp.plotting import hover
from persona_interp.plotting.html import save_html
from persona_interp.plotting.intervals import interval_bars
from persona_interp.plotting.lens import vector_lens_figure
from persona_interp.plotting.palette import BLACK, BLUE, GREY, MISSING, ORANGE, PALE, VERMILION, diverging, styled

_NUMBERS_FIT = 13
"""Columns up to which shares are written into the cells."""
_ROW, _MOST_ROWS = 26, 64
"""Pixels a layer, and layers up to which there is a label for each."""


def attribution_figure(found: Attribution) -> go.Figure:
    """The share of every component in the difference along the vector: layers up the page, heads and the MLP across it.

    White is 0, vermilion towards the trait, blue against it, equally strong for equally much. Numbers with their intervals, and
    what was written in positive and in negative answers, are on hover; what the embedding wrote is in the title.
    """
    layers = list(range(found.layer + 1))
    biased = any(component.kind == "bias" for component in found.components)
    columns = [f"H{head}" for head in range(found.n_heads)] + (["bias"] if biased else []) + ["MLP"]
    by_place = {_place(each.component): each for each in found.contributions if each.component.layer is not None}
    cells = [[by_place.get((layer, column)) for column in columns] for layer in layers]
    largest = max([0.01, *(abs(each.share.value or 0.0) for each in by_place.values())])
    fits = len(columns) <= _NUMBERS_FIT
    names = [str(layer) for layer in layers]
    figure = go.Figure(
        go.Heatmap(
            x=columns,
            y=names,
            z=[[None if each is None else each.share.value for each in row] for row in cells],
            zmin=-largest,
            zmax=largest,
            colorscale=diverging(),
            colorbar={
                "title": {"text": "share of the<br>difference", "font": {"size": 12}},
                "tickfont": {"size": 12},
                "thickness": 14,
            },
            text=[["" if each is None or not fits else _number(each.share.value) for each in row] for row in cells],
            texttemplate="%{text}",
            textfont={"size": 12, "color": BLACK},
            customdata=[["" if each is None else _text(each) for each in row] for row in cells],
            hovertemplate="%{customdata}<extra></extra>",
            xgap=1,
            ygap=1,
        )
    )
    figure.update_xaxes(
        type="category",
        showgrid=False,
        title={"text": "attention heads and MLP of the block", "font": {"size": 13}},
        tickfont={"size": 12},
    )
    thinned = names[:: 1 + len(names) // _MOST_ROWS]
    figure.update_yaxes(
        type="category",
        showgrid=False,
        tickvals=thinned,
        tickfont={"size": 12},
        title={"text": "layer (0-based block)", "font": {"size": 13}},
    )
    embedding = found.of(Component("embedding")).share
    title = (
        f"What writes {found.trait} into layer {found.layer} of {found.model}: shares of the difference of {found.n_pairs} pairs "
        f"of answers (heads {found.share_of('head'):.2f}, MLPs {found.share_of('mlp'):.2f}, embedding {_number(embedding.value)})"
    )
    return styled(figure, title, legend="none", height=190 + _ROW * max(6, len(layers)), plot_bgcolor=MISSING)


def ablation_figure(check: AblationCheck) -> go.Figure:
    """Trait score under the positive prompts with nothing, the top components, their placebo and random sets ablated.

    Bars have 95 % intervals over questions; diamonds are coherence. The last bar is the model asked against the trait.
    """
    n = len(check.top.components)
    bars: list[tuple[str, DosePoint, str, str]] = [
        ("nothing<br>ablated", check.baseline, GREY, "asked for the trait"),
        (f"top {n}", check.top.point, VERMILION, _names(check.top)),
        (f"top {n},<br>placebo", check.placebo.point, ORANGE, f"writing their positive means: {_names(check.placebo)}"),
        *((arm.name.replace(" ", "<br>"), arm.point, PALE, _names(arm)) for arm in check.random),
        ("asked<br>against", check.against, BLUE, "nothing ablated, asked against the trait"),
    ]
    scores = [check.score(point) for _, point, _, _ in bars]
    names = [name for name, _, _, _ in bars]
    error = interval_bars(scores, color=BLACK)
    texts = [
        hover.lines(
            f"<b>{name.replace('<br>', ' ')}</b>",
            hover.wrapped(said),
            f"{check.trait} {hover.with_interval(score)}",
            "" if point.coherence is None else f"coherence {point.coherence:.1f}",
            hover.answers(point),
            hover.example(point),
        )
        for (name, point, _, said), score in zip(bars, scores, strict=True)
    ]
    shared = {"x": names, "customdata": texts, "hovertemplate": "%{customdata}<extra></extra>"}
    figure = go.Figure(
        [
            go.Bar(**shared, y=[s.value for s in scores], error_y=error, marker_color=[b[2] for b in bars], name=check.trait),
            go.Scatter(
                **shared,
                y=[point.coherence for _, point, _, _ in bars],
                mode="markers",
                name="coherence",
                marker={"symbol": "diamond-open", "size": 11, "color": BLACK, "line": {"width": 1.6}},
                cliponaxis=False,
            ),
        ]
    )
    figure.update_xaxes(type="category", tickangle=0, tickfont={"size": 12})
    figure.update_yaxes(title_text=f"score (0 to 100): bars {check.trait}, ◇ coherence", range=[0, 105], zeroline=False)
    more = check.excess
    title = (
        f"{check.trait} in {check.model} while components up to layer {check.layer} are ablated, top {n} {_names(check.top)}: "
        f"{hover.with_interval(more, 0)} points below random sets"
    )
    return styled(figure, title, legend="none", height=480)


def save_attribution_report(
    path: str | Path, found: Attribution, *, lens: VectorLens | None = None, check: AblationCheck | None = None
) -> Path:
    """Write the figures as one page that opens offline."""
    figures = [attribution_figure(found)]
    note = [
        f"Shares of the difference along the vector at layer {found.layer}, {found.n_pairs} pairs of answers to "
        f"{found.n_questions} questions. They sum to 1; what is written is not yet what is needed."
    ]
    if check is not None:
        figures.append(ablation_figure(check))
        note.append(f"Causal check, {check.reason()}")
    if lens is not None:
        figures.append(vector_lens_figure(lens, found.layer))
    return save_html(path, figures, title=f"What writes {found.trait} in {found.model}", note="\n\n".join(note))


def _place(component: Component) -> tuple[int | None, str]:
    column = {"mlp": "MLP", "bias": "bias"}.get(component.kind, f"H{component.head}")
    return component.layer, column


def _number(share: float | None) -> str:
    return "" if share is None else f"{share:.2f}".replace("-0.00", "0.00")


def _text(each: Contribution) -> str:
    return hover.lines(
        f"<b>{each.component}</b>",
        f"share {hover.with_interval(each.share, 3)}",
        f"difference {hover.with_interval(each.difference, 2)} activation units",
        f"positive {each.positive:.2f}, negative {each.negative:.2f}",
    )


def _names(arm: AblationArm) -> str:
    return ", ".join(component.name for component in arm.components)
