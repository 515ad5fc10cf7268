"""Extraction on tiny random models: what is read, what is filtered, what is kept on disk, and what is never done twice."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from persona_interp.errors import FileFormatError, InvalidInputError, PersonaInterpError, UnknownNameError
from persona_interp.models.residual_print import ResidualPrint, residual_print
from persona_interp.models.sampling import Sampling
from persona_interp.models.steerable import SteerableModel
from persona_interp.residuals.pooling import POOLINGS
from persona_interp.traits.judging import Judgement
from persona_interp.traits.trait import InstructionPair, Trait
from persona_interp.vectors.estimators import ESTIMATORS
from persona_interp.vectors.extract import extract
from persona_interp.vectors.lineage import Lineage
from persona_interp.vectors.persona_vector import PersonaVector
from persona_interp.vectors.rollouts.rollout import Rollout, RolloutKey, read_rollouts

TRAIT = Trait(
    name="silly",
    description="Says silly things.",
    instructions=tuple(InstructionPair(f"Answer in a silly way, {i}.", f"Answer in a formal way, {i}.") for i in range(5)),
    extraction_questions=("What is the moon?", "How do bees make honey?", "Where is the river?", "What is a city?"),
    evaluation_questions=(),
    rubric="{question} {answer}",
)
SHORT = Sampling(max_new_tokens=8)


@pytest.fixture
def model(tiny_model: Callable[[str], SteerableModel]) -> SteerableModel:
    return tiny_model("qwen2")


@dataclass
class EvenJudge:
    """Finds the trait in answers by what it is told about the texts; counts what it was asked."""

    score: Callable[[str, str], Judgement]
    name: str = "even"
    asked: list[tuple[str, str]] = field(default_factory=list)

    def judge(self, trait: Trait, exchanges: Sequence[tuple[str, str]]) -> list[Judgement]:
        self.asked.extend(exchanges)
        return [self.score(question, answer) for question, answer in exchanges]


@dataclass
class Calls:
    generated: list[int] = field(default_factory=list)
    captured: list[int] = field(default_factory=list)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, model: SteerableModel) -> Calls:
    """How many rows each call of the two verbs ran, beside the print of the model, which is taken once for all its vectors."""
    residual_print(model)
    found = Calls()
    generate, capture = SteerableModel.generate, SteerableModel.capture

    def counted_generate(self: SteerableModel, conversations: Any, **options: Any) -> Any:
        found.generated.append(len(conversations))
        return generate(self, conversations, **options)

    def counted_capture(self: SteerableModel, tokenised: Any, graph: Any, **options: Any) -> Any:
        found.captured.append(len(tokenised))
        return capture(self, tokenised, graph, **options)

    monkeypatch.setattr(SteerableModel, "generate", counted_generate)
    monkeypatch.setattr(SteerableModel, "capture", counted_capture)
    return found


def run(model: SteerableModel, **options: Any) -> PersonaVector:
    return extract(model, TRAIT, **({"samples": 1, "sampling": SHORT} | options))


def same(a: PersonaVector, b: PersonaVector) -> bool:
    return torch.equal(a.directions, b.directions) and a.statistics == b.statistics and a.counts == b.counts


# -- what is read ------------------------------------------------------------------------------------------------------


def block_outputs(model: SteerableModel, ids: Sequence[int]) -> torch.Tensor:
    """[layer pos d_model] by plain forward hooks, one text at a time."""
    seen: list[torch.Tensor] = []
    blocks = model.hf_model.get_submodule(model.layout.blocks)
    hooks = [
        block.register_forward_hook(lambda _m, _i, out: seen.append(out if isinstance(out, torch.Tensor) else out[0]))
        for block in blocks
    ]
    try:
        with torch.no_grad():
            model.hf_model(torch.tensor([list(ids)], device=model.device))
    finally:
        for hook in hooks:
            hook.remove()
    return torch.stack([out[0] for out in seen])


def pooled_by_hooks(model: SteerableModel, rollout: Rollout) -> dict[str, torch.Tensor]:
    n_prompt = len(rollout.prompt_ids)
    resid = block_outputs(model, (*rollout.prompt_ids, *rollout.answer_ids[:-1])).double()
    spans = {
        "response_avg": resid[:, n_prompt:],
        "prompt_avg": resid[:, :n_prompt],
        "prompt_last": resid[:, n_prompt - 1 : n_prompt],
    }
    return {name: span.mean(1) for name, span in spans.items()} | {"norm": resid[:, n_prompt:].norm(dim=2).mean(1)}


def test_the_vector_is_the_difference_of_means_read_by_plain_hooks(
    tiny_model: Callable[[str], SteerableModel], architecture: str, tmp_path: Path
) -> None:
    model = tiny_model(architecture)
    vectors = {positions: run(model, positions=positions, folder=tmp_path) for positions in POOLINGS}
    rollouts = {r.key: r for r in read_rollouts(tmp_path / "rollouts.jsonl") if r.readable}
    pairs = [
        (pooled_by_hooks(model, rollout), pooled_by_hooks(model, rollouts[RolloutKey("negative", key.slot)]))
        for key, rollout in rollouts.items()
        if key.sign == "positive" and RolloutKey("negative", key.slot) in rollouts
    ]
    assert len(pairs) == vectors["response_avg"].counts["kept_pairs"] >= 8
    for positions, vector in vectors.items():
        expected = torch.stack([positive[positions] - negative[positions] for positive, negative in pairs]).mean(0)
        torch.testing.assert_close(vector.directions, expected.float(), rtol=1e-3, atol=1e-3)
        assert vector.layers == tuple(range(model.n_layers))
        assert vector.model == model.identity
    norms = torch.stack([side["norm"] for pair in pairs for side in pair]).mean(0)
    assert vectors["response_avg"].listed("resid_norm") == pytest.approx(norms.tolist(), rel=1e-4), "of all answers"
    assert vectors["response_avg"].provenance["resid_norm_answers"] == 2 * len(pairs)


def test_reading_while_generating_equals_reading_the_ids_afterwards(model: SteerableModel, tmp_path: Path, calls: Calls) -> None:
    whole = run(model, folder=tmp_path / "a")
    assert calls.captured == []
    ids = run(model, rollouts=tmp_path / "a" / "rollouts.jsonl", folder=tmp_path / "b")
    assert len(calls.generated) == 1  # those of the first extraction
    torch.testing.assert_close(ids.directions, whole.directions, rtol=1e-4, atol=1e-4)
    assert ids.counts == whole.counts


def test_reading_texts_equals_reading_ids_where_the_tokens_agree(model: SteerableModel, tmp_path: Path) -> None:
    """Random models end few answers; those given as texts end with the end-of-turn token."""
    texts, ids = [], []
    for question in range(6):
        for label, sign in (("positive", "silly"), ("negative", "formal")):
            conversation_texts = {"prompt": f"What is {question}?", "system": f"Be {sign}."}
            answer = f"The {sign} moon is {question}."
            texts.append({**conversation_texts, "response": answer, "label": label})
            (tmp_path / "one.jsonl").write_text(json.dumps(texts[-1]))
            (given,) = read_rollouts(tmp_path / "one.jsonl")
            row = model.chat.tokenise(given.conversation, answer)
            slot = given.key.slot._replace(question=question)
            made = replace(
                given,
                key=given.key._replace(slot=slot),
                prompt_ids=tuple(model.chat.prompt_ids(given.conversation)),
                answer_ids=row.answer_ids,
                model=model.identity.fingerprint,
            )
            ids.append(made.to_json())
    for name, rows in (("texts", texts), ("ids", ids)):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = [run(model, rollouts=tmp_path / f"{name}.jsonl", minimum_pairs=1) for name in ("texts", "ids")]
    assert same(*found)
    assert found[0].norms[0] > 0


def test_batching_does_not_show(model: SteerableModel) -> None:
    torch.testing.assert_close(run(model, batch_size=3).directions, run(model, batch_size=40).directions, rtol=1e-4, atol=1e-4)


def test_the_model_is_asked_for_a_bounded_number_of_rollouts_at_a_time(model: SteerableModel, calls: Calls) -> None:
    assert run(model, samples=4, minimum_pairs=1).counts["rollouts"] == 160
    assert calls.generated == [128, 32]


def test_a_trait_may_be_named_by_its_file(model: SteerableModel, tmp_path: Path) -> None:
    vector = extract(model, TRAIT.save(tmp_path / "silly.json"), samples=1, sampling=SHORT)
    assert same(vector, run(model))


def test_another_seed_gives_other_answers(model: SteerableModel) -> None:
    first = run(model, seed=1)
    assert torch.equal(first.directions, run(model, seed=1).directions)
    assert not torch.allclose(first.directions, run(model, seed=2).directions, atol=1e-2)


# -- what is never done twice --------------------------------------------------------------------------------------------


def test_a_second_estimator_or_position_needs_no_forward_pass(model: SteerableModel, tmp_path: Path, calls: Calls) -> None:
    run(model, folder=tmp_path)
    made = list(calls.generated)
    assert sum(made) == 40
    norms: dict[str, tuple[float, ...]] = {}
    for positions in POOLINGS:
        for estimator in ESTIMATORS:
            vector = run(model, folder=tmp_path, positions=positions, estimator=estimator)
            assert (vector.positions, vector.estimator) == (positions, estimator)
            norms.setdefault(positions, vector.norms)
            assert vector.norms.tolist() == pytest.approx(norms[positions].tolist(), rel=1e-4)  # one dose, whichever estimator
    assert calls.generated == made
    assert calls.captured == []


def test_more_samples_only_add_to_those_there_are(model: SteerableModel, tmp_path: Path, calls: Calls) -> None:
    one = run(model, folder=tmp_path)
    run(model, folder=tmp_path, samples=2)
    assert sum(calls.generated) == 80
    assert same(run(model, folder=tmp_path), one)
    assert sum(calls.generated) == 80


def test_an_interrupted_extraction_keeps_its_work_says_so_and_goes_on(
    model: SteerableModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    generate = SteerableModel.generate

    def interrupted(self: SteerableModel, conversations: Any, *, on_generation: Any, **options: Any) -> Any:
        def keep(index: int, generation: Any) -> None:
            on_generation(index, generation)
            if index == len(conversations) // 2:
                raise KeyboardInterrupt

        return generate(self, conversations, on_generation=keep, **options)

    with monkeypatch.context() as patched:
        patched.setattr(SteerableModel, "generate", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(model, folder=tmp_path / "cut")
    kept = len((tmp_path / "cut" / "rollouts.jsonl").read_text().splitlines())
    said = capsys.readouterr().err
    assert 0 < kept < 40
    assert f"{kept} rollouts are kept in {tmp_path / 'cut'}" in said.replace("\n", " ")
    assert "to go on" in said

    asked: list[int] = []

    def counted(self: SteerableModel, conversations: Any, **options: Any) -> Any:
        asked.append(len(conversations))
        return generate(self, conversations, **options)

    monkeypatch.setattr(SteerableModel, "generate", counted)
    resumed = run(model, folder=tmp_path / "cut")
    assert sum(asked) == 40 - kept
    whole = run(model, folder=tmp_path / "whole")
    torch.testing.assert_close(resumed.directions, whole.directions, rtol=1e-4, atol=1e-4)
    assert resumed.counts == whole.counts


def test_residuals_lost_to_a_crash_are_read_again_from_the_ids(model: SteerableModel, tmp_path: Path, calls: Calls) -> None:
    before = run(model, folder=tmp_path)
    shards = sorted((tmp_path / "residuals").iterdir())
    shards[-1].unlink()
    after = run(model, folder=tmp_path)
    assert 0 < sum(calls.captured) < 40
    assert sum(calls.generated) == 40
    torch.testing.assert_close(after.directions, before.directions, rtol=1e-4, atol=1e-4)


def test_further_questions_are_asked_behind_those_a_folder_was_made_with(
    model: SteerableModel, tmp_path: Path, calls: Calls
) -> None:
    questions = list(TRAIT.extraction_questions)
    first = run(model, folder=tmp_path, questions=questions[:2])
    more = run(model, folder=tmp_path, questions=questions)
    assert calls.generated == [20, 20]
    assert (first.counts["rollouts"], more.counts["rollouts"]) == (20, 40)
    again = run(model, folder=tmp_path, questions=questions[:2])  # and fewer need nothing new
    assert calls.generated == [20, 20]
    assert again.directions.equal(first.directions)
    torch.testing.assert_close(more.directions, run(model, folder=tmp_path / "whole").directions, rtol=1e-4, atol=1e-4)


def test_a_folder_made_with_other_settings_is_refused(model: SteerableModel, tmp_path: Path) -> None:
    run(model, folder=tmp_path)
    for name, options in {
        "seed": {"seed": 5},
        "sampling": {"sampling": Sampling(max_new_tokens=9)},
        "questions": {"questions": ["What?"]},
    }.items():
        with pytest.raises(InvalidInputError, match=rf"other settings \({name}: .*another folder"):
            run(model, folder=tmp_path, minimum_pairs=1, **options)
    changed = replace(TRAIT, instructions=(InstructionPair("Be odd.", "Be plain."), *TRAIT.instructions[1:]))
    with pytest.raises(InvalidInputError, match="instructions"):
        extract(model, changed, samples=1, sampling=SHORT, folder=tmp_path)


def test_without_a_folder_nothing_is_left_behind(model: SteerableModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    run(model)
    assert not list(tmp_path.iterdir())


# -- the judge -----------------------------------------------------------------------------------------------------------


def test_the_vector_is_made_of_the_pairs_the_judge_leaves(model: SteerableModel, tmp_path: Path) -> None:
    run(model, folder=tmp_path / "all")
    answers = {r.answer: r.key.sign for r in read_rollouts(tmp_path / "all" / "rollouts.jsonl")}

    def score(question: str, answer: str) -> Judgement:
        return Judgement(0.0 if "bees" in question else (90.0 if answers[answer] == "positive" else 10.0), 80.0)

    judge = EvenJudge(score)
    filtered = run(model, folder=tmp_path / "all", judge=judge)
    assert filtered.counts["dropped"]["positive answer scored below 50"] == 5
    rest = [r for r in read_rollouts(tmp_path / "all" / "rollouts.jsonl") if "bees" not in r.conversation.question]
    (tmp_path / "rest.jsonl").write_text("\n".join(json.dumps(r.to_json()) for r in rest))
    torch.testing.assert_close(filtered.directions, run(model, rollouts=tmp_path / "rest.jsonl").directions, rtol=1e-4, atol=1e-4)
    assert filtered.provenance["filter"]["judge"] == "even"
    assert filtered.provenance["filter"]["coherence"] == "judged"
    assert all(row["trait_score"] == 90.0 for row in filtered.responses["positive"])
    assert not any("bees" in row["question"] for rows in filtered.responses.values() for row in rows)


def test_a_judge_is_asked_once_about_each_answer(model: SteerableModel, tmp_path: Path, calls: Calls) -> None:
    judge = EvenJudge(lambda _q, _a: Judgement(60.0, 60.0))
    with pytest.raises(PersonaInterpError, match="only 0 of 20 pairs"):
        run(model, folder=tmp_path, judge=judge)
    with pytest.raises(PersonaInterpError, match="only 0 of 20 pairs"):
        run(model, folder=tmp_path, judge=judge)
    assert len(judge.asked) == 40
    other = EvenJudge(lambda _q, _a: Judgement(10.0, 60.0), name="other")
    with pytest.raises(PersonaInterpError):
        run(model, folder=tmp_path, judge=other)
    assert len(other.asked) == 40
    assert sum(calls.generated) == 40


def test_too_few_pairs_say_how_many_fell_and_why_and_where_the_work_is(model: SteerableModel, tmp_path: Path) -> None:
    judge = EvenJudge(lambda q, _a: Judgement(None if "moon" in q else 20.0, 90.0))
    with pytest.raises(PersonaInterpError) as caught:
        run(model, folder=tmp_path, judge=judge)
    message = str(caught.value)
    assert "only 0 of 20 pairs (40 rollouts) were kept by judge 'even', 8 are needed" in message
    assert "15 positive answer scored below 50; 5 no usable trait score" in message
    assert str(tmp_path) in message
    assert "more samples" in message
    assert (tmp_path / "rollouts.jsonl").exists()


def test_a_temporary_folder_is_kept_when_something_goes_wrong(
    model: SteerableModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(PersonaInterpError):
        run(model, minimum_pairs=21)
    (folder,) = tmp_path.iterdir()
    assert str(folder) in capsys.readouterr().err.replace("\n", "")
    assert run(model, folder=folder).counts["kept_pairs"] <= 20


def test_extraction_without_a_judge_says_so(model: SteerableModel, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(model).provenance["filter"] == {"judge": None}
    assert "no judge" in capsys.readouterr().err


def test_scores_given_with_rollouts_filter_them(model: SteerableModel, tmp_path: Path) -> None:
    rows = [
        {"prompt": f"What is {i}?", "response": f"It is {label} {i}.", "label": label, "trait_score": score if i % 2 else 10}
        for i in range(8)
        for label, score in (("positive", 90), ("negative", 10))
    ]
    (tmp_path / "r.jsonl").write_text("\n".join(map(json.dumps, rows)))
    vector = run(model, rollouts=tmp_path / "r.jsonl", minimum_pairs=4)
    assert vector.counts["kept_pairs"] == 4
    assert vector.provenance["filter"]["coherence"] == "not judged, not filtered"
    judge = EvenJudge(lambda _q, answer: Judgement(99.0 if "positive" in answer else 1.0, None))
    assert run(model, rollouts=tmp_path / "r.jsonl", judge=judge).counts["kept_pairs"] == 8


# -- wrong arguments -----------------------------------------------------------------------------------------------------


def test_rollouts_that_cannot_be_used_are_refused(model: SteerableModel, tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match=r"nowhere\.jsonl does not exist"):
        run(model, rollouts=tmp_path / "nowhere.jsonl")
    long = {"prompt": "moon " * 300, "response": "yes", "label": "positive"}
    (tmp_path / "long.jsonl").write_text(json.dumps(long))
    with pytest.raises(InvalidInputError, match=r"positive answer to question 0.* tokens, more than the 256 of tiny-qwen2"):
        run(model, rollouts=tmp_path / "long.jsonl")
    alone = {"prompt": "What is a moon?", "response": "yes", "label": "positive"}
    (tmp_path / "alone.jsonl").write_text(json.dumps(alone))
    with pytest.raises(PersonaInterpError, match="1 no partner of the other sign"):
        run(model, rollouts=tmp_path / "alone.jsonl")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"positions": "answer"}, UnknownNameError, "Known: prompt_avg, prompt_last, response_avg"),
        ({"estimator": "median"}, UnknownNameError, "Known: logistic"),
        ({"samples": 0}, InvalidInputError, "samples is 0"),
        ({"questions": []}, InvalidInputError, "no questions"),
        ({"questions": [" "]}, InvalidInputError, "prompt is empty"),
        ({"minimum_pairs": 0}, InvalidInputError, "minimum_pairs is 0"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_runs(
    model: SteerableModel, tmp_path: Path, calls: Calls, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        run(model, folder=tmp_path / "run", **options)
    assert calls.generated == []
    assert not (tmp_path / "run").exists()


def test_a_folder_that_cannot_be_made_is_an_error_before_anything_runs(
    model: SteerableModel, tmp_path: Path, calls: Calls
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PersonaInterpError, match="cannot write"):
        run(model, folder=tmp_path / "file")
    assert calls.generated == []


def test_a_disk_that_is_full_says_what_was_kept(model: SteerableModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(model, folder=tmp_path)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(PersonaInterpError, match="No space left on device"):
        run(model, folder=tmp_path, samples=2)


# -- what is known about it ----------------------------------------------------------------------------------------------


def test_the_vector_knows_where_it_comes_from(model: SteerableModel, tmp_path: Path) -> None:
    vector = run(model, folder=tmp_path)
    settings = vector.provenance["settings"]
    assert settings["model"] == model.identity.fingerprint
    assert (settings["seed"], settings["samples"], settings["sampling"]) == (0, 1, SHORT.to_json())
    assert settings["questions"] == list(TRAIT.extraction_questions)
    assert vector.provenance["held_out"] == "questions in two halves"
    assert vector.counts["rollouts"] == 40
    assert set(vector.statistics) == {"resid_norm", "positive_norm", "negative_norm", "cohens_d", "auroc", "split_half"}
    again = PersonaVector.load(vector.save(tmp_path / "v.json"))
    assert same(again, vector)
    assert again.provenance == vector.provenance


def test_one_question_alone_has_no_held_out_half(model: SteerableModel) -> None:
    vector = run(model, questions=["What is the moon?"], samples=2)
    assert vector.listed("auroc") == (None,) * model.n_layers
    assert vector.provenance["held_out"].startswith("none")


def test_pairs_named_by_the_user_do_not_put_one_question_into_both_halves(model: SteerableModel, tmp_path: Path) -> None:
    """Each pair has a name of its own, yet all were asked the same thing: nothing is held out, and nothing claimed."""
    rows = [
        {"prompt": "What is the moon?", "response": f"{label} {i} moon", "label": label, "pair": i}
        for i in range(8)
        for label in ("positive", "negative")
    ]
    (tmp_path / "r.jsonl").write_text("\n".join(map(json.dumps, rows)))
    vector = run(model, rollouts=tmp_path / "r.jsonl")
    assert vector.counts["kept_pairs"] == 8
    assert vector.listed("auroc") == (None,) * model.n_layers
    assert vector.provenance["held_out"].startswith("none")


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_steering_with_an_extracted_vector_moves_the_residual_by_it(model: SteerableModel, estimator: str) -> None:
    from persona_interp.interventions.graph import Capture, InterventionGraph
    from persona_interp.traits.conversation import Conversation

    vector = run(model, estimator=estimator)
    row = model.chat.tokenise(Conversation.ask("What is a moon?"), "It is bright.")
    reading = Capture("all", "mean", layers=(2,))
    plain, steered = (
        model.capture([row], graph + InterventionGraph((reading,)))[0][reading][0]
        for graph in (InterventionGraph(), vector.graph(0.5, layers=[2]))
    )
    torch.testing.assert_close(steered - plain, 0.5 * vector.at(2), rtol=1e-3, atol=1e-4)


def test_a_vector_records_what_its_model_is_known_again_by(model: SteerableModel) -> None:
    recorded = Lineage.recorded_in(run(model))
    assert recorded is not None
    assert recorded.residuals is not None
    assert torch.equal(recorded.residuals.values, ResidualPrint.from_json(residual_print(model).to_json()).values)
    assert (recorded.names, recorded.architecture) == (("tiny-qwen2",), "qwen2")
