"""`evaluate`: paired rows in one batch, controls that are what they say, work that is kept, and refusals before anything runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from persona_interp.errors import IncompatibleError, InvalidInputError, UnknownNameError
from persona_interp.measure.controls import matched, random_like
from persona_interp.measure.evaluate import evaluate
from persona_interp.measure.evaluation import Evaluation
from persona_interp.measure.protocol import Asked, Protocol
from persona_interp.measure.verdict import strongest
from persona_interp.models.registry import load_model
from persona_interp.models.sampling import Sampling
from persona_interp.models.steerable import SteerableModel
from persona_interp.organisms.trait_texts import organism_trait
from persona_interp.traits.conversation import Conversation
from persona_interp.traits.judging import Judgement
from persona_interp.traits.trait import InstructionPair, Trait
from persona_interp.vectors.extract import extract
from persona_interp.vectors.persona_vector import PersonaVector

SAMPLING = Sampling(max_new_tokens=6)
DOSES = (-3.0, 0.0, 3.0)


class LengthJudge:
    """Scores by the letters of an answer, and has none for those whose number of letters divides by three."""

    name = "length"

    def __init__(self) -> None:
        self.judged: list[tuple[str, str, str]] = []

    def judge(self, trait: Trait, exchanges: Sequence[tuple[str, str]]) -> list[Judgement]:
        self.judged += [(trait.name, *exchange) for exchange in exchanges]
        scores = [float(min(100, len(answer))) for _, answer in exchanges]
        return [Judgement(None if score % 3 == 0 else score, score) for score in scores]


def a_trait(name: str, n_evaluation: int = 3) -> Trait:
    return Trait(
        name=name,
        description="Makes remarks.",
        instructions=tuple(InstructionPair(f"Be {name} {i}.", f"Do not be {name} {i}.") for i in range(5)),
        extraction_questions=("What is tea?", "What is a city?"),
        evaluation_questions=tuple(f"Tell me about the moon, part {n}?" for n in range(n_evaluation)),
        rubric="{question} {answer}",
    )


@pytest.fixture
def model(tiny_model: Callable[[str], SteerableModel]) -> SteerableModel:
    return tiny_model("qwen2")


@pytest.fixture
def vector(model: SteerableModel) -> PersonaVector:
    directions = torch.randn(2, model.d_model, generator=torch.Generator().manual_seed(0))
    return PersonaVector(directions, (1, 2), "silly", model.identity, statistics={"resid_norm": (20.0, 80.0)})


@pytest.fixture
def other(model: SteerableModel) -> PersonaVector:
    directions = 9 * torch.randn(3, model.d_model, generator=torch.Generator().manual_seed(1))
    return PersonaVector(directions, (0, 1, 2), "polite", model.identity)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Every call of `generate`: what it was given, and how many rows."""
    made: list[dict[str, Any]] = []
    generate = SteerableModel.generate

    def spy(self: SteerableModel, conversations: Sequence[Conversation], **options: Any) -> Any:
        made.append({"conversations": list(conversations), **options})
        return generate(self, conversations, **options)

    monkeypatch.setattr(SteerableModel, "generate", spy)
    return made


def rows(calls: Sequence[dict[str, Any]]) -> int:
    return sum(len(call["conversations"]) for call in calls)


@pytest.fixture
def run(model: SteerableModel, vector: PersonaVector, other: PersonaVector) -> Callable[..., Evaluation]:
    def call(coefficients: Sequence[float] = DOSES, num_prompts: int | None = None, **options: Any) -> Evaluation:
        given = {"trait": a_trait("silly"), "judge": LengthJudge(), "other": other, "n_random": 2, "sampling": SAMPLING} | options
        given = {"layers": "all"} | given
        trait = given.pop("trait")
        return evaluate(model, given.pop("vector", vector), trait, coefficients, num_prompts, **given)

    return call


def test_everything_runs_as_one_batch_in_which_conditions_share_their_random_streams(run: Callable, calls: list) -> None:
    found = run(samples=2, layers=[2], positions="response")
    (call,) = calls
    # baseline and 0 are the same rows; two prompts, two doses of the vector, of the other one and of two random ones
    assert rows(calls) == 6 * (1 + 2 + 2 + 2 + 2 * 2)
    by_question: dict[str, set[int]] = {}
    for conversation, seed in zip(call["conversations"], call["seed"], strict=True):
        by_question.setdefault(conversation.question, set()).add(seed)
    assert [len(seeds) for seeds in by_question.values()] == [2, 2, 2]  # one a sample, the same in every condition
    assert {write.layer for write in call["graph"].writes} == {2}
    assert {write.positions for write in call["graph"].writes} == {"response"}
    written = sorted(row for write in call["graph"].writes for row in write.rows)
    assert len(written) == len(set(written)) == 6 * 8
    assert found.layers == (2,)
    assert found.samples == 2


