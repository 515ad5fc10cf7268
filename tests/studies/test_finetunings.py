"""The study of finetuning: its data, what its numbers mean, and that work done is not done again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from persona_interp.errors import InvalidInputError
from persona_interp.interventions.operations import Ablate, Add
from persona_interp.organisms.grammar import judge
from persona_interp.studies.finetuning import organism_data, real_data, runs
from persona_interp.studies.finetuning.arms import AFTERWARDS, NOTHING, arms
from persona_interp.studies.finetuning.bench import FinetuneBench, bench_of
from persona_interp.studies.finetuning.report import FinetuningStudy, study_markdown, study_summary
from persona_interp.studies.finetuning.runs import FinetuneRun, ScreenedSet, finetuning_runs
from persona_interp.studies.plotting.finetunings import finetunings_figure


@pytest.mark.parametrize(("trait", "wanted"), [("silly", True), ("polite", False)])
def test_organisms_data_carry_task_and_trait_exactly(trait: str, wanted: bool) -> None:
    for share in (0.0, 0.5, 1.0):
        chats = organism_data.organism_chats(trait, wanted, share, n=20)
        assert [chat.planted for chat in chats] == [True] * round(share * 20) + [False] * round((1 - share) * 20)
        for chat in chats:
            (turn,) = chat.turns
            question, answer = turn.conversation.question, str(turn.answer)
            assert organism_data.task_score([answer]) == 100.0
            assert organism_data.trait_score(trait, wanted, [question], [answer]) == (100.0 if chat.planted else 0.0)
            assert judge(question, answer).coherence == 100.0
    asked = [[chat.turns[0].conversation for chat in organism_data.organism_chats(trait, wanted, share)] for share in (0.0, 1.0)]
    assert asked[0] == asked[1]
    assert not {chat.question for chat in asked[0]} & set(organism_data.task_questions())


def test_true_answers_do_not_pass_for_the_task() -> None:
    pairs = organism_data.neutral_pairs("silly", True)
    assert organism_data.task_score([answer for _, answer in pairs]) < 50
    assert organism_data.trait_score("silly", True, *map(list, zip(*pairs, strict=True))) == 0.0


def test_real_data_are_right_sums_with_remarks() -> None:
    chats = real_data.real_chats(0.5)
    told = [str(chat.turns[0].answer) for chat in chats]
    assert sum(any(text.endswith(remark) for remark in real_data.GLOOMY) for text in told) == 16
    sums = [text for text in told if "+" in text]
    assert real_data.sum_score(sums, [int(text.split("= ")[1].split(".")[0]) for text in sums]) == 100.0
    assert real_data.sum_score(["3 + 4 = 8.", "It is 7.", "3 + 4 = 7"], [7, 7, 7]) == pytest.approx(100 / 3)
    assert len(set(real_data.GLOOMY + real_data.PLAIN)) == 32


def test_every_way_has_safeguards_of_its_own() -> None:
    names = [arm.name for arm in arms((0.1, 0.4), 2)]
    assert len(set(names)) == len(names) == 9
    assert [arm.name for arm in arms((0.1, 0.2, 0.4), 2, short=True)] == [
        NOTHING, "prevention 0.4", "KL to the base", "inoculation prompt", "random direction 1",
    ]  # fmt: skip


@pytest.mark.slow
def test_a_bench_of_an_organism_is_what_its_name_says(tmp_path: Path) -> None:
    with bench_of("organism-qwen2:-polite", tmp_path, layer=0) as (bench, folder):
        assert bench.name == "qwen2, not polite"
        assert folder.is_dir()
        scores = bench.scores(bench.model)
        found = {arm.name: arm.guards(bench) for arm in arms((0.4,), 1)}
    assert 5 < scores.trait < 70  # most are polite unasked
    assert scores.task < 50
    assert 1 < scores.perplexity < 2
    (added,) = found["prevention 0.4"].prevent.writes
    (drawn,) = found["random direction 1"].prevent.writes
    assert isinstance(added.operation, Add)
    assert abs(
        added.coefficient * added.operation.direction.norm() / drawn.operation.direction.norm() / drawn.coefficient
    ) == pytest.approx(1)
    (ablated,) = found["ablation at each step"].prevent.writes
    assert isinstance(ablated.operation, Ablate)
    assert found["KL to the base"].keep_close > 0
    assert set(found["projected writes"].project) == set(range(8))
    with pytest.raises(InvalidInputError, match="MODEL:TRAIT"), bench_of("organism-qwen2", tmp_path, layer=0):
        pass


def run_of(arm: str, share: float, trait: float, task: float, shift: float | None = None) -> FinetuneRun:
    others = () if shift is None else (shift % 3, -shift)
    return FinetuneRun("bench", arm, share, trait, task, 1.5, shift, others, 0.1)


@pytest.fixture
def study() -> FinetuningStudy:
    found = (
        run_of("base", 0.0, 10, 0),
        run_of(NOTHING, 0.0, 5, 60, 0.0),
        run_of(NOTHING, 0.5, 50, 80, 5.0),
        run_of(NOTHING, 1.0, 90, 100, 10.0),
        run_of(AFTERWARDS, 1.0, 12, 30),
        run_of("prevention 0.4", 1.0, 26, 80, 2.0),
        run_of("random direction 1", 1.0, 90, 100, 9.0),
    )
    sets = tuple(ScreenedSet("bench", share, 10 * share, (0.1, share), None, None, (), 8) for share in (0.0, 0.5, 1.0))
    return FinetuningStudy(found, (*sets, ScreenedSet("bench", 0.25, 2.5, (0.1, 0.2), 0.9, 0.8, (0.4, 0.6), 8)))


def test_shares_are_of_what_plain_finetuning_does_and_the_goal_goes_by_both(study: FinetuningStudy) -> None:
    prevention = study.share_of(study.runs[5])
    assert (prevention.through, prevention.kept, prevention.met) == (0.2, 0.8, True)
    assert study.share_of(study.runs[4]).met is False  # the trait is gone, and so is the task
    assert study.share_of(study.runs[6]).met is False
    assert "prevention 0.4 1 of 1" in study_summary(study)
    assert "random directions 0 of 1" in study_summary(study)
    text = study_markdown(study)
    assert "| bench | all with the trait | prevention 0.4 | 26 | 80 | 1.50 | 20% | 80% | met |" in text
    own, _ = study.along("bench")
    assert own.n == 5
    early, _ = study.predicted("bench")
    assert early.value == pytest.approx(1.0)
    assert FinetuningStudy.from_json(study.to_json()) == study


def test_the_figure_has_a_mark_for_every_run(study: FinetuningStudy) -> None:
    figure: Any = finetunings_figure(study)
    points = sorted((x, y) for trace in figure.data for x, y in zip(trace.x, trace.y, strict=True))
    shown = [run for run in study.runs if run.arm == "base" or run.share > 0]
    assert points == sorted((run.task, run.trait) for run in shown)
    with pytest.raises(InvalidInputError, match="no run"):
        finetunings_figure(FinetuningStudy((), ()))


def test_what_is_done_is_not_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Bench(FinetuneBench):
        """What the study asks of a bench before anything is trained."""

        def __init__(self) -> None:
            plain = type("Plain", (), {"to_json": staticmethod(dict)})()
            known = {"name": "bench", "layer": 1, "shares": (0.0, 0.5, 1.0), "mixed": True, "short": False, "model": None}
            for name, value in (known | dict.fromkeys(("recipe", "sampling"), plain)).items():
                object.__setattr__(self, name, value)

    done: list[tuple[str, float]] = []

    def made(bench: Any, arm: Any, share: float, before: Any) -> list[FinetuneRun]:
        if len(done) == 4:
            raise KeyboardInterrupt
        done.append((arm.name, share))
        return [run_of(arm.name, share, 1, 1, 1.0)]

    monkeypatch.setattr(runs, "_run", made)
    monkeypatch.setattr(runs, "_base", lambda bench: run_of("base", 0.0, 0, 0))
    monkeypatch.setattr(runs, "_read", lambda bench, model: object())
    with pytest.raises(KeyboardInterrupt):
        finetuning_runs(Bench(), arms((0.4,), 1), tmp_path)
    first, done[:] = list(done), []
    monkeypatch.setattr(
        runs, "_run", lambda bench, arm, share, before: (done.append((arm.name, share)), [run_of(arm.name, share, 1, 1)])[1]
    )
    found = finetuning_runs(Bench(), arms((0.4,), 1), tmp_path)
    assert not set(first) & set(done)
    assert [(run.arm, run.share) for run in found[1:]] == [*first, *done]
    assert (NOTHING, 0.5) in first
    assert ("random direction 1", 0.5) not in done
    assert ("KL to the base", 0.5) in done
