"""How well each layer steers, by one method or several."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from persona_interp.errors import InvalidInputError
from persona_interp.measure.effectiveness import METHODS, LayerEffectiveness, LayerScore
from persona_interp.measure.statistics import Estimate
from persona_interp.plotting import hover
from persona_interp.plotting.intervals import interval_bars
from persona_interp.plotting.palette import BLUE, GREY, VERMILION, styled, wrapped_title

UNITS: dict[str, str] = {
    "sweep": "movement<br>(points of score)",
    "screened-likelihood": "share of the<br>instructions' effect",
    "likelihood": "log likelihood gained<br>(nats a token)",
    "gradient": "slope at 0<br>(nats a token and<br>perturbation ratio)",
    "lens": "contrast<br>(nats)",
    "geometry": "AUROC (0 to 1), and<br>norm ratio / 100",
}
"""What each method's axis counts in."""
_HEADING_WIDTH = 130
"""Characters in a line above a panel."""


def effectiveness_figure(found: LayerEffectiveness | Sequence[LayerEffectiveness]) -> go.Figure:
    """The score of every layer with its 95 % interval, a panel a method, each in its own unit; a star marks the best layer.

    Every axis includes 0, so that small differences look small. Layers without a score leave a gap. The dose a score was reached
    at, what it cost in coherence, and the usable coefficients are on hover.

    Raises:
        InvalidInputError: nothing was given, or results of several models or traits, whose layers cannot be compared.
    """
    listed = [found] if isinstance(found, LayerEffectiveness) else list(found)
    whose = {(each.trait, each.model) for each in listed}
    if len(whose) != 1:
        names = ", ".join(sorted(f"{trait} in {model}" for trait, model in whose)) or "nothing"
        raise InvalidInputError(f"one figure shows layers of one trait in one model, and was given {names}: draw one figure each")
    ((trait, model),) = whose
    figure = make_subplots(
        rows=len(listed),
        cols=1,
        shared_xaxes=True,
        vertical_spacing=0.3 / max(3, len(listed)),
        subplot_titles=[_heading(each) for each in listed],
    )
    figure.update_annotations(font_size=13)
    for row, each in enumerate(listed, start=1):
        _panel(figure, row, each)
        figure.update_yaxes(title_text=UNITS[each.method], title_font={"size": 12}, rangemode="tozero", row=row, col=1)
    layers = sorted({layer for each in listed for layer in each.layers})
    figure.update_xaxes(dtick=max(1, len(layers) // 16), range=[layers[0] - 0.6, layers[-1] + 0.6], zeroline=False)
    figure.update_xaxes(title_text="layer (0-based block, its output)", row=len(listed), col=1)
    title = f"How well each layer of {model} steers {trait} (★ best)"
    return styled(figure, title, legend="none", height=170 + 230 * len(listed))


def _scored(found: LayerEffectiveness) -> bool:
    return any(value is not None for value in found.values)


def _heading(found: LayerEffectiveness) -> str:
    best = f"best: layer {found.best().layer}" if _scored(found) else "no layer has a score"
    return wrapped_title(f"{METHODS[found.method]} ({best})", _HEADING_WIDTH)


def _panel(figure: go.Figure, row: int, found: LayerEffectiveness) -> None:
    scores = sorted(found.scores, key=lambda score: score.layer)
    dash, colour = ("dot", GREY) if found.method == "geometry" else ("solid", BLUE)
    figure.add_trace(
        go.Scatter(
            x=[score.layer for score in scores],
            y=[score.score for score in scores],
            name=found.method,
            mode="lines+markers",
            line={"color": colour, "dash": dash},
            marker={"size": 8},
            error_y=interval_bars([_alone(score) for score in scores]),
            connectgaps=False,
            customdata=[_text(score) for score in scores],
            hovertemplate="%{customdata}<extra></extra>",
        ),
        row=row,
        col=1,
    )
    if any(score.held_out is not None for score in scores):
        figure.add_trace(
            go.Scatter(
                x=[score.layer for score in scores],
                y=[score.held_out for score in scores],
                name=f"{found.method}, held out",
                mode="markers",
                marker={"symbol": "diamond-open", "size": 9, "color": colour},
                error_y=interval_bars([score.reported for score in scores]),
                customdata=[_text(score) for score in scores],
                hovertemplate="%{customdata}<extra></extra>",
            ),
            row=row,
            col=1,
        )
    if not _scored(found):
        return
    best = found.best()
    figure.add_trace(
        go.Scatter(
            x=[best.layer],
            y=[best.score],
            name=f"best layer by {found.method}",
            mode="markers",
            marker={"symbol": "star", "size": 17, "color": VERMILION},
            customdata=[f"<b>best</b><br>{_text(best)}"],
            hovertemplate="%{customdata}<extra></extra>",
            cliponaxis=False,
        ),
        row=row,
        col=1,
    )


def _text(score: LayerScore) -> str:
    """Everything known of one layer."""
    at = "" if score.coefficient is None else f"at coefficient {score.coefficient:+.3g}"
    if score.perturbation_ratio is not None:
        at += f" ({score.perturbation_ratio:.2f} of the mean residual norm)"
    held_out = "" if score.held_out is None else f"on other questions {hover.with_interval(score.reported, 3)}"
    cost = "" if score.coherence_cost is None else f"costs {score.coherence_cost:.1f} points of coherence"
    usable = "" if score.usable is None else f"coherent from {score.usable[0]:.3g} to {score.usable[1]:.3g}, as far as tried"
    return hover.lines(
        f"<b>layer {score.layer}</b>", f"score {hover.with_interval(_alone(score), 3)}", held_out, at.strip(), cost, usable
    )


def _alone(score: LayerScore) -> Estimate:
    """The score with its interval, which is that of the held-out one where a dose was picked."""
    return score.reported if score.held_out is None else Estimate(score.score, None, None, 0)
