"""The result of `evaluate`: its summaries on made-up scores, its files, and the words of its verdict and report."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from persona_interp.errors import FileFormatError, InvalidInputError
from persona_interp.measure.evaluation import CoherentRange, Controls, Curve, Evaluation
from persona_interp.measure.point import DosePoint
from persona_interp.measure.report import markdown, shown
from persona_interp.measure.statistics import Estimate
from persona_interp.measure.verdict import strongest, verdict

Response = Callable[[float], float | None]
DOSES = (2.0, -1.0, 0.0, 1.0)


def point(coefficient: float, trait: float | None, coherence: float | None = 95.0, n: int = 20, spread: float = 5.0) -> DosePoint:
    """`n` answers whose scores lie within `spread` of the means given, each question as far from it under every condition."""
    rng = random.Random(7)
    offsets = [rng.uniform(-spread, spread) for _ in range(n)]
    offsets = [offset - sum(offsets) / n for offset in offsets]

    def around(mean: float | None) -> tuple[float | None, ...]:
        return tuple(None if mean is None else min(100.0, max(0.0, mean + offset)) for offset in offsets)

    texts = tuple(f"answer {number} at {coefficient:g} | *bold* <b>" for number in range(min(n, 3)))
    return DosePoint(coefficient, 0.4 * abs(coefficient), around(trait), around(coherence), texts)


def evaluated(
    response: Response,
    *,
    coherence: Response = lambda c: 95.0,
    noise: Sequence[Response] = (lambda c: 21.0, lambda c: 19.0),
    other: Response = lambda c: 20.0,
    elsewhere: Response = lambda c: 90.0,
    doses: Sequence[float] = DOSES,
    n: int = 20,
) -> Evaluation:
    """An evaluation in which a coefficient does what the functions say, the baseline being what `response` gives at 0."""
    steered = [c for c in doses if c != 0]
    baseline = point(0.0, response(0.0), coherence(0.0), n)
    results = tuple(point(c, response(c), coherence(c), n) for c in doses)

    def curve(name: str, of: Response, at: Sequence[float] = tuple(steered)) -> Curve:
        return Curve(name, tuple(point(c, of(c), n=n) for c in at))

    controls = Controls(
        baseline=baseline,
        random=tuple(curve(f"random {number}", of) for number, of in enumerate(noise, start=1)),
        other_vector=curve("honest", other),
        other_trait=curve("honest", elsewhere, (0.0, *steered)),
        prompted=point(0.0, 97.0, n=n),
        prompted_against=point(0.0, 3.0, n=n),
    )
    questions = tuple(f"Question {number}?" for number in range(n))
    return Evaluation(
        "silly", "silly", "tiny", "length", (1, 2), "all", questions, 1, results, controls, {"seed": 0, "created": "now"}
    )


def straight(c: float) -> float:
    return 20 + 15 * c


def test_slope_and_correlations_are_over_all_coefficients_and_the_baseline() -> None:
    found = evaluated(straight)
    assert [each.coefficient for each in found.curve] == [-1, 0, 1, 2]
    assert found.slope.value == pytest.approx(15)
    assert found.slope_per_ratio.value == pytest.approx(15 / 0.4)
    assert found.slope_per_ratio.low == pytest.approx(found.slope.low / 0.4)
    assert (found.spearman.value, found.pearson.value) == (pytest.approx(1), pytest.approx(1))
    assert found.spearman.low == pytest.approx(1)
    without_zero = evaluated(straight, doses=(2.0, -1.0, 1.0))
    assert without_zero.slope == found.slope  # the baseline is a point, asked for or not
    single = evaluated(straight, doses=(2.0,))
    assert (single.slope.value, single.spearman.value) == (pytest.approx(15), None)


def test_changes_are_paired_with_the_baseline() -> None:
    found = evaluated(straight)
    change = found.change(found.at(2.0))
    assert change.value == pytest.approx(30)
    assert change.high - change.low < 1e-9  # every question moved by as much, though questions differ
    assert found.trait_score(found.at(2.0)).high - found.trait_score(found.at(2.0)).low > 1
    with pytest.raises(InvalidInputError, match="coefficient 5 was not measured: there are 2, -1, 0, 1"):
        found.at(5)


def test_the_coherent_range_ends_where_coherence_first_falls() -> None:
    assert evaluated(straight).coherent_range == CoherentRange(-1.0, 2.0)
    drop = {-2.0: 90.0, -1.0: 60.0, 0.0: 95.0, 0.5: 70.0, 1.0: 69.9, 2.0: 95.0}
    found = evaluated(straight, coherence=drop.get, doses=tuple(drop))
    assert found.coherent_range == CoherentRange(0.0, 0.5)  # not -2 nor 2, which lie behind a fall
    assert evaluated(straight, coherence=lambda c: 50.0).coherent_range is None
    unjudged = evaluated(straight, coherence=lambda c: None)
    assert unjudged.coherent_range is None
    assert any("gave no coherence" in note for note in unjudged.notes)


def test_one_question_has_no_interval_and_says_so() -> None:
    found = evaluated(straight, n=1)
    (note,) = found.notes
    assert note.startswith("Only one question was asked")
    data = found.to_json()
    for each in (*data["results"], data["controls"]["baseline"]):
        assert each["trait_score"]["estimate"] is not None
        assert each["trait_score"]["low"] is None
        assert each["trait_score"]["high"] is None
    assert data["slope"]["low"] is None
    assert verdict(found).startswith("Whether this vector steers cannot be told")
    assert any("Only 4 questions" in note for note in evaluated(straight, n=4).notes)
    assert evaluated(straight).notes == ()


def test_a_judge_without_a_usable_number_leaves_values_missing_and_is_named() -> None:
    found = evaluated(lambda c: None, coherence=lambda c: None)
    data = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert all(each["trait_score"] == {"estimate": None, "low": None, "high": None, "n": 0} for each in data["results"])
    assert all(data[name]["estimate"] is None for name in ("slope", "spearman", "pearson"))
    assert any("80 of 80 answers got no trait score from the judge 'length'" in note for note in found.notes)
    assert verdict(found) == "Nothing can be said: the judge 'length' gave the unsteered answers no silly score."
    assert "Nothing can be said" in markdown(found)
    steered_only = evaluated(lambda c: 20.0 if c == 0 else None)
    assert "gave no steered answer a silly score" in verdict(steered_only)


def test_json_has_what_readers_were_promised_and_comes_back_equal() -> None:
    found = evaluated(straight)
    data = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert {"format_version", "model", "trait", "results", "controls", "slope", "spearman", "provenance"} <= set(data)
    for each in data["results"]:
        assert {"coefficient", "trait_score", "coherence", "perturbation_ratio", "examples"} <= set(each)
        assert {"estimate", "low", "high"} <= set(each["trait_score"])
        assert {"estimate", "low", "high"} <= set(each["coherence"])
    assert set(data["controls"]) == {"baseline", "random", "other_vector", "other_trait", "prompt_only"}
    assert data["results"][0]["change"]["estimate"] == pytest.approx(30)
    assert data["coherent_range"] == {"low": -1.0, "high": 2.0, "threshold": 70.0}
    back = Evaluation.from_json(data)
    assert back == found
    assert back.to_json() == data
    assert back.provenance["created"] == "now"


def test_broken_files_are_refused_by_field() -> None:
    data: dict[str, Any] = json.loads(json.dumps(evaluated(straight).to_json()))
    with pytest.raises(FileFormatError, match="e.json: format_version 9 is not 1"):
        Evaluation.from_json(data | {"format_version": 9}, source="e.json")
    with pytest.raises(FileFormatError, match="e.json: field 'controls' is missing"):
        Evaluation.from_json({key: value for key, value in data.items() if key != "controls"}, source="e.json")
    with pytest.raises(FileFormatError, match="field samples is malformed .expected a whole number, found 'two'"):
        Evaluation.from_json(data | {"samples": "two"})
    with pytest.raises(
        FileFormatError, match="20 trait and 20 coherence scores for 20 questions with 2 answers each: expected 40"
    ):
        Evaluation.from_json(data | {"samples": 2})
    found = evaluated(straight)
    without = replace(found.controls, other_trait=Curve("honest", ()))
    with pytest.raises(InvalidInputError, match="no scores of the unsteered answers"):
        replace(found, controls=without)


def test_the_verdict_rests_on_the_strongest_coherent_coefficient_and_on_controls() -> None:
    found = evaluated(straight)
    assert strongest(found) == found.at(2.0)
    said = verdict(found)
    assert said.startswith("This vector steers. Coefficient 2 takes silly from 20 to 50 (+30 [+30, +30] points), coherence 95")
    assert "2 random directions moved it by 1 points at most" in said
    assert "asking for it, without steering, give 97" in said
    cliff = evaluated(straight, coherence=lambda c: 30.0 if c == 2 else 95.0)
    assert strongest(cliff) == cliff.at(1.0)
    nowhere = evaluated(straight, coherence=lambda c: 95.0 if c == 0 else 10.0)
    assert verdict(nowhere) == "No coefficient steered and kept a coherence of 70: try smaller ones."


def test_the_verdict_claims_nothing_that_controls_do_as_well() -> None:
    assert verdict(evaluated(lambda c: 20.0)).startswith("This vector was not shown to steer")
    assert verdict(evaluated(lambda c: 50 - 15 * c)).startswith("This vector steers the wrong way round")
    by_chance = evaluated(straight, noise=(lambda c: 20.0, lambda c: 60.0 if c == -1 else 20.0))
    assert verdict(by_chance).startswith("This vector does no more than a random direction")  # of the other sign, and weaker
    alike = evaluated(straight, other=lambda c: 20 + 16 * c)
    assert verdict(alike).startswith("This vector does no more than one for 'honest'")


def test_numbers_are_shown_with_their_intervals_or_as_missing() -> None:
    assert shown(Estimate(89.4, 80.0, 95.6, 20)) == "89 [80, 96]"
    assert shown(Estimate(0.5, None, None, 1), 2) == "0.50"
    assert shown(Estimate(None, None, None, 0)) == "–"
    assert shown(Estimate(-0.2, -0.4, 0.3, 9)) == "0 [0, 0]"


def test_markdown_holds_every_section_and_shows_texts_as_written() -> None:
    text = markdown(evaluated(straight))
    for heading in ("Verdict", "Dose and response", "Controls", "Over all coefficients", "Examples", "Where this comes from"):
        assert f"\n## {heading}\n" in text
    assert r"answer 0 at 2 \| \*bold\* \<b\>" in text
    assert "| +2 | 0.80 | 50 [" in text
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert all(line.endswith("|") for line in tables)
    unescaped = [line.replace(r"\|", "") for line in tables]
    assert {line.count("|") for line in unescaped} <= {3, 4, 6, 7}