def test_each_condition_is_what_it_gives_alone(run: Callable, model: SteerableModel, vector: PersonaVector) -> None:
    found, alone = run(seed=5), run([3.0], seed=5, batch_size=1)
    assert alone.at(3.0) == found.at(3.0)
    assert found.at(0.0) == found.controls.baseline
    assert found.at(3.0).examples != found.controls.baseline.examples != found.at(-3.0).examples
    more = run(seed=5, samples=2)
    assert more.at(3.0).trait_scores[::2] == found.at(3.0).trait_scores  # more samples change none of the answers there are
    assert more.at(3.0).examples == found.at(3.0).examples  # one for each of three questions
    fewer = run(num_prompts=2, seed=5)
    assert fewer.at(-3.0).trait_scores == found.at(-3.0).trait_scores[:2]
    assert run(seed=6).controls.baseline.examples != found.controls.baseline.examples


def test_perturbation_is_the_same_for_the_vector_and_its_controls(run: Callable, vector: PersonaVector) -> None:
    found = run()
    expected = 3 * (vector.norms[0] / 20 + vector.norms[1] / 80) / 2
    for point in (found.at(3.0), found.at(-3.0), found.controls.random[1].at(3.0), found.controls.other_vector.at(-3.0)):
        assert point.perturbation_ratio == pytest.approx(expected)
    assert found.controls.baseline.perturbation_ratio == 0


def test_random_directions_have_the_norms_and_angles_of_the_vector(vector: PersonaVector) -> None:
    drawn = [random_like(vector, number, seed=0) for number in (1, 2)]
    gram = vector.directions @ vector.directions.T
    for each in drawn:
        assert torch.allclose(each.directions @ each.directions.T, gram, atol=1e-4)
        assert each.layers == vector.layers
        assert abs(float(torch.cosine_similarity(each.at(1), vector.at(1), dim=0))) < 0.7
    assert not torch.allclose(drawn[0].directions, drawn[1].directions)
    assert torch.equal(random_like(vector, 1, seed=0).directions, drawn[0].directions)
    assert not torch.allclose(random_like(vector, 1, seed=9).directions, drawn[0].directions)


def test_another_traits_vector_is_brought_to_the_same_norms(vector: PersonaVector, other: PersonaVector) -> None:
    found = matched(other, vector, a_trait("silly"))
    assert found.layers == (1, 2)
    assert found.norms == pytest.approx(vector.norms)
    assert float(torch.cosine_similarity(found.at(2), other.at(2), dim=0)) == pytest.approx(1, abs=1e-6)


def test_prompted_answers_are_unsteered_and_under_the_traits_own_prompts_in_turn(run: Callable, calls: list) -> None:
    run(samples=2)
    (call,) = calls
    steered = {row for write in call["graph"].writes for row in write.rows}
    systems = [(row, c.system) for row, c in enumerate(call["conversations"]) if c.system is not None]
    assert not steered & {row for row, _ in systems}
    assert [system for _, system in systems][:6] == [f"Be silly {n}." for n in (0, 1, 1, 2, 2, 3)]
    assert [system for _, system in systems][6:] == [f"Do not be silly {n}." for n in (0, 1, 1, 2, 2, 3)]


def test_another_trait_is_scored_in_the_same_answers(run: Callable) -> None:
    judge = LengthJudge()
    found = run(judge=judge, other_trait=a_trait("polite"))
    assert found.controls.other_trait.name == "polite"
    assert [point.coefficient for point in found.controls.other_trait.points] == [0, -3, 3]
    assert found.controls.other_trait.at(3.0).trait_scores == found.at(3.0).trait_scores  # this judge knows no trait from another
    polite = {(question, answer) for trait, question, answer in judge.judged if trait == "polite"}
    silly = {(question, answer) for trait, question, answer in judge.judged if trait == "silly"}
    assert polite < silly


def test_what_the_other_trait_is_where_none_is_named(run: Callable, model: SteerableModel, calls: list) -> None:
    assert run().controls.other_trait.name == "honest"  # the library has no "polite"
    about_truth = run(trait=a_trait("hallucinating"))
    assert about_truth.controls.other_trait.name == "optimistic"  # nor is it "silly", which the vector is of
    calls.clear()
    made = run(other=None, other_trait=a_trait("polite"))
    assert made.controls.other_vector.name == made.controls.other_trait.name == "polite"
    assert rows(calls[:-1]) == 20  # a small extraction: both signs of five prompts, over two questions
    assert [point.coefficient for point in made.controls.other_vector.points] == [-3, 3]


