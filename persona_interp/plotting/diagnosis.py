"""A diagnosis as figures: what every subset of fixes recovers, norms by layer, maps, layers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import plotly.graph_objects as go
import torch

from persona_interp.diagnostics.causes import named
from persona_interp.diagnostics.diagnosis import Diagnosis
from persona_interp.plotting.html import save_html
from persona_interp.plotting.palette import styled
from persona_interp.plotting.similarity import similarity_figure


def diagnosis_figures(found: Diagnosis) -> list[go.Figure]:
    """Recovery of every subset of fixes; norms of the residual streams; held-out R2 of maps; similarity of layers; layer scan."""
    measured = found.measurements
    fixed = {named(causes): (value.value, value.low, value.high) for causes, value in found.recoveries.items()}
    figures = [_bars("Recovery by what is fixed", fixed, "recovery")]
    norms = go.Figure(
        [
            go.Scatter(y=measured["magnitude"][f"resid_norms_{side}"], name=name, mode="lines+markers")
            for side, name in (("source", found.source), ("target", found.target))
        ]
    )
    norms.update_xaxes(title_text="layer (0-based block, its output)", dtick=1)
    norms.update_yaxes(title_text="mean residual norm", type="log")
    figures.append(styled(norms, "Size of the residual streams"))
    maps = {name: (value, None, None) for name, value in measured["basis"]["held_out_r2"].items()}
    figures.append(_bars("How well maps predict held-out states", maps, "held-out R2"))
    layers = measured["layers"]
    figures.append(
        similarity_figure(torch.tensor(layers["similarity"]), found.source, found.target, layers["layer_path"], measure="CKA")
    )
    if found.scan:
        scan = {str(layer): (value.value, value.low, value.high) for layer, value in found.scanned.items()}
        figures.append(_bars("Recovery of the fixed push by layer of the target", scan, "recovery"))
    return figures


def save_diagnosis_report(path: str | Path, found: Diagnosis) -> Path:
    """Write the figures as one page that opens offline, titled with the verdict."""
    title = f"{found.trait}, {found.source} to {found.target}: {found.verdict.name}"
    note = "\n\n".join([found.verdict.reason, *(found.conclusion(cause) for cause in found.measurements)])
    return save_html(path, diagnosis_figures(found), title=title, note=note)


def _bars(title: str, values: Mapping[str, tuple[float | None, float | None, float | None]], unit: str) -> go.Figure:
    centre = [value for value, _, _ in values.values()]
    above = [0.0 if high is None or value is None else high - value for value, _, high in values.values()]
    below = [0.0 if low is None or value is None else value - low for value, low, _ in values.values()]
    figure = go.Figure(
        go.Bar(x=list(values), y=centre, error_y={"type": "data", "symmetric": False, "array": above, "arrayminus": below})
    )
    figure.update_xaxes(type="category")
    figure.update_yaxes(title_text=unit)
    return styled(figure, title, legend="none")
