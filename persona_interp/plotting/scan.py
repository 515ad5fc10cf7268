"""A behavioural scan as a map: layers up the page, doses across it, the trait score and what it cost in coherence."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from persona_interp.measure.bootstrap import QuestionBootstrap, answers_each
from persona_interp.measure.layer_scan import MIN_COHERENCE, LayerScan, coherent
from persona_interp.measure.point import DosePoint
from persona_interp.plotting import hover
from persona_interp.plotting.palette import BLACK, MISSING, SEQUENTIAL, diverging, styled

_NUMBERS_FIT = 13
"""Columns up to which the scores are written into the cells."""
_ROW, _MOST_ROWS = 24, 64
"""Pixels a layer, and layers up to which there is a label for each."""


def scan_figure(scan: LayerScan) -> go.Figure:
    """Trait score and coherence of every layer and coefficient, with numbers, intervals and an answer on hover.

    The column 0 is the unsteered model, the same for every layer. The trait score is white where it is the unsteered model's,
    blue below and vermilion above it, equally strong for equally many points. A cross stands where coherence is below 75, and a
    star at the layer `LayerScan.best_layer` chooses. Cells without a score stay empty.

    Columns are the coefficients. Where each layer has its own, they are perturbation ratios, if those are the same, and else
    steps from the mildest dose to the strongest.
    """
    columns = _columns(scan)
    layers = sorted(scan.layers)
    figure = make_subplots(
        rows=1,
        cols=2,
        shared_yaxes=True,
        horizontal_spacing=0.14,
        subplot_titles=(f"{scan.trait} score (× coherence below {MIN_COHERENCE:g})", "Coherence"),
    )
    cells = [[_cell(scan, columns, layer, key) for key in columns.keys] for layer in layers]
    texts = _Texts(scan)
    on_hover = [[texts.of(layer, point) for point in row] for layer, row in zip(layers, cells, strict=True)]
    middle = 50.0 if scan.baseline.trait is None else scan.baseline.trait
    trait = {"colorscale": diverging(middle / 100), "colorbar": _bar("score<br>(0 to 100)", 0.43)}
    coherence = {"colorscale": SEQUENTIAL, "colorbar": _bar("coherence<br>(0 to 100)", 1.0)}
    fits = len(columns.keys) <= _NUMBERS_FIT
    names = [_name(scan, layer) for layer in layers]
    for place, value, look in ((1, _trait, trait), (2, _coherence, coherence)):
        figure.add_trace(
            go.Heatmap(
                x=list(columns.labels),
                y=names,
                z=[[None if point is None else value(point) for point in row] for row in cells],
                zmin=0,
                zmax=100,
                text=[[_number(point, value, place, fits) for point in row] for row in cells],
                texttemplate="%{text}",
                textfont={"size": 12, "color": BLACK},
                customdata=on_hover,
                hovertemplate="%{customdata}<extra></extra>",
                xgap=1,
                ygap=1,
                **look,
            ),
            row=1,
            col=place,
        )
        figure.update_xaxes(title_text=columns.title, row=1, col=place)
    figure.update_xaxes(type="category", showgrid=False, tickfont={"size": 12}, title_font={"size": 13})
    thinned = names[:: 1 + len(names) // _MOST_ROWS]
    figure.update_yaxes(type="category", showgrid=False, tickvals=thinned, tickfont={"size": 12})
    figure.update_yaxes(title_text="layer (0-based block, its output)", title_font={"size": 13}, row=1, col=1)
    best = f", ★ best layer {scan.best_layer()}" if _moves(scan) else ", no layer moves the score coherently"
    title = f"{scan.trait} in {scan.model}, steered at each layer, judged by {scan.judge}{best}"
    return styled(figure, title, legend="none", height=170 + _ROW * max(8, len(layers)), plot_bgcolor=MISSING)


def _bar(title: str, x: float) -> dict[str, Any]:
    return {"title": {"text": title, "font": {"size": 12}}, "tickfont": {"size": 12}, "thickness": 14, "len": 1.0, "x": x}


@dataclass(frozen=True)
class _Columns:
    """What stands across the page.

    Attributes:
        keys: in order; 0 is the unsteered model.
        labels: one for each.
        title: of the axis.
        key: (coefficients of the layer, point) -> the column it belongs to.
    """

    keys: tuple[float, ...]
    labels: tuple[str, ...]
    title: str
    key: Callable[[Sequence[DosePoint], DosePoint], float]


def _columns(scan: LayerScan) -> _Columns:
    """Coefficients, if the layers share them; else perturbation ratios, if they share those; else steps."""
    most = max(map(len, scan.by_layer.values()))
    choices: Mapping[str, Callable[[Sequence[DosePoint], DosePoint], float | None]] = {
        "coefficient<br>(multiples of the vector; 0 = unsteered)": lambda _, point: point.coefficient,
        "perturbation ratio<br>(signed share of the mean residual norm; 0 = unsteered)": lambda _, point: _signed_ratio(point),
    }
    for title, key in choices.items():
        found = {key(points, point) for points in scan.by_layer.values() for point in points}
        if len(found) <= most and None not in found:
            keys = sorted({0.0, *(value for value in found if value is not None)})
            return _Columns(tuple(keys), tuple(f"{value:+g}" if value else "0" for value in keys), title, key)  # pyright: ignore[reportArgumentType]
    steps = sorted({0.0, *(_step(points, point) for points in scan.by_layer.values() for point in points)})
    labels = tuple(f"{value:+.0f}" if value else "0" for value in steps)
    return _Columns(tuple(steps), labels, "step, mildest to strongest<br>(each layer has its own coefficients)", _step)


def _signed_ratio(point: DosePoint) -> float | None:
    """To three digits, so that what differs by rounding is one dose."""
    if point.perturbation_ratio is None:
        return None
    return float(f"{point.perturbation_ratio if point.coefficient > 0 else -point.perturbation_ratio:.3g}")


def _step(points: Sequence[DosePoint], point: DosePoint) -> float:
    """Which of the layer's doses of that sign it is, 1 the mildest, with the sign."""
    sizes = sorted({abs(each.coefficient) for each in points if each.coefficient * point.coefficient > 0})
    place = 1.0 + sizes.index(abs(point.coefficient))
    return place if point.coefficient > 0 else -place


