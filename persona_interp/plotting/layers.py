"""What a persona vector looks like layer by layer."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from persona_interp.plotting.palette import BLUE, GREEN, GREY, VERMILION, log_axis, styled
from persona_interp.vectors.persona_vector import PersonaVector


def layer_figure(vector: PersonaVector) -> go.Figure:
    """Norm, separation and stability of `vector` over its layers, in three panels above each other.

    What the vector does not record leaves a gap, never a zero. These numbers describe geometry: a layer that separates well need
    not be one where steering works.
    """
    figure = make_subplots(
        rows=3,
        cols=1,
        shared_xaxes=True,
        vertical_spacing=0.08,
        subplot_titles=(
            "Size",
            "Separation of positive and negative answers, held out",
            "Stability between halves of the questions",
        ),
    )
    lowest = min([0.0, *(value for value in vector.listed("split_half") if value is not None)])
    unknown = (None,) * len(vector.layers)
    _line(figure, 1, vector, "direction", vector.norms.tolist(), BLUE, "circle")
    _line(figure, 1, vector, "mean residual", vector.listed("resid_norm") or unknown, GREY, "square")
    _line(figure, 2, vector, "Cohen's d", vector.listed("cohens_d") or unknown, VERMILION, "diamond")
    _line(figure, 3, vector, "cosine", vector.listed("split_half") or unknown, GREEN, "triangle-up")
    sizes = log_axis([*vector.norms.tolist(), *vector.listed("resid_norm")])
    figure.update_yaxes(title_text="norm<br>(activation units)", **sizes, row=1, col=1)
    figure.update_yaxes(title_text="Cohen's d<br>(standard deviations)", rangemode="tozero", row=2, col=1)
    figure.update_yaxes(title_text="cosine<br>(no unit)", range=[lowest, 1.05], row=3, col=1)
    figure.update_xaxes(dtick=max(1, len(vector.layers) // 16))
    figure.update_xaxes(title_text="layer (0-based block, its output)", row=3, col=1)
    return styled(figure, f"{vector.trait} in {vector.model.name}, layer by layer", height=900)


def _line(
    figure: go.Figure, row: int, vector: PersonaVector, name: str, values: Sequence[float | None], colour: str, symbol: str
) -> None:
    if any(value is not None for value in values):
        figure.add_trace(
            go.Scatter(
                x=list(vector.layers),
                y=list(values),
                name=name,
                mode="lines+markers",
                line={"color": colour},
                marker={"symbol": symbol, "size": 9},
                connectgaps=False,
                hovertemplate="%{y:.3g}",
            ),
            row=row,
            col=1,
        )
