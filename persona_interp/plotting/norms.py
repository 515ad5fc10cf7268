"""Residual streams of several models side by side: how long they are, and how long a persona vector is against them."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from persona_interp.errors import InvalidInputError
from persona_interp.plotting.palette import colour_and_symbol, log_axis, styled
from persona_interp.vectors.persona_vector import PersonaVector


def norms_figure(vectors: Sequence[PersonaVector]) -> go.Figure:
    """Mean residual norm at each layer, and the norm of the vector over it, a line a model.

    The ratio is the perturbation that coefficient 1 makes, so models and layers need coefficients of their own. The title counts
    the massive dimensions that were recorded, see `PersonaVector.massive`. A layer without a recorded norm leaves a gap.

    Raises:
        InvalidInputError: no vector was given, or they are of several traits.
    """
    traits = list(dict.fromkeys(vector.trait for vector in vectors))
    if len(traits) != 1:
        raise InvalidInputError(f"one figure shows vectors of one trait, and was given {', '.join(traits) or 'none'}")
    titles = ("Mean norm of the residual stream (log scale)", f"The {traits[0]} vector's norm over it")
    figure = make_subplots(rows=1, cols=2, horizontal_spacing=0.09, subplot_titles=titles)
    for number, vector in enumerate(vectors):
        colour, symbol = colour_and_symbol(number)
        lengths = vector.listed("resid_norm") or (None,) * len(vector.layers)
        for column, values in enumerate((lengths, vector.listed("norm_ratio")), start=1):
            figure.add_trace(
                go.Scatter(
                    x=list(vector.layers),
                    y=list(values),
                    name=vector.model.name.removeprefix("organism-"),
                    mode="lines+markers",
                    line={"color": colour},
                    marker={"symbol": symbol, "size": 9},
                    connectgaps=False,
                    hovertemplate=f"{vector.model.name}, layer %{{x}}<br>%{{y:.3g}}<extra></extra>",
                    legendgroup=vector.model.name,
                    showlegend=column == 1,
                ),
                row=1,
                col=column,
            )
    known = [value for vector in vectors for value in vector.listed("resid_norm")]
    figure.update_yaxes(title_text="activation units", title_font_size=14, **log_axis(known), row=1, col=1)
    figure.update_yaxes(title_text="perturbation ratio at coefficient 1", title_font_size=14, rangemode="tozero", row=1, col=2)
    figure.update_xaxes(title_text="layer (0-based block, its output)", title_font_size=14, dtick=1, zeroline=False)
    return styled(figure, _title(vectors), legend="beside", height=480)


def _title(vectors: Sequence[PersonaVector]) -> str:
    found = {(vector.model.name, each.layer, each.dimension) for vector in vectors for each in vector.massive}
    said = f"{len(found)} massive dimension{'s' if len(found) > 1 else ''}" if found else "no massive dimension"
    return f"Residual streams of {len(vectors)} models in answers for and against {vectors[0].trait}: {said}"