def _cell(scan: LayerScan, columns: _Columns, layer: int, key: float) -> DosePoint | None:
    points = scan.by_layer[layer]
    return scan.baseline if key == 0 else next((point for point in points if columns.key(points, point) == key), None)


def _trait(point: DosePoint) -> float | None:
    return point.trait


def _coherence(point: DosePoint) -> float | None:
    return point.coherence


def _number(point: DosePoint | None, value: Callable[[DosePoint], float | None], panel: int, fits: bool) -> str:
    """What is written into a cell."""
    found = None if point is None else value(point)
    if point is None or found is None:
        return ""
    cross = "×" if panel == 1 and not coherent(point) else ""
    return f"{found:.0f}{cross}" if fits else cross


def _moves(scan: LayerScan) -> bool:
    return any(scan.movement(layer) > 0 for layer in scan.layers)


def _name(scan: LayerScan, layer: int) -> str:
    return f"★ {layer}" if _moves(scan) and layer == scan.best_layer() else f"{layer}"


class _Texts:
    """What is said of each cell on hover."""

    def __init__(self, scan: LayerScan) -> None:
        self.scan = scan
        n = scan.baseline.n
        samples = answers_each(scan.provenance, n)
        self.bootstrap: Any = QuestionBootstrap(n // samples, samples)

    def of(self, layer: int, point: DosePoint | None) -> str:
        """Numbers with their intervals, and an answer."""
        if point is None:
            return f"layer {layer}: not measured"
        base = self.scan.baseline
        steered = point is not base
        score, coherence = self.bootstrap.mean(point.trait_scores), self.bootstrap.mean(point.coherence_scores)
        change = self.bootstrap.difference(point.trait_scores, base.trait_scores) if steered else None
        return hover.lines(
            f"<b>layer {layer}, coefficient {point.coefficient:+.3g}</b>" if steered else "<b>unsteered</b>",
            hover.push(point) if steered else "",
            f"{self.scan.trait} score {hover.with_interval(score)}",
            f"change {hover.with_interval(change)} points" if change is not None else "",
            f"coherence {hover.with_interval(coherence)}",
            hover.answers(point),
            hover.example(point),
        )
