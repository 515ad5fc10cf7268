"""The figure of an evaluation draws its scores, its intervals and all of its controls, and says where nothing was scored."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from persona_interp.errors import InvalidInputError
from persona_interp.measure.evaluation import Controls, Curve, Evaluation
from persona_interp.measure.point import DosePoint
from persona_interp.plotting.evaluation import evaluation_figure
from persona_interp.plotting.evaluation_report import save_report

QUESTIONS = ("A?", "B?", "C?")


def point(
    coefficient: float,
    *scores: float | None,
    coherence: tuple[float | None, ...] = (90.0, 95.0, 100.0),
    text: str = "<b>boing</b>",
) -> DosePoint:
    return DosePoint(coefficient, abs(coefficient) / 4, scores, coherence, (text,))


def an_evaluation(*, at_one: tuple[float | None, ...] = (70.0, 80.0, 90.0), **fields: Any) -> Evaluation:
    low = (40.0, 50.0, 60.0)
    controls = Controls(
        baseline=point(0.0, 20.0, 30.0, 10.0),
        random=(
            Curve("random 1", (point(1.0, 21.0, 31.0, 11.0), point(-1.0, 22.0, 32.0, 12.0))),
            Curve("random 2", (point(1.0, 23.0, 33.0, 13.0), point(-1.0, 24.0, 34.0, 14.0))),
        ),
        other_vector=Curve("honest", (point(1.0, 18.0, 28.0, 8.0), point(-1.0, 16.0, 26.0, 6.0))),
        other_trait=Curve("honest", (point(0.0, 90.0, 91.0, 92.0), point(1.0, 80.0, 81.0, 82.0), point(-1.0, 85.0, 86.0, 87.0))),
        prompted=point(0.0, 96.0, 97.0, 98.0),
        prompted_against=point(0.0, 2.0, 3.0, 4.0),
    )
    results = (point(1.0, *at_one), point(-1.0, 5.0, 6.0, 7.0, coherence=low))
    given: dict[str, Any] = {"questions": QUESTIONS, "samples": 1, "results": results, "controls": controls} | fields
    return Evaluation("silly", "clown", "tiny", "grammar", (3,), "all", **given)


def rows(figure: Any, name: str) -> list[Any]:
    """The traces of one name, from the panel at the top downwards."""
    order = ("y", "y2", "y3")
    return sorted((trace for trace in figure.data if trace.name == name), key=lambda trace: order.index(trace.yaxis or "y"))


def test_the_steered_model_is_drawn_with_its_intervals_in_all_panels() -> None:
    evaluation = an_evaluation()
    score, coherence, other = rows(evaluation_figure(evaluation), "clown vector")
    assert list(score.x) == [-1.0, 0.0, 1.0]
    assert list(score.y) == pytest.approx([6.0, 20.0, 80.0])
    assert list(coherence.y) == pytest.approx([50.0, 95.0, 95.0])
    assert list(other.y) == pytest.approx([86.0, 91.0, 81.0])
    estimate = evaluation.trait_score(evaluation.at(1.0))
    assert estimate.high is not None
    assert estimate.low is not None
    assert score.error_y.array[2] == pytest.approx(estimate.high - 80.0)
    assert score.error_y.arrayminus[2] == pytest.approx(80.0 - estimate.low)


def test_every_control_is_there() -> None:
    figure = evaluation_figure(an_evaluation())
    random = [trace for trace in rows(figure, "2 random directions") if (trace.yaxis or "y") == "y"]
    assert [list(trace.y) for trace in random] == [[22.0, 20.0, 21.0], [24.0, 20.0, 23.0]]
    assert [trace.showlegend for trace in random] == [True, False]
    assert list(rows(figure, "honest vector")[0].y) == pytest.approx([16.0, 20.0, 18.0])
    assert list(rows(figure, "prompted for it")[0].y) == [97.0, 97.0]
    assert list(rows(figure, "prompted against it")[0].y) == [3.0, 3.0]
    assert [list(trace.y) for trace in rows(figure, "unsteered")] == [[20.0] * 2, [95.0] * 2, [91.0] * 2]
    dashes = {trace.line.dash for trace in figure.data if trace.name in ("unsteered", "prompted for it", "prompted against it")}
    assert len(dashes) == 3


def test_what_was_not_scored_is_a_gap_in_the_line() -> None:
    score = rows(evaluation_figure(an_evaluation(at_one=(None, None, None))), "clown vector")[0]
    assert list(score.y) == [6.0, 20.0, None]
    assert score.error_y.array[2] is None
    assert score.connectgaps is False
    assert "silly score –" in score.customdata[2]


def test_without_intervals_there_are_no_bars() -> None:
    one = an_evaluation()

    def first(each: DosePoint) -> DosePoint:
        return DosePoint(each.coefficient, None, each.trait_scores[:1], each.coherence_scores[:1], each.examples)

    def curve(each: Curve) -> Curve:
        return Curve(each.name, tuple(map(first, each.points)))

    c = one.controls
    controls = Controls(
        first(c.baseline), tuple(map(curve, c.random)), curve(c.other_vector), curve(c.other_trait), first(c.prompted),
        first(c.prompted_against),
    )  # fmt: skip
    small = an_evaluation(questions=("A?",), results=tuple(map(first, one.results)), controls=controls)
    figure = evaluation_figure(small)
    assert set(rows(figure, "clown vector")[0].error_y.array) == {None}
    assert "residual" not in figure.layout.xaxis3.title.text


def test_hover_gives_numbers_intervals_push_and_an_escaped_example() -> None:
    evaluation = an_evaluation()
    text = rows(evaluation_figure(evaluation), "clown vector")[0].customdata[2]
    estimate = evaluation.trait_score(evaluation.at(1.0))
    assert f"silly score 80.0 [{estimate.low:.1f}, {estimate.high:.1f}]" in text
    assert "0.25 of the mean residual norm" in text
    assert "change 60.0 [50.0, 80.0] points" in text
    assert "&lt;b&gt;boing&lt;/b&gt;" in text


def test_the_coefficients_that_stay_coherent_are_shaded_and_axes_have_units() -> None:
    figure = evaluation_figure(an_evaluation())
    shaded = [shape for shape in figure.layout.shapes if shape.type == "rect"]
    assert [(shape.x0, shape.x1, shape.yref) for shape in shaded] == [(0.0, 1.0, "y2 domain")]
    assert "1 = 0.25 of the mean residual norm" in figure.layout.xaxis3.title.text
    titles = [axis.title.text for axis in figure.select_yaxes()]
    assert titles == ["silly score<br>(0 to 100)", "coherence<br>(0 to 100)", "honest score<br>(0 to 100)"]


def test_the_report_holds_the_figure_and_needs_no_network(tmp_path: Path) -> None:
    text = save_report(tmp_path / "report.html", an_evaluation()).read_text(encoding="utf-8")
    assert text.count('id="figure-0"') == 1
    assert "<script src=" not in text


def test_several_evaluations_stand_beside_each_other_with_one_legend() -> None:
    evaluation = an_evaluation()
    figure = evaluation_figure([evaluation, an_evaluation(at_one=(10.0, 20.0, 30.0))], specificity=False)
    scores = [trace for trace in figure.data if trace.name == "the trait's vector" and trace.yaxis in ("y", "y2")]
    assert [list(trace.y)[-1] for trace in scores] == pytest.approx([80.0, 20.0])
    assert {trace.yaxis for trace in figure.data} == {"y", "y2", "y3", "y4"}
    names = [trace.name for trace in figure.data if trace.showlegend]
    assert len(names) == len(set(names)) == 6


def test_evaluations_of_two_models_do_not_share_a_figure() -> None:
    other = replace(an_evaluation(), model="other")
    with pytest.raises(InvalidInputError, match="given tiny, other"):
        evaluation_figure([an_evaluation(), other])
    with pytest.raises(InvalidInputError, match="given none"):
        evaluation_figure([])
