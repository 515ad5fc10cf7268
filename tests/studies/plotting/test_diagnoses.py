"""What fixes add is drawn from nothing fixed to everything fixed, and verdicts stand against what was planted."""

from __future__ import annotations

import pytest

from persona_interp.errors import InvalidInputError
from persona_interp.measure.diagnostics.causes import CAUSES, named, subsets
from persona_interp.measure.statistics import Estimate
from persona_interp.studies.diagnoses.pairs_bench import PairCase
from persona_interp.studies.plotting.diagnoses import confusion_figure, contributions_figure


def case(adds: dict[str, float], naive: float = 0.1, by_states: float | None = 0.2) -> PairCase:
    full = naive + sum(adds.values())
    recoveries = {named(fixed): Estimate(None, None, None, 0) for fixed in subsets()}
    recoveries["none"] = Estimate(naive, naive - 0.1, naive + 0.1, 5)
    recoveries[named(CAUSES)] = Estimate(full, full - 0.1, full + 0.1, 5)
    return PairCase(
        "organism-a", "organism-b", "silly", "basis", "because", dict.fromkeys(CAUSES, "present"), adds, recoveries, {},
        None if by_states is None else Estimate(by_states, None, None, 5), {},
    )  # fmt: skip


def bars(figure: object) -> list[tuple[float, float]]:
    return [(trace.base[0], trace.base[0] + trace.x[0]) for trace in figure.data if trace.type == "bar"]  # type: ignore[attr-defined]


def test_bars_follow_each_other_from_nothing_fixed_to_everything_fixed() -> None:
    figure = contributions_figure([case({"magnitude": 0.2, "basis": 0.5, "layers": 0.3})])
    assert bars(figure) == [(pytest.approx(a), pytest.approx(b)) for a, b in ((0.1, 0.3), (0.3, 0.8), (0.8, 1.1))]
    marks = {trace.name: list(trace.x) for trace in figure.data if trace.type == "scatter"}
    assert marks == {
        "nothing fixed": [0.1], "all three fixed": [pytest.approx(1.1)], "all three, basis by states": [0.2],
    }  # fmt: skip


def test_what_a_fix_takes_away_goes_to_the_left_of_nothing_fixed() -> None:
    magnitude, basis, layers = bars(contributions_figure([case({"magnitude": -0.3, "basis": 0.9, "layers": -0.1})]))
    assert magnitude == (pytest.approx(0.1), pytest.approx(-0.2))
    assert basis == (pytest.approx(0.1), pytest.approx(1.0))
    assert layers == (pytest.approx(-0.2), pytest.approx(-0.3))


def test_a_case_without_a_map_of_states_has_no_diamond() -> None:
    figure = contributions_figure([case(dict.fromkeys(CAUSES, 0.1), by_states=None)])
    (diamond,) = [trace for trace in figure.data if trace.name == "all three, basis by states"]
    assert list(diamond.x) == []


def test_verdicts_stand_where_they_fell_and_others_get_a_column() -> None:
    figure = confusion_figure({"none": {"none": 3}, "basis": {"basis": 2, "inconclusive": 1}})
    (cells,) = figure.data
    verdicts, planted = list(cells.x), list(cells.y)
    assert "5 of 6 are exact" in figure.layout.title.text
    assert cells.z[planted.index("basis")][verdicts.index("inconclusive")] == 1
    assert cells.z[planted.index("basis")][verdicts.index("basis")] == 2
    assert sum(value or 0 for row in cells.z for value in row) == 6


def test_nothing_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="no diagnosis"):
        contributions_figure([])
    with pytest.raises(InvalidInputError, match="no twin"):
        confusion_figure({})