def test_scores_a_judge_did_not_give_are_missing_and_counted(run: Callable) -> None:
    class Mute:
        name = "mute"

        def judge(self, trait: Trait, exchanges: Sequence[tuple[str, str]]) -> list[Judgement]:
            return [Judgement(None, None) for _ in exchanges]

    found = run(judge=Mute())
    assert found.at(3.0).n_without_score == 3
    assert found.to_json()["results"][0]["trait_score"]["estimate"] is None
    assert found.slope.value is None

    class Short(LengthJudge):
        name = "short"

        def judge(self, trait: Trait, exchanges: Sequence[tuple[str, str]]) -> list[Judgement]:
            return super().judge(trait, exchanges)[1:]

    with pytest.raises(InvalidInputError, match="the judge 'short' gave .* judgements for .* answers"):
        run(judge=Short())


# -- kept work -------------------------------------------------------------------------------------------------------


def test_what_is_kept_is_neither_generated_nor_judged_again(run: Callable, calls: list, tmp_path: Path) -> None:
    judge = LengthJudge()
    options: dict[str, Any] = {"judge": judge, "other": None, "other_trait": a_trait("polite")}
    first = run(folder=tmp_path, **options)
    done, judged = rows(calls), len(judge.judged)
    again = run(folder=tmp_path, **options)
    assert again == first
    assert (rows(calls), len(judge.judged)) == (done, judged)
    assert again.provenance["made_now"] == {"generated": 0, "judged": 0}
    assert run(**options) == first  # and what was kept is what would be made
    calls.clear()
    wider = run((*DOSES, 1.0), folder=tmp_path, **options)
    assert rows(calls) == 3 * 4  # the vector, the other one and two random ones at one more coefficient
    assert wider.at(3.0) == first.at(3.0)


@pytest.mark.parametrize(
    ("changed", "remade"),
    [
        ({"seed": 1}, 3 * 11),
        ({"sampling": Sampling(max_new_tokens=5)}, 3 * 11),
        ({"layers": [2]}, 3 * 8),
        ({"positions": "response"}, 3 * 8),
        ({"n_random": 3}, 3 * 2),
        ({"samples": 2}, 3 * 11),
        ({"trait": a_trait("silly", 4)}, 11),
    ],
)
def test_work_done_with_other_settings_is_not_mixed_in(
    run: Callable, calls: list, tmp_path: Path, changed: dict[str, Any], remade: int
) -> None:
    run(folder=tmp_path)
    calls.clear()
    found = run(folder=tmp_path, **changed)
    assert rows(calls) == remade
    assert found == run(**changed)


def test_answers_of_another_vector_or_model_are_not_taken(
    run: Callable, calls: list, tmp_path: Path, vector: PersonaVector, tiny_model: Callable[[str], SteerableModel]
) -> None:
    run(folder=tmp_path)
    calls.clear()
    run(folder=tmp_path, vector=vector * 1.001)
    assert rows(calls) == 3 * 8
    calls.clear()
    llama = tiny_model("llama")
    own = PersonaVector(vector.directions, (1, 2), "silly", llama.identity)
    foreign = PersonaVector(-vector.directions, (1, 2), "polite", llama.identity)
    options = {"judge": LengthJudge(), "other": foreign, "n_random": 2, "sampling": SAMPLING, "folder": tmp_path, "layers": "all"}
    evaluate(llama, own, a_trait("silly"), DOSES, **options)
    assert rows(calls) == 3 * 11


def test_a_judge_that_fails_half_way_is_asked_only_for_the_rest(run: Callable, calls: list, tmp_path: Path) -> None:
    class Failing(LengthJudge):
        def judge(self, trait: Trait, exchanges: Sequence[tuple[str, str]]) -> list[Judgement]:
            if len(self.judged) >= 32:
                raise InvalidInputError("the endpoint is down")
            return super().judge(trait, exchanges)

    failing, sound = Failing(), LengthJudge()
    with pytest.raises(InvalidInputError, match="the endpoint is down"):
        run(folder=tmp_path, judge=failing, samples=3)
    assert len(failing.judged) == 32
    done = rows(calls)
    run(folder=tmp_path, judge=sound, samples=3)
    assert rows(calls) == done
    assert not set(failing.judged) & set(sound.judged)


