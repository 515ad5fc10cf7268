"""Diagnoses as figures: what every subset of fixes recovers, what each contributes, and the measurements of each cause."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import plotly.graph_objects as go
import torch

from persona_interp.measure.diagnostics.causes import CAUSES, named, subsets
from persona_interp.measure.diagnostics.diagnosis import Diagnosis
from persona_interp.measure.diagnostics.verdict import THRESHOLD
from persona_interp.measure.statistics import Estimate
from persona_interp.plotting.html import save_html
from persona_interp.plotting.intervals import interval_bars
from persona_interp.plotting.palette import (
    BLACK,
    BLUE,
    COLOURS,
    GREEN,
    GREY,
    PALE,
    SEQUENTIAL,
    SYMBOLS,
    VERMILION,
    log_axis,
    styled,
)
from persona_interp.plotting.similarity import similarity_figure

_LAYER = "layer (0-based block, its output)"


def diagnosis_figures(found: Diagnosis) -> list[go.Figure]:
    """Recovery of every subset of fixes, contributions, norms, perturbation ratios, maps, angles, layers and their scan.

    Figures of measurements that are not there are left out: a file of one hypothesis has one cause's.
    """
    return [_recovery_figure(found), *_attribution(found), *_magnitude(found), *_basis(found), *_layers(found)]


def diagnoses_figure(found: Mapping[str, Diagnosis]) -> go.Figure:
    """Recovery of every subset of fixes, a row for each diagnosis: which columns are dark tells the causes apart.

    Args:
        found: what a row is called -> its diagnosis; the verdict is written beside it.
    """
    columns = [named(fixed).replace("+", "<br>+ ") for fixed in subsets()]
    rows = [f"{name}<br><b>{each.verdict.name}</b>" for name, each in found.items()]
    cells = [[each.recoveries[fixed] for fixed in subsets()] for each in found.values()]
    figure = go.Figure(
        go.Heatmap(
            x=columns,
            y=rows,
            z=[[cell.value for cell in row] for row in cells],
            text=[["–" if cell.value is None else f"{cell.value:.2f}" for cell in row] for row in cells],
            texttemplate="%{text}",
            textfont={"color": BLACK},
            customdata=[[str(cell) for cell in row] for row in cells],
            hovertemplate="%{y}<br>fixed: %{x}<br>recovery %{customdata}<extra></extra>",
            colorscale=SEQUENTIAL,
            zmin=0,
            zmax=1,
            xgap=2,
            ygap=2,
            colorbar={"title": {"text": "recovery"}},
        )
    )
    figure.update_xaxes(title_text="what is fixed", tickangle=0)
    figure.update_yaxes(autorange="reversed", automargin=True)
    return styled(figure, "Recovery by what is fixed; beneath each name the verdict", legend="none", height=210 + 62 * len(rows))


def save_diagnosis_report(path: str | Path, found: Diagnosis) -> Path:
    """Write the figures as one page that opens offline, titled with the verdict."""
    title = f"{found.trait}, {found.source} to {found.target}: {found.verdict.name}"
    note = "\n\n".join([f"Verdict: {found.verdict.reason}.", *(f"{found.conclusion(cause)}." for cause in found.measurements)])
    return save_html(path, diagnosis_figures(found), title=title, note=note)


def _recovery_figure(found: Diagnosis) -> go.Figure:
    values = {named(fixed).replace("+", "<br>+ "): value for fixed, value in found.recoveries.items()}
    if found.recovery_by_states is not None:
        values["all, basis<br>by states"] = found.recovery_by_states
    figure = _bars("Recovery by what is fixed", list(values), list(values.values()), "recovery")
    figure.update_xaxes(title_text="fixed", tickangle=0)
    return _with_threshold(figure)


def _attribution(found: Diagnosis) -> Iterator[go.Figure]:
    if found.attribution is not None:
        values = [Estimate(found.attribution[cause], None, None, 0) for cause in CAUSES]
        yield _bars("What each fix adds to the recovery (Shapley values)", list(CAUSES), values, "recovery added")


def _magnitude(found: Diagnosis) -> Iterator[go.Figure]:
    measured = found.measurements.get("magnitude")
    if measured is None:
        return
    norms = {found.source: measured["resid_norms_source"], found.target: measured["resid_norms_target"]}
    yield _lines("Size of the residual streams", norms, "mean residual norm")
    ratios = {
        f"{found.source}'s vector at home": measured["source_perturbation_ratio_by_layer"],
        f"as it is, in {found.target}": measured["unfixed_perturbation_ratio_by_layer"],
        f"{found.target}'s own vector": measured["native_perturbation_ratio_by_layer"],
    }
    yield _lines("Perturbation ratio at coefficient 1", ratios, "|v| / mean residual norm")


def _basis(found: Diagnosis) -> Iterator[go.Figure]:
    measured = found.measurements.get("basis")
    if measured is None:
        return
    maps = {name: Estimate(value, None, None, 0) for name, value in measured["held_out_r2"].items()}
    figure = _bars("How well maps of states predict held-out ones", list(maps), list(maps.values()), "held-out R2")
    yield figure.update_xaxes(title_text="kind of map")
    angles = measured["principal_angles_degrees"]
    names = {"before": "entry by entry", "after": "after the rotation"}
    figure = _lines("Principal angles between the leading axes of both", {names[key]: angles[key] for key in names}, "degrees")
    figure.update_xaxes(title_text="angle, from the smallest")
    yield figure.update_yaxes(type="linear", range=[-3, 93], tickformat=None, dtick=15)


def _layers(found: Diagnosis) -> Iterator[go.Figure]:
    measured = found.measurements.get("layers")
    if measured is None:
        return
    yield similarity_figure(
        torch.tensor(measured["similarity"]), found.source, found.target, measured["layer_path"], measure="CKA"
    )
    if found.scan:
        scanned = found.scanned
        colour = {measured["same_index"]: VERMILION, measured["matched_layer"]: BLUE}
        figure = _bars(
            "Recovery of the fixed push by layer of the target (blue: the layer that corresponds, vermilion: the unfixed one)",
            [str(layer) for layer in scanned],
            list(scanned.values()),
            "recovery",
            [colour.get(layer, PALE) for layer in scanned],
        )
        figure.update_xaxes(title_text=f"layer of {found.target} (0-based block, its output)")
        yield _with_threshold(figure)


def _bars(title: str, names: Sequence[str], values: Sequence[Estimate], unit: str, colours: Sequence[str] = ()) -> go.Figure:
    """Bars with their intervals, where they have any, and their numbers above."""
    centre = [value.value for value in values]
    error = None
    if any(value.low is not None for value in values):
        error = interval_bars(values, color=GREY)
    figure = go.Figure(
        go.Bar(
            x=list(names),
            y=centre,
            error_y=error,
            marker_color=list(colours) or BLUE,
            customdata=[str(value) for value in values],
            hovertemplate="%{x}<br>%{customdata}<extra></extra>",
            text=None if error else [str(value) for value in values],
        )
    )
    figure.update_xaxes(type="category")
    figure.update_yaxes(title_text=unit)
    return styled(figure, title, legend="none")


def _with_threshold(figure: go.Figure) -> go.Figure:
    """A line where a transfer counts as failed."""
    figure.add_hline(y=THRESHOLD, line_dash="dot", line_color=GREY)
    return figure.add_hline(y=1, line_color=GREEN, line_width=1)


def _lines(title: str, curves: Mapping[str, Sequence[float | None]], unit: str) -> go.Figure:
    figure = go.Figure(
        [
            go.Scatter(
                y=list(values), name=name, mode="lines+markers", line_color=COLOURS[number], marker={"symbol": SYMBOLS[number]}
            )
            for number, (name, values) in enumerate(curves.items())
        ]
    )
    figure.update_xaxes(title_text=_LAYER, dtick=1)
    figure.update_yaxes(title_text=unit, **log_axis(value for values in curves.values() for value in values))
    return styled(figure, title)
