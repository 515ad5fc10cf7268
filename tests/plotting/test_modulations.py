"""Every mode has its row, every model its marker, and placebos are told apart from what could work."""

from __future__ import annotations

import pytest

from persona_interp.errors import InvalidInputError
from persona_interp.measure.modulation import Modulated
from persona_interp.measure.statistics import Estimate
from persona_interp.plotting.modulations import modulation_figure
from persona_interp.plotting.palette import BLUE, GREY, VERMILION


def mode(name: str, share: float, model: str = "organism-a", trait: str = "silly", placebo: bool = False) -> Modulated:
    estimate = Estimate(share, share - 0.1, share + 0.1, 20)
    return Modulated(name, placebo, trait, model, 0.0, 10.0, 90.0, estimate, estimate, 97.0)


FOUND = [
    mode("control vector", 1.0), mode("prompt only", 1.1), mode("logit bias", 0.3),
    mode("logit bias, shuffled", 0.2, placebo=True), mode("logit bias", 0.4, "organism-b"),
]  # fmt: skip


def test_shares_stand_in_the_rows_of_their_modes_in_the_colour_of_what_they_are() -> None:
    drawn = [trace for trace in modulation_figure(FOUND).data if trace.showlegend is False and trace.x]
    assert [trace.x[0] for trace in drawn] == [1.0, 1.1, 0.3, 0.2, 0.4]
    assert [round(trace.y[0]) for trace in drawn] == [0, 1, 2, 3, 2]
    assert [trace.marker.color for trace in drawn] == [BLUE, VERMILION, BLUE, GREY, BLUE]
    assert drawn[2].marker.symbol != drawn[4].marker.symbol
    assert "placebo" in drawn[3].customdata[0]
    assert "score 0 → 10 → 90" in drawn[0].customdata[0]


def test_rows_of_placebos_say_so() -> None:
    names = modulation_figure(FOUND).layout.yaxis.ticktext
    assert [name for name in names if "placebo" in name] == ["logit bias, shuffled<br><i>placebo</i>"]


def test_nothing_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="no mode"):
        modulation_figure([])
