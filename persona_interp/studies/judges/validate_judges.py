"""`validate_judges`: do judges that know nothing of the grammar agree with it, which knows the truth?"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from persona_interp.errors import InvalidInputError, PersonaInterpError
from persona_interp.judges.coherence import PerplexityCoherence
from persona_interp.judges.garbage import GarbageGuard
from persona_interp.judges.likelihood_contrast import LikelihoodContrastJudge
from persona_interp.measure.conditions import Condition
from persona_interp.measure.protocol import Protocol
from persona_interp.measure.run import Work
from persona_interp.models.sampling import Sampling
from persona_interp.models.steerable import SteerableModel
from persona_interp.organisms.grammar_judge import GrammarJudge
from persona_interp.organisms.trait_texts import evaluation_instructions, is_organism, organism_trait
from persona_interp.progress import say
from persona_interp.provenance import provenance
from persona_interp.studies.judges.garbage_texts import garbage_texts
from persona_interp.studies.judges.judge_validation import GuardCount, JudgeScores, JudgeValidation
from persona_interp.traits.coherence import coherent
from persona_interp.traits.judging import Judge, Judgement
from persona_interp.traits.trait import Trait
from persona_interp.vectors.extract import extract
from persona_interp.vectors.persona_vector import PersonaVector
from persona_interp.vectors.steering import Steering

SAMPLING = Sampling(max_new_tokens=120)
RATIOS = (-3.0, -2.0, -1.0, -0.5, 0.5, 1.0, 2.0, 3.0)
"""Perturbation ratios of the steered conditions, far beyond where answers break: coherence is to vary too."""
GOOD = 80.0
_VECTOR_QUESTIONS = 8
_ROWS = 256


def validate_judges(
    model: SteerableModel, trait: str, *, samples: int = 2, seed: int = 0, folder: str | Path | None = None
) -> JudgeValidation:
    """Score an organism's answers with the judges that need neither the grammar nor a model that follows rubrics.

    Answers to the evaluation questions are given without help, under system prompts for and against the trait (in wordings that
    the judge does not use), and steered at half depth at eight perturbation ratios from -3 to 3 by a vector of eighty rollouts.
    The contrast judge is compared with the exact trait score, the perplexity coherence with the exact coherence, and controls
    with both: the number of words, as a rank from 0 to 100, and the judge's own scores dealt out at random.

    Example:
        >>> found = validate_judges(load_model("organism-qwen2"), "silly")
        >>> print(found.of("contrast", "trait").auroc, found.of("length", "trait").auroc)

    Args:
        model: an organism.
        trait: of the grammar.
        samples: answers to each question under each condition.
        seed: of answers and controls.
        folder: keeps answers and scores, so that a run cut short goes on where it stopped; None: a temporary one.

    Raises:
        InvalidInputError: the model is no organism, so nothing is known exactly; `samples` is below 1.
        UnknownNameError: the grammar has no such trait.
        PersonaInterpError: no pair of answers could be read for a vector.
    """
    if not is_organism(model):
        raise InvalidInputError(f"{model.name} is no model organism: its answers have no exact scores to compare judges with")
    protocol = Protocol(samples=samples, judge=GrammarJudge(), sampling=SAMPLING, seed=seed, folder=folder, batch_size=_ROWS)
    judged = organism_trait(trait)
    layer = model.n_layers // 2
    asked = protocol.asked(model, judged)
    with Work(asked) as work:
        say(f"{model.name}, {trait}: answers to judge")
        answers = work.answers(model, _arms(model, judged, layer, seed, work.folder / "vector"))
        questions = answers[0].questions
        exchanges = [exchange for each in answers for exchange in each.exchanges]

        def scores(judge: Judge) -> list[Judgement]:
            return [each for one in work.judged(answers, judge) for each in one.judgements]

        exact = scores(asked.judge)
        contrast = [each.trait for each in scores(LikelihoodContrastJudge(model))]
        coherence = [each.coherence for each in scores(PerplexityCoherence(model))]
        good = [exchange for exchange, each in zip(exchanges, exact, strict=True) if coherent(each.coherence, GOOD)]
        guard = _guard(model, judged, exchanges[: len(questions)], good, seed)
    lengths = _ranks([len(answer.split()) for _, answer in exchanges])
    return JudgeValidation(
        trait=trait,
        model=model.identity,
        layer=layer,
        conditions=tuple(each.condition.name for each in answers for _ in each.texts),
        questions=tuple(question for question, _ in exchanges),
        exact_trait=_rounded([each.trait for each in exact]),
        exact_coherence=_rounded([each.coherence for each in exact]),
        judges=(
            *_with_controls("contrast", "trait", contrast, lengths, seed),
            *_with_controls("perplexity", "coherence", coherence, lengths, seed),
        ),
        guard=guard,
        provenance=provenance(seed=seed, samples=samples, sampling=SAMPLING.to_json(), ratios=list(RATIOS)),
    )


def _arms(model: SteerableModel, trait: Trait, layer: int, seed: int, folder: Path) -> list[Condition]:
    vector = extract(
        model,
        trait,
        judge=GrammarJudge(),
        samples=1,
        questions=trait.extraction_questions[:_VECTOR_QUESTIONS],
        sampling=SAMPLING,
        seed=seed,
        folder=folder / f"{trait.name}-{model.identity.fingerprint[:12]}-{seed}",
        minimum_pairs=1,
        batch_size=_ROWS,
    ).select([layer])
    pairs = evaluation_instructions(trait.name)
    return [
        Condition("unsteered"),
        Condition("asked for", systems=tuple(pair.positive for pair in pairs)),
        Condition("asked against", systems=tuple(pair.negative for pair in pairs)),
        *(Condition(f"steered {ratio:+g}", Steering(vector, coefficient=ratio / _unit(vector))) for ratio in RATIOS),
    ]


def _unit(vector: PersonaVector) -> float:
    (ratio,) = vector.listed("norm_ratio")
    if not ratio:
        raise PersonaInterpError(f"the vector of {vector.trait!r} is zero, or the size of the residual stream is not known")
    return ratio


def _guard(
    model: SteerableModel, trait: Trait, own: Sequence[tuple[str, str]], good: Sequence[tuple[str, str]], seed: int
) -> GuardCount:
    guard = GarbageGuard(model)
    garbage = [exchange for texts in garbage_texts(own, model.tokenizer, seed=seed).values() for exchange in texts]
    caught = [sum(fault is not None for fault in guard.faults(trait, texts)) for texts in (garbage, good)]
    return GuardCount(len(garbage), caught[0], len(good), caught[1])


def _with_controls(
    judge: str, target: str, scores: Sequence[float | None], lengths: Sequence[float], seed: int
) -> tuple[JudgeScores, ...]:
    dealt = list(scores)
    random.Random(seed).shuffle(dealt)
    return (
        JudgeScores(judge, target, _rounded(scores)),
        JudgeScores("length", target, _rounded(lengths)),
        JudgeScores("shuffled", target, _rounded(dealt)),
    )


def _ranks(values: Sequence[float]) -> list[float]:
    """Ranks from 0 to 100, ties at their mean."""
    from scipy.stats import rankdata

    ranks = np.asarray(rankdata(values)) - 1
    return [float(rank) for rank in 100 * ranks / max(1, len(values) - 1)]


def _rounded(scores: Sequence[float | None]) -> tuple[float | None, ...]:
    return tuple(None if score is None else round(score, 2) for score in scores)
