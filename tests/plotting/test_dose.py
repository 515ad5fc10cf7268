"""The dose figure draws what was measured, leaves gaps where nothing was, and escapes what a model said."""

from __future__ import annotations

from persona_interp.evaluation.dose import DosePoint, DoseResponse
from persona_interp.plotting.dose import dose_figure


def a_dose(*points: DosePoint) -> DoseResponse:
    return DoseResponse("silly", "silly", "tiny", "grammar", (2, 3), "all", points)


def test_points_are_drawn_in_the_order_of_their_coefficients() -> None:
    figure = dose_figure(
        a_dose(
            DosePoint(1.0, 0.5, (80.0, 100.0), (70.0, None), ("<b>boing</b>",)),
            DosePoint(-1.0, 0.5, (0.0, 10.0), (90.0, 100.0), ("Indeed.",)),
        )
    )
    trait, coherence = figure.data
    assert list(trait.x) == [-1.0, 1.0]
    assert list(trait.y) == [5.0, 90.0]
    assert list(coherence.y) == [95.0, 70.0]
    assert trait.error_y.array[0] == 1.96 * 5.0  # two answers 10 apart: standard error 5
    assert trait.error_y.arrayminus[0] == 5.0  # and no mean below 0
    assert coherence.error_y.array[1] is None  # one score has no spread
    assert "&lt;b&gt;boing" in trait.customdata[1]
    assert "2 answers, 0 without a score<br>0.50 of the mean residual norm" in trait.customdata[1]


def test_a_coefficient_without_scores_is_a_gap() -> None:
    figure = dose_figure(a_dose(DosePoint(0.0, None, (None,), (None,)), DosePoint(1.0, None, (50.0,), (60.0,))))
    assert list(figure.data[0].y) == [None, 50.0]
    assert figure.data[0].connectgaps is False
    assert "norm" not in figure.data[0].customdata[0]


def test_axes_and_title_say_what_is_shown() -> None:
    figure = dose_figure(a_dose(DosePoint(1.0, 0.5, (80.0,), (70.0,))))
    assert figure.layout.xaxis.title.text.startswith("coefficient (multiples of the vector")
    assert figure.layout.yaxis.title.text == "score (0 to 100)"
    assert figure.layout.title.text == "silly vector added to tiny at layer 2, 3, judged by grammar"
    assert figure.data[0].line.color != figure.data[1].line.color
    assert figure.data[0].line.dash != figure.data[1].line.dash
