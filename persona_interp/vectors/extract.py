"""`extract`: from a trait to the persona vector of a model.

The method is that of *Persona Vectors* (arXiv 2507.21509): answers under contrastive system prompts, filtered by a judge, and at
every layer the difference of what the residual stream holds on average.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from persona_interp.judges.registry import optional_judge
from persona_interp.models.sampling import Sampling
from persona_interp.models.steerable import SteerableModel
from persona_interp.provenance import provenance
from persona_interp.residuals.pooling import pooling
from persona_interp.traits.judging import Judge, Judgement
from persona_interp.traits.model_kinds import resolve_trait
from persona_interp.traits.trait import Trait
from persona_interp.vectors.estimators import estimator as estimator_called
from persona_interp.vectors.lineage import KEY, Lineage
from persona_interp.vectors.massive import massive_dimensions
from persona_interp.vectors.persona_vector import PersonaVector
from persona_interp.vectors.rollouts.collection import Collection
from persona_interp.vectors.rollouts.kept_pairs import MINIMUM_PAIRS, check_asked, filtered, slots
from persona_interp.vectors.rollouts.pairs import Selection, Thresholds, halves_by_question
from persona_interp.vectors.rollouts.rollout import SIGNS, RolloutKey, Sign, read_rollouts
from persona_interp.vectors.rollouts.run import Run, rollout_file, run_settings
from persona_interp.vectors.statistics import PairedResiduals, summarise

_EXAMPLES = 25


class _Read(NamedTuple):
    """What is remembered of a rollout: where its residuals are (None: no position to read), and the question it answers."""

    residuals: str | None
    question: str


def extract(
    model: SteerableModel,
    trait: Trait | str | Path,
    *,
    judge: str | Judge | None = None,
    samples: int = 10,
    questions: Sequence[str] | None = None,
    positions: str = "response_avg",
    estimator: str = "mean_difference",
    sampling: Sampling | None = None,
    seed: int = 0,
    folder: str | Path | None = None,
    rollouts: str | Path | None = None,
    thresholds: Thresholds | None = None,
    minimum_pairs: int = MINIMUM_PAIRS,
    batch_size: int | None = None,
) -> PersonaVector:
    """Extract the persona vector of `trait` at every layer of `model`.

    Residuals are read while the answers are generated. Every answer is written to `folder` as it comes, so a second call with the
    same folder goes on where the first stopped, and needs no forward pass at all for other `positions`, another `estimator`,
    other `thresholds` or fewer `samples`. Of the rollouts only keys, questions and scores stay in memory.

    Args:
        model: whose vector it will be.
        trait: what to extract, or its name (`resolve_trait`).
        judge: filters the pairs (`load_judge`), for example "auto". None: all are kept (or, with `rollouts` that carry scores,
            those decide); the vector's provenance says so.
        samples: answers per instruction and question, for each sign. With five instructions and twenty questions the paper's 10
            make 2000 rollouts.
        questions: asked instead of the trait's extraction questions.
        positions: ``response_avg``, ``prompt_avg`` or ``prompt_last``.
        estimator: ``mean_difference``, ``pca`` or ``logistic``.
        sampling: `Sampling()` (temperature 1, 128 new tokens) if not given.
        seed: with the same settings the same answers; each rollout has its own stream.
        folder: keeps rollouts, scores and residuals. None: a temporary one, which is kept only if something goes wrong.
        rollouts: a JSONL file of answers to use instead of generating, see `read_rollouts`; or a folder of an earlier extraction.
        thresholds: of the filter; 50, 50 and 50 as in the paper.
        minimum_pairs: fewer kept pairs are an error.
        batch_size: rows the model runs together; None lets it choose.

    Example:
        >>> model = load_model("organism-qwen2")
        >>> vector = extract(model, "silly", judge="auto", samples=1, folder="runs/silly")
        >>> vector.save("vectors/organism-qwen2_silly.json")

    Raises:
        InvalidInputError: an argument cannot be used, or `folder` holds rollouts made with other settings.
        UnknownNameError: there is no such trait, pooling or estimator.
        FileFormatError: `rollouts` or a file in `folder` cannot be read.
        PersonaInterpError: too few pairs were kept, residuals are not finite, or the disk is full. What was made is kept.
        KeyboardInterrupt: as pressed, after a line that says how to go on.
    """
    started = time.monotonic()
    trait = resolve_trait(model, trait)
    scorer = optional_judge(judge, model, trait=trait)
    sampling = sampling or Sampling()
    thresholds = thresholds or Thresholds()
    asked = tuple(questions) if questions is not None else trait.extraction_questions
    pooling(positions)
    estimate = estimator_called(estimator)
    check_asked(samples, asked, minimum_pairs)
    given = None if rollouts is None else rollout_file(Path(rollouts))
    settings = run_settings(model, trait, asked, sampling, seed, given)

    with Run(model, trait, settings, folder, batch_size) as run:
        collection = run.collection
        if given is None:
            keys = [RolloutKey(sign, slot) for slot in slots(trait, asked, samples) for sign in SIGNS]
            collection.generate(keys, asked, sampling, seed, scorer)
        else:
            keys = collection.take(read_rollouts(given))
        collection.read_missing()
        rollouts_read = _rollouts_read(collection, keys)
        readable = {key: read.residuals is not None for key, read in rollouts_read.items()}
        found = filtered(collection, scorer, readable, thresholds, minimum_pairs)
        selection = found.selection
        pairs = _paired(collection, selection, rollouts_read, positions)
        summary = summarise(pairs, estimate)
        read = (each.residuals for each in rollouts_read.values())
        norms, n_norms = collection.resid_norm(dict.fromkeys(key for key in read if key is not None))
        known = {} if norms is None else {"resid_norm": tuple(norms.tolist())}
        layers = tuple(range(model.n_layers))
        return PersonaVector(
            directions=summary.directions,
            layers=layers,
            trait=trait.name,
            model=model.identity,
            positions=positions,
            estimator=estimator,
            counts={"rollouts": len(keys), **selection.to_json()},
            statistics={**known, **summary.statistics},
            massive=massive_dimensions(summary.directions, summary.mean_abs, layers),
            provenance={
                **_provenance(settings, found.judged_by, thresholds, selection, pairs, samples, time.monotonic() - started),
                "resid_norm_answers": n_norms,
                KEY: Lineage.of(model).to_json(),
            },
            responses=_examples(collection, selection, found.judgements),
        )


def _rollouts_read(collection: Collection, keys: Sequence[RolloutKey]) -> dict[RolloutKey, _Read]:
    """The rollouts of `keys`, without their texts."""
    wanted = set(keys)
    return {
        rollout.key: _Read(collection.residual_key(rollout) if rollout.readable else None, rollout.conversation.question)
        for rollout in collection.log.scan()
        if rollout.key in wanted
    }


def _paired(
    collection: Collection, selection: Selection, rollouts_read: Mapping[RolloutKey, _Read], positions: str
) -> PairedResiduals:
    def of(sign: Sign) -> list[_Read]:
        return [rollouts_read[key] for key in selection.keys(sign)]

    def residuals(sign: Sign) -> tuple[str, ...]:
        return tuple(read.residuals for read in of(sign) if read.residuals is not None)  # select_pairs kept no others

    asked = [(one.question, other.question) for one, other in zip(of("positive"), of("negative"), strict=True)]
    return PairedResiduals(collection.cache, positions, residuals("positive"), residuals("negative"), halves_by_question(asked))


def _provenance(
    settings: Mapping[str, Any],
    judged_by: str | None,
    thresholds: Thresholds,
    selection: Selection,
    pairs: PairedResiduals,
    samples: int,
    seconds: float,
) -> dict[str, Any]:
    filtered: dict[str, Any] = {"judge": judged_by}
    if judged_by is not None:
        filtered |= {
            "thresholds": asdict(thresholds),
            "coherence": "judged" if selection.coherence_judged else "not judged, not filtered",
        }
    if "rollouts" not in settings:
        settings = {**settings, "samples": samples}
    return provenance(
        seconds=round(seconds, 3),
        settings=dict(settings),
        filter=filtered,
        held_out="questions in two halves" if pairs.split else "none: all pairs share questions",
        metadata={"num_kept_pairs": len(selection.kept), "num_questions": len({slot.question for slot in selection.kept})},
    )


def _examples(
    collection: Collection, selection: Selection, judgements: Mapping[RolloutKey, Judgement] | None
) -> dict[str, list[dict[str, Any]]]:
    """The answers of the first kept pairs, in the fields other programs use and with their scores."""
    shown = {key for sign in SIGNS for key in selection.keys(sign)[:_EXAMPLES]}
    found: dict[str, list[dict[str, Any]]] = {sign: [] for sign in SIGNS}
    for rollout in collection.log.scan():
        if rollout.key in shown:
            judgement = (judgements or {}).get(rollout.key)
            scores = {"trait_score": judgement.trait, "coherence_score": judgement.coherence} if judgement else {}
            found[rollout.key.sign].append(
                {
                    "question": rollout.conversation.question,
                    "system": rollout.conversation.system,
                    "prompt_pair_idx": rollout.key.slot.instruction,
                    "response": rollout.answer,
                    **scores,
                }
            )
    return found
