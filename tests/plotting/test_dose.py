"""The dose figure draws what was measured, leaves gaps where nothing was, and escapes what a model said."""

from __future__ import annotations

from dataclasses import replace

from persona_interp.measure.dose import DosePoint, DoseResponse
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
    assert (trait.error_y.array[0], trait.error_y.arrayminus[0]) == (
        5.0,
        5.0,
    )  # two questions, of which either may be drawn twice
    assert coherence.error_y.array[1] is None  # one score has no spread
    assert "&lt;b&gt;boing" in trait.customdata[1]
    assert "2 answers, 0 without a score<br>0.50 of the mean residual norm" in trait.customdata[1]


def test_bars_are_over_questions_and_not_over_their_samples() -> None:
    scores = tuple(float(score) for score in range(0, 100, 10) for _ in range(4))
    point = DosePoint(1.0, 0.5, scores, (90.0,) * 40)
    often, once = a_dose(point), a_dose(DosePoint(1.0, 0.5, scores[::4], (90.0,) * 10))
    asked = replace(often, provenance={"samples": 4})
    reach = [dose_figure(dose).data[0].error_y.array[0] for dose in (once, asked, often)]
    assert reach[1] == reach[0], "four equal answers to each question say no more than one"
    assert reach[2] < 0.7 * reach[1]
    assert dose_figure(a_dose(DosePoint(1.0, 0.5, (50.0,), (90.0,)))).data[0].error_y.array[0] is None


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
