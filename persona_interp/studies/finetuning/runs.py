"""Every finetuning of the study, each kept as soon as it is done, so that a study that was cut goes on."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from persona_interp.jsonl_store import JsonlStore, content_key
from persona_interp.models.sampling import Sampling
from persona_interp.models.steerable import SteerableModel
from persona_interp.monitoring.chats import Chat
from persona_interp.monitoring.finetuning_shift import Readings, read_prompts
from persona_interp.monitoring.screen import screen
from persona_interp.progress import say
from persona_interp.records import Record
from persona_interp.studies.finetuning.arms import AFTERWARDS, NOTHING, Arm, random_like, random_unit
from persona_interp.studies.finetuning.bench import FinetuneBench, Scores
from persona_interp.training.finetune import finetune

FULL, MIXED = 1.0, 0.5
N_RANDOM_AXES = 20
_SCREENING_CONTROLS = 3


@dataclass(frozen=True)
class FinetuneRun(Record):
    """One finetuned model.

    Attributes:
        bench: model and trait.
        arm: how it was finetuned, "base" for the model before.
        share: of the samples with the trait.
        trait: 0 to 100.
        task: 0 to 100.
        perplexity: of neutral answers.
        shift: mean projection of the last prompt token onto the unit vector, minus the base model's; None: nothing trained.
        random_shifts: the same along random directions.
        loss: of the last passes.
    """

    json_kind = "finetuning run"

    bench: str
    arm: str
    share: float
    trait: float
    task: float
    perplexity: float
    shift: float | None = None
    random_shifts: tuple[float, ...] = ()
    loss: float | None = None


@dataclass(frozen=True)
class ScreenedSet(Record):
    """One data set before training.

    Attributes:
        bench: model and trait.
        share: of the samples with the trait.
        difference: mean projection difference along the vector.
        random_differences: along random directions.
        auroc: of the difference, samples with the trait against the others; None where there is one kind alone.
        auroc_projection: of the plain projection.
        random_aurocs: of differences along random directions.
        n: samples.
    """

    json_kind = "screened data set"

    bench: str
    share: float
    difference: float
    random_differences: tuple[float, ...]
    auroc: float | None
    auroc_projection: float | None
    random_aurocs: tuple[float, ...]
    n: int


def finetuning_runs(bench: FinetuneBench, arms: Sequence[Arm], folder: Path) -> list[FinetuneRun]:
    """The base model, plain finetuning at every share, and every arm where all samples have the trait, some where half do.

    What is done is kept in `folder`, from which a second call goes on.
    """
    log = JsonlStore(folder / "runs.jsonl")
    plan = [
        (arm, share)
        for arm in arms
        for share in bench.shares
        if share == FULL or (arm.name == NOTHING and not bench.short) or (share == MIXED and arm.mixed and bench.mixed)
    ]
    settings = {"recipe": bench.recipe.to_json(), "layer": bench.layer, "sampling": bench.sampling.to_json()}
    found = [_kept(log, content_key("base", settings), lambda: [_base(bench)])[0]]
    before = None
    for arm, share in plan:
        key = content_key(arm.name, share, settings)
        if key not in log:
            before = before or _read(bench, bench.model)
            say(f"{bench.name}: {arm.name}, {share:.0%} of the samples with the trait")
        found += _kept(
            log, key, lambda arm=arm, share=share, read=before: _run(bench, arm, share, read or _read(bench, bench.model))
        )
    return found


def _kept(log: JsonlStore, key: str, make: Callable[[], list[FinetuneRun]]) -> list[FinetuneRun]:
    if key not in log:
        log.put(key, {"runs": [run.to_json() for run in make()]})
    return [FinetuneRun.from_json(each, source=str(log.path)) for each in log.get(key)["runs"]]


def _base(bench: FinetuneBench) -> FinetuneRun:
    return _scored(bench, "base", 0.0, bench.scores(bench.model))


def _run(bench: FinetuneBench, arm: Arm, share: float, before: Readings) -> list[FinetuneRun]:
    """One finetuning; after a plain one also what steering back by the shift makes of it."""
    with tempfile.TemporaryDirectory() as scratch:
        tuned = finetune(bench.model, bench.chats(share), Path(scratch, "tuned"), recipe=bench.recipe, guards=arm.guards(bench))
    moved = (_read(bench, tuned.model).resid - before.resid).mean(dim=0)[0]
    unit = bench.vector.at(bench.layer).float()
    along = [float(moved @ (unit / unit.norm()))]
    along += [float(moved @ random_unit(len(moved), 100 + seed)) for seed in range(N_RANDOM_AXES)]
    loss = sum(tuned.losses[-3:]) / len(tuned.losses[-3:])
    runs = [_scored(bench, arm.name, share, bench.scores(tuned.model), along, loss)]
    if arm.name == NOTHING and share in (FULL, MIXED):
        against = bench.vector.graph(-along[0] / float(unit.norm()), [bench.layer])
        runs.append(_scored(bench, AFTERWARDS, share, bench.scores(tuned.model, against)))
    return runs


def _scored(
    bench: FinetuneBench, arm: str, share: float, scores: Scores, along: Sequence[float] = (), loss: float | None = None
) -> FinetuneRun:
    shift = along[0] if along else None
    return FinetuneRun(bench.name, arm, share, scores.trait, scores.task, scores.perplexity, shift, tuple(along[1:]), loss)


def _read(bench: FinetuneBench, model: SteerableModel) -> Readings:
    texts = [Chat.of(question) for question in bench.questions]
    return read_prompts(model, texts, positions="prompt_last", layers=[bench.layer])


def screened_sets(bench: FinetuneBench, folder: Path) -> list[ScreenedSet]:
    """The projection difference of every data set, before anything is trained. Own answers are made once for all shares."""
    log = JsonlStore(folder / "screened.jsonl")
    found: list[ScreenedSet] = []
    for share in bench.shares:
        key = content_key(share, bench.layer, bench.recipe.seed)
        if key not in log:
            log.put(key, _screened(bench, share, folder / "screening").to_json())
        found.append(ScreenedSet.from_json(log.get(key), source=str(log.path)))
    return found


def _screened(bench: FinetuneBench, share: float, folder: Path) -> ScreenedSet:
    options = {"layer": bench.layer, "own_samples": 1, "sampling": Sampling(max_new_tokens=32), "folder": folder}
    vectors = [bench.vector, *(random_like(bench, 50 + seed) for seed in range(1 if bench.short else _SCREENING_CONTROLS))]
    results = [screen(bench.model, vector, bench.chats(share), **options) for vector in vectors]
    means = []
    for result in results:
        known = [sample.difference for sample in result.samples if sample.difference is not None]
        means.append(sum(known) / len(known))
    areas = [area.value if (area := result.auroc()) is not None else None for result in results]
    plain = results[0].auroc("projection")
    return ScreenedSet(
        bench.name,
        share,
        means[0],
        tuple(means[1:]),
        areas[0],
        None if plain is None else plain.value,
        tuple(area for area in areas[1:] if area is not None),
        len(results[0].samples),
    )
