"""Predicted against actual trait expression: a point a prompt, a colour a condition."""

from __future__ import annotations

import html

import plotly.graph_objects as go

from persona_interp.monitoring.prediction import Prediction
from persona_interp.plotting.palette import colour_and_symbol, styled


def prediction_figure(found: Prediction) -> go.Figure:
    """Mean trait score of each prompt's answers against the projection at its last token; the question on hover.

    Prompts whose answers have no score are left out.
    """
    figure = go.Figure()
    for number, name in enumerate(found.conditions):
        colour, symbol = colour_and_symbol(number)
        chosen = [(p, p.actual) for p in found.prompts if p.condition == name and p.actual is not None]
        figure.add_trace(
            go.Scatter(
                x=[prompt.predicted for prompt, _ in chosen],
                y=[actual for _, actual in chosen],
                name=name,
                mode="markers",
                marker={"color": colour, "symbol": symbol, "size": 9, "opacity": 0.8},
                customdata=[html.escape(prompt.question) for prompt, _ in chosen],
                hovertemplate="%{x:.3g}, score %{y:.0f}<br>%{customdata}",
            )
        )
    figure.update_xaxes(title_text=f"projection onto {found.vector} at the last prompt token (activation units)")
    figure.update_yaxes(title_text=f"{found.trait} score of the answers (0 to 100)", range=[-4, 104])
    title = f"{found.trait} in {found.model.name}, layer {found.layer}<br>r = {found.across} across, {found.within} within"
    return styled(figure, title, legend="beside", height=620)