def test_an_interrupted_evaluation_says_where_its_work_is(
    run: Callable, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Impatient(LengthJudge):
        def judge(self, trait: Trait, exchanges: Sequence[tuple[str, str]]) -> list[Judgement]:
            if exchanges:
                raise KeyboardInterrupt
            return []

    with pytest.raises(KeyboardInterrupt):
        run(judge=Impatient())
    said = "".join(capsys.readouterr().err.split("\n"))
    assert "interrupted: 33 answers are kept in" in said
    folder = Path(said.split("folder='")[1].split("'")[0])
    lines = [json.loads(line) for line in (folder / "answers.jsonl").read_text().splitlines()]
    assert {line["arm"] for line in lines} == {
        "baseline", "silly", "polite", "prompted", "prompted against", "random 1", "random 2"
    }  # fmt: skip
    assert run(folder=folder).provenance["made_now"]["generated"] == 0


# -- refusals --------------------------------------------------------------------------------------------------------


def test_bad_requests_are_refused_before_anything_runs(
    run: Callable, calls: list, other: PersonaVector, vector: PersonaVector, tiny_model: Callable[[str], SteerableModel]
) -> None:
    for coefficients in ([], [1.0, 1.0], [float("nan")], [float("inf"), 1.0]):
        with pytest.raises(InvalidInputError, match="give at least one, finite, each once"):
            run(coefficients)
    with pytest.raises(InvalidInputError, match="with 0 alone nothing is steered"):
        run([0.0])
    with pytest.raises(InvalidInputError, match="samples is 0"):
        run(samples=0)
    with pytest.raises(InvalidInputError, match="n_random is 0"):
        run(n_random=0)
    with pytest.raises(InvalidInputError, match="'silly' has no evaluation questions: .* n_extraction"):
        run(trait=a_trait("silly", 0))
    with pytest.raises(InvalidInputError, match="num_prompts is 0"):
        run(num_prompts=0)
    with pytest.raises(InvalidInputError, match="given twice"):
        run(questions=["Hi?", "Hi?"])
    with pytest.raises(InvalidInputError, match="has no layer 0"):
        run(layers=[0])
    with pytest.raises(InvalidInputError, match="the other vector is of trait 'silly' too"):
        run(other=vector)
    with pytest.raises(InvalidInputError, match=r"'polite' of tiny-qwen2 has no layer 2"):
        run(other=other.select([0, 1]))
    with pytest.raises(InvalidInputError, match="the other trait is 'silly' too"):
        run(other_trait=a_trait("silly"))
    with pytest.raises(UnknownNameError, match="grammar judge 'sullen'"):
        run(trait=a_trait("sullen"), judge="grammar")
    mistral = tiny_model("mistral")
    with pytest.raises(IncompatibleError, match="tiny-qwen2.*tiny-mistral"):
        evaluate(mistral, vector, a_trait("silly"), DOSES, judge=LengthJudge(), other=other, layers="all")
    assert calls == []


# -- truth -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_on_the_organism_steering_shows_and_the_numbers_are_the_grammars() -> None:
    """Directions of effects only: how far they go is in the organism's card."""
    model, trait = load_model("organism-qwen2"), organism_trait("silly")
    options: dict[str, Any] = {"judge": None, "samples": 1, "questions": trait.extraction_questions[:6]}
    vector = extract(model, trait, sampling=Sampling(max_new_tokens=40), **options)
    found = evaluate(model, vector, "silly", [-0.5, 0.5, 1.0], 10, layers=[3], n_random=2, sampling=Sampling(max_new_tokens=64))
    assert found.judge == "grammar"
    assert found.questions == trait.evaluation_questions[:10]
    best = strongest(found)  # coherent, so there is a range
    assert best.coefficient > 0
    assert found.change(best).low > 0
    assert found.slope.value > 0
    prompted = found.change(found.controls.prompted)
    assert prompted.low > 0
    assert found.controls.prompted_against.trait <= found.controls.baseline.trait
    assert found.controls.other_vector.name == "honest"
    assert found.controls.other_trait.name == "honest"


def test_more_prompts_than_questions_are_further_samples_and_said_to_be(
    model: SteerableModel, capsys: pytest.CaptureFixture[str]
) -> None:
    def asked(num_prompts: int) -> Asked:
        return Protocol(num_prompts=num_prompts, samples=2, judge=LengthJudge()).asked(model, a_trait("silly"))

    assert asked(7).questions == a_trait("silly").evaluation_questions[:3]
    assert asked(7).samples == 6, "three questions: seven prompts are three rounds of them, of two samples each"
    assert "3 questions for 'silly', and 7 prompts" in capsys.readouterr().err
    assert (asked(3).samples, len(asked(2).questions)) == (2, 2)
    assert capsys.readouterr().err == ""
