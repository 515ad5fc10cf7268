"""Dose and response: paired rows in one batch, honest gaps, and files that come back equal."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from persona_interp.errors import FileFormatError, IncompatibleError, InvalidInputError
from persona_interp.measure.dose import DosePoint, DoseResponse, dose_response
from persona_interp.models.sampling import Sampling
from persona_interp.models.steerable import SteerableModel
from persona_interp.traits.conversation import Conversation
from persona_interp.traits.judging import Judgement
from persona_interp.traits.trait import InstructionPair, Trait
from persona_interp.vectors.persona_vector import PersonaVector

SAMPLING = Sampling(max_new_tokens=8, temperature=1.0)
DOSES = (-4.0, 0.0, 4.0)


class LengthJudge:
    """Scores by the letters of an answer, and refuses those whose number of letters divides by three."""

    name = "length"

    def judge(self, trait: Trait, exchanges: Sequence[tuple[str, str]]) -> list[Judgement]:
        scores = [float(min(100, len(answer))) for _, answer in exchanges]
        return [Judgement(None if score % 3 == 0 else score, score) for score in scores]


@pytest.fixture
def trait() -> Trait:
    return Trait(
        name="silly",
        description="Makes silly remarks.",
        instructions=tuple(InstructionPair(f"Be silly {i}.", f"Be formal {i}.") for i in range(5)),
        extraction_questions=("What is tea?",),
        evaluation_questions=("Tell me about the moon?", "How do bees make honey?"),
        rubric="{question} {answer}",
    )


@pytest.fixture
def model(tiny_model: Callable[[str], SteerableModel]) -> SteerableModel:
    return tiny_model("qwen2")


@pytest.fixture
def vector(model: SteerableModel) -> PersonaVector:
    directions = torch.randn(2, model.d_model, generator=torch.Generator().manual_seed(0))
    return PersonaVector(
        directions=directions / directions.norm(dim=1, keepdim=True),
        layers=(1, 2),
        trait="silly",
        model=model.identity,
        statistics={"resid_norm": (2.0, 8.0)},
    )


def test_each_row_is_what_its_coefficient_gives_alone(model: SteerableModel, vector: PersonaVector, trait: Trait) -> None:
    dose = dose_response(model, vector, trait, DOSES, judge=LengthJudge(), layers="all", sampling=SAMPLING, seed=3, samples=2)
    assert [point.n for point in dose.points] == [4, 4, 4]
    for coefficient in DOSES:
        alone = dose_response(
            model,
            vector,
            trait,
            [coefficient],
            judge=LengthJudge(),
            layers="all",
            sampling=SAMPLING,
            seed=3,
            samples=2,
            batch_size=1,
        )
        assert alone.points[0] == dose.at(coefficient)


def test_zero_leaves_the_model_unsteered_and_other_doses_do_not(
    model: SteerableModel, vector: PersonaVector, trait: Trait
) -> None:
    dose = dose_response(model, vector, trait, DOSES, judge=LengthJudge(), layers="all", sampling=SAMPLING, seed=3)
    plain = model.generate([Conversation.ask(question) for question in trait.evaluation_questions], sampling=SAMPLING, seed=3)
    assert list(dose.at(0).examples) == [generation.text for generation in plain]
    assert dose.at(4).examples != dose.at(0).examples != dose.at(-4).examples


def test_question_and_sample_draw_the_same_stream_at_every_coefficient(
    model: SteerableModel, vector: PersonaVector, trait: Trait, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[dict[str, Any]] = []
    generate = SteerableModel.generate

    def spy(self: SteerableModel, conversations: Sequence[Conversation], **options: Any) -> Any:
        calls.append({"conversations": conversations, **options})
        return generate(self, conversations, **options)

    monkeypatch.setattr(SteerableModel, "generate", spy)
    dose_response(
        model, vector, trait, DOSES, judge=LengthJudge(), layers="all", sampling=SAMPLING, samples=2, system="Be brief."
    )
    (call,) = calls  # one batched generation for everything
    assert call["seed"] == call["seed"][:4] * 3
    assert len(set(call["seed"])) == 4
    assert [conversation.system for conversation in call["conversations"]] == ["Be brief."] * 12
    written = {(write.coefficient, write.rows) for write in call["graph"].writes}
    assert written == {(-4.0, (0, 1, 2, 3)), (4.0, (8, 9, 10, 11))}


def test_layers_positions_and_ratio_are_recorded(model: SteerableModel, vector: PersonaVector, trait: Trait) -> None:
    both = dose_response(model, vector, trait, [-3], judge=LengthJudge(), layers="all", sampling=SAMPLING)
    assert both.layers == (1, 2)
    assert both.points[0].perturbation_ratio == pytest.approx(3 * (1 / 2 + 1 / 8) / 2)
    late = dose_response(
        model, vector, trait, [2.0], layers=[2], positions="response", questions=["bees?"], judge=LengthJudge(), sampling=SAMPLING
    )
    assert (late.layers, late.positions, late.points[0].n) == ((2,), "response", 1)
    assert late.points[0].perturbation_ratio == pytest.approx(2 / 8)
    assert late.provenance["questions"] == ["bees?"]
    assert late.provenance["sampling"]["max_new_tokens"] == 8


def test_answers_without_a_score_are_counted_and_in_no_mean() -> None:
    point = DosePoint(1.0, None, (None, 40.0, None, 80.0), (None, None, None, 50.0))
    assert (point.n, point.n_without_score, point.trait, point.coherence) == (4, 2, 60.0, 50.0)
    empty = DosePoint(1.0, None, (None,), (None,))
    assert empty.trait is None
    assert empty.coherence is None


def a_dose(*scores: float | None) -> DoseResponse:
    points = tuple(DosePoint(float(place), 0.1 * place, (score,), (99.0,), ("Héllo\n",)) for place, score in enumerate(scores))
    return DoseResponse("silly", "silly", "tiny", "length", (1, 2), "all", points, {"seed": 0})


def test_spearman_ranks_means_against_coefficients() -> None:
    assert a_dose(0.0, 1.0, 50.0, 51.0).spearman == pytest.approx(1.0)
    assert a_dose(3.0, 2.0, 1.0).spearman == pytest.approx(-1.0)
    assert a_dose(1.0, None, 2.0, 3.0).spearman == pytest.approx(1.0)
    assert a_dose(1.0, None, 2.0).spearman is None  # two points are no trend
    assert a_dose(1.0, 1.0, 1.0).spearman is None


def test_json_round_trip_is_exact_and_readable_by_others() -> None:
    dose = a_dose(1.0, None, 1 / 3)
    data = json.loads(json.dumps(dose.to_json(), allow_nan=False))
    assert DoseResponse.from_json(data) == dose
    assert data["points"][1]["trait"] is None
    assert data["points"][1]["n_without_score"] == 1
    assert data["points"][0]["trait"] == 1.0


def test_broken_files_are_refused_by_field() -> None:
    data = json.loads(json.dumps(a_dose(1.0).to_json()))
    with pytest.raises(FileFormatError, match="result.json: field 'judge' is missing"):
        DoseResponse.from_json({key: value for key, value in data.items() if key != "judge"}, source="result.json")
    with pytest.raises(FileFormatError, match="format_version 9 is not 1"):
        DoseResponse.from_json(data | {"format_version": 9})
    with pytest.raises(FileFormatError, match=r"field points\[0\].trait_scores\[0\] is malformed .expected a number"):
        DoseResponse.from_json(data | {"points": [data["points"][0] | {"trait_scores": ["many"]}]})


def test_bad_requests_are_refused_before_anything_runs(model: SteerableModel, vector: PersonaVector, trait: Trait) -> None:
    for coefficients in ([], [1.0, 1.0], [float("nan")], [float("inf")]):
        with pytest.raises(InvalidInputError, match="give at least one, finite, each once"):
            dose_response(model, vector, trait, coefficients, judge=LengthJudge(), layers="all")
    with pytest.raises(InvalidInputError, match="samples is 0"):
        dose_response(model, vector, trait, [1.0], judge=LengthJudge(), layers="all", samples=0)
    with pytest.raises(InvalidInputError, match=r"no evaluation questions: pass questions"):
        dose_response(model, vector, trait, [1.0], judge=LengthJudge(), layers="all", questions=[])
    with pytest.raises(InvalidInputError, match="has no layer 0"):
        dose_response(model, vector, trait, [0.0], judge=LengthJudge(), layers=[0])
    with pytest.raises(InvalidInputError, match="coefficient 2 was not measured: there are 0, 1"):
        a_dose(1.0, 2.0).at(2)


def test_vector_of_another_model_is_refused(
    tiny_model: Callable[[str], SteerableModel], vector: PersonaVector, trait: Trait
) -> None:
    with pytest.raises(IncompatibleError, match="tiny-qwen2.*tiny-mistral"):
        dose_response(tiny_model("mistral"), vector, trait, [1.0], judge=LengthJudge(), layers="all")


def test_without_layers_it_is_the_recorded_best_one_and_ratios_are_taken(
    model: SteerableModel, vector: PersonaVector, trait: Trait
) -> None:
    with pytest.raises(InvalidInputError, match="records no best layer"):
        dose_response(model, vector, trait, [1.0], judge=LengthJudge())
    scored = replace(vector, statistics={**vector.statistics, "effectiveness": (0.1, 0.3)})
    found = dose_response(model, scored, trait, ratios=[-0.5, 0.5], judge=LengthJudge(), sampling=SAMPLING)
    assert found.layers == (2,)
    assert [point.perturbation_ratio for point in found.points] == pytest.approx([0.5, 0.5])
    assert found.coefficients == pytest.approx((-4.0, 4.0)), "a direction of norm 1 beside residuals of norm 8"
    with pytest.raises(InvalidInputError, match="give coefficients"):
        dose_response(model, scored, trait, judge=LengthJudge())
