"""Ways of choosing a layer against what every layer does: bars of behaviour, and above each bar who chose it."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from persona_interp.errors import InvalidInputError
from persona_interp.measure.layer_effectiveness import AUTO
from persona_interp.plotting.palette import BLACK, BLUE, GREEN, GREY, ORANGE, PALE, VERMILION, styled
from persona_interp.studies.layers import Choice, LayerBench

_METHODS = {
    "sweep": ("exhaustive sweep", BLACK, "star"),
    AUTO: ("screened likelihood (--layer auto)", BLUE, "circle"),
    "gradient": ("gradient", GREEN, "square"),
    "geometry": ("geometry (separation)", VERMILION, "diamond"),
    "lens": ("logit lens", ORANGE, "triangle-up"),
    "fixed depth": ("60 % of the depth", GREY, "x"),
}
"""Way of choosing -> how it is shown."""
_FIRST, _STEP = 9.0, 12.0
"""Points above a bar at which the lowest marker stands, and between markers."""


def layer_choices_figure(benches: Sequence[LayerBench]) -> go.Figure:
    """Effect of every layer on the evaluation questions, and above each bar the ways of choosing that chose it.

    There is a panel for each model and trait. The best layer's bar is dark. Ways that chose the same layer stand above each
    other, in the order of the legend.

    Raises:
        InvalidInputError: there is no bench.
    """
    models = list(dict.fromkeys(bench.model for bench in benches))
    traits = list(dict.fromkeys(bench.trait for bench in benches))
    if not models:
        raise InvalidInputError("there is no bench to draw: give at least one")
    names = [model.removeprefix("organism-") for model in models]
    figure = make_subplots(
        rows=len(traits), cols=len(models), shared_yaxes=True, horizontal_spacing=0.02, vertical_spacing=0.13, column_titles=names
    )
    shown: set[str] = set()
    for bench in benches:
        row, column = traits.index(bench.trait) + 1, models.index(bench.model) + 1
        figure.add_trace(_bars(bench), row=row, col=column)
        for marker in _choices(bench, shown):
            figure.add_trace(marker, row=row, col=column)
        n_layers = max(bench.effects) + 1
        figure.update_xaxes(dtick=1 if n_layers <= 8 else 2, range=[-0.7, n_layers - 0.3], showgrid=False, row=row, col=column)
    figure.update_yaxes(range=[0, 150], tickvals=[0, 25, 50, 75, 100], zeroline=False)
    for row, trait in enumerate(traits, start=1):
        figure.update_yaxes(title_text=f"{trait}: furthest coherent<br>movement (points)", row=row, col=1)
    middle = len(models) // 2 + 1
    figure.update_xaxes(title_text="layer (0-based block, its output)", row=len(traits), col=middle)
    legend = {"orientation": "h", "yanchor": "top", "y": -0.14, "xanchor": "left", "x": 0}
    title = "Which layer each method chooses, and what steering there does"
    figure.update_yaxes(title_font_size=14)
    figure.update_xaxes(title_font_size=14)
    return styled(figure, title, legend="beside", height=190 + 240 * len(traits), bargap=0.25).update_layout(
        legend=legend, margin={"r": 20}
    )


def _bars(bench: LayerBench) -> go.Bar:
    layers = sorted(bench.effects)
    best = max(layers, key=lambda layer: bench.effects[layer])
    return go.Bar(
        x=layers,
        y=[bench.effects[layer] for layer in layers],
        name="movement",
        marker_color=[GREY if layer == best else PALE for layer in layers],
        hovertemplate=f"{bench.model}, {bench.trait}<br>layer %{{x}} moves %{{y:.0f}} points<extra></extra>",
        showlegend=False,
    )


def _choices(bench: LayerBench, shown: set[str]) -> list[go.Scatter]:
    """A marker for each way of choosing; each enters the legend once, which `shown` remembers."""
    above: dict[int, float] = {}
    found: list[go.Scatter] = []
    for method, (name, colour, symbol) in _METHODS.items():
        choice = bench.by(method)
        height = above.get(choice.layer, bench.effects[choice.layer] + _FIRST)
        above[choice.layer] = height + _STEP
        found.append(
            go.Scatter(
                x=[choice.layer],
                y=[height],
                name=name,
                mode="markers",
                marker={"color": colour, "symbol": symbol, "size": 9},
                customdata=[_text(bench, choice)],
                hovertemplate="%{customdata}<extra></extra>",
                legendgroup=name,
                showlegend=name not in shown,
            )
        )
        shown.add(name)
    return found


def _text(bench: LayerBench, choice: Choice) -> str:
    ranks = "" if choice.spearman is None else f"<br>its scores rank the layers with Spearman {choice.spearman:.2f}"
    cost = f"{choice.token_share:.1%} of the sweep's tokens"
    return (
        f"<b>{choice.method}</b>, {bench.trait} in {bench.model}<br>layer {choice.layer}: {choice.effect:.0f} points, "
        f"{choice.regret:.0f} short of the best<br>{cost}{ranks}"
    )
