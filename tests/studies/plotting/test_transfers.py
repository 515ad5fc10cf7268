"""Figures of transfers: every pair in its row under every control, and support where the report said it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from persona_interp.errors import InvalidInputError
from persona_interp.measure.statistics import Estimate
from persona_interp.studies.plotting.transfers import recovery_figure, support_figure
from persona_interp.studies.transfers import TransferCase, support


def known(value: float | None) -> Estimate:
    return Estimate(value, None if value is None else value - 0.1, None if value is None else value + 0.1, 10)


COVERED = {"norm": 0.9, "effect": 0.8, "signal": 0.5}
CONTROLS = ("random", "shuffled", "equal depth", "wrong trait", "prompt only")
CASE = TransferCase(
    source="organism-a", target="organism-b", trait="silly", native=60.0, source_layer=1, target_layer=2, native_layer=2,
    recoveries={name: known(0.1 * n) for n, name in enumerate(("effects", "ridge", "naive"), 1)},
    controls={name: known(-0.1 * n) for n, name in enumerate(CONTROLS)},
    cosines={}, coverage=COVERED, quality={"correlation": 0.8}, coherence=99.0, verdict="",
    left_out={"recoveries": {"effects": known(0.0), "ridge": known(None)}, "coverage": {**COVERED, "signal": 0.0},
              "quality": {"correlation": 0.8}},
)  # fmt: skip
OTHER = replace(CASE, source="organism-b", target="organism-a", trait="honest")


def test_every_way_and_control_is_drawn_at_its_recovery_in_the_row_of_its_pair() -> None:
    figure = recovery_figure([CASE, OTHER])
    assert list(figure.layout.yaxis.ticktext) == ["a → b", "b → a"]
    shown = {(trace.name, trace.xaxis): (list(trace.x), list(trace.y)) for trace in figure.data}
    assert len(shown) == 16
    assert shown["carried by effects", "x"][0] == [pytest.approx(0.1)]
    assert shown["cut or padded (naive)", "x"][0] == [pytest.approx(0.3)]
    assert shown["prompt only", "x"][0] == [pytest.approx(-0.4)]
    assert all(abs(y - 0) < 0.5 for (_, axis), (_, (y,)) in shown.items() if axis == "x")
    assert all(abs(y - 1) < 0.5 for (_, axis), (_, (y,)) in shown.items() if axis == "x2")
    assert figure.layout.xaxis.range == figure.layout.xaxis2.range


def test_each_series_is_in_the_legend_once() -> None:
    names = [trace.name for trace in recovery_figure([CASE, OTHER]).data if trace.showlegend]
    assert len(names) == len(set(names)) == 8


def test_support_stands_against_recovery_open_where_the_style_was_left_out() -> None:
    drawn = [trace for trace in support_figure([CASE]).data if trace.showlegend is False]
    full, left_out, states, states_left_out = drawn
    assert list(full.x) == [support(CASE, "effects", left_out=False)] == [pytest.approx(0.4)]
    assert list(full.y) == [pytest.approx(0.1)]
    assert list(left_out.x) == [0.0]
    assert left_out.marker.symbol == f"{full.marker.symbol}-open"
    assert list(states.x) == [pytest.approx(0.8)]
    assert list(states_left_out.x) == []


@pytest.mark.parametrize("draw", [recovery_figure, support_figure])
def test_no_case_is_refused(draw: object) -> None:
    with pytest.raises(InvalidInputError, match="no transfer"):
        draw([])  # type: ignore[operator]
