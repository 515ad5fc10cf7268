"""The figure of modulation: every mode among its placebos, a panel a trait."""

from __future__ import annotations

from typing import Any

from persona_interp.evaluation.statistics import Estimate
from persona_interp.plotting import modulation_figure
from persona_interp.reproduction.modulation import Modulated


def mode(name: str, share: float, trait: str = "silly", model: str = "one", *, placebo: bool = False) -> Modulated:
    estimate = Estimate(share, share - 0.1, share + 0.2, 8)
    return Modulated(name, placebo, trait, model, 10.0, 20.0, 80.0, Estimate(70.0, 60.0, 80.0, 8), estimate, 88.0)


def test_placebos_are_told_from_what_they_are_beside() -> None:
    found = [mode("control vector", 1.0), mode("logit bias", 1.1), mode("logit bias, shuffled vector", 0.1, placebo=True)]
    figure: Any = modulation_figure(found)
    assert list(figure.layout.yaxis.ticktext) == ["control vector", "logit bias", "logit bias, shuffled vector (placebo)"]
    assert [(trace.x[0], trace.y[0]) for trace in figure.data] == [(1.0, 0.0), (1.1, 1.0), (0.1, 2.0)]
    assert len({(trace.marker.color, trace.marker.symbol) for trace in figure.data}) == 3
    assert "silly score 10 to 80<br>moves 70.0 [60.0, 80.0] points<br>lowest coherence 88" in figure.data[0].customdata[0]


def test_models_share_a_row_and_traits_have_panels() -> None:
    found = [mode("logit bias", 1.0), mode("logit bias", 1.2, model="two"), mode("logit bias", 0.0, "honest")]
    figure: Any = modulation_figure(found)
    first, second, other = figure.data
    assert 0 < second.y[0] - first.y[0] < 1
    assert abs(first.y[0] + second.y[0]) < 1e-9, "around the middle of their row"
    assert other.xaxis == "x2"
    assert [note.text for note in figure.layout.annotations[:2]] == ["silly", "honest"]
