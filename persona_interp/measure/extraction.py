"""`extract`, the front door: a vector from a trait or from texts at hand, with a score of every layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from persona_interp.errors import InvalidInputError, PersonaInterpError
from persona_interp.measure.contrast_pairs import ContrastPair, ContrastPairs
from persona_interp.measure.effectiveness import LayerEffectiveness
from persona_interp.measure.layer_effectiveness import AUTO, PAIRS, layer_effectiveness
from persona_interp.measure.scored_vector import layer_scores as scores_kept
from persona_interp.models.sampling import Sampling
from persona_interp.models.steerable import SteerableModel
from persona_interp.models.texts import Read
from persona_interp.progress import LOG, Progress, on_progress, say
from persona_interp.traits.judging import Judge
from persona_interp.traits.model_kinds import resolve_trait
from persona_interp.traits.trait import Trait
from persona_interp.vectors.contrast import InstructionContrast, TextContrast, contrast_of_texts, paired
from persona_interp.vectors.extract import extract as extract_rollouts
from persona_interp.vectors.persona_vector import PersonaVector
from persona_interp.vectors.rollouts.kept_pairs import MINIMUM_PAIRS
from persona_interp.vectors.rollouts.pairs import Thresholds

_SAMPLES = 10
_ENOUGH = 2
"""Pairs held out, below which layers are not scored."""


def extract(
    model: SteerableModel,
    trait: Trait | str | Path | None = None,
    *,
    positive: Read | Sequence[Read] | None = None,
    negative: Read | Sequence[Read] | None = None,
    pairs: Sequence[Any] | None = None,
    questions: Sequence[str] | None = None,
    judge: str | Judge | None = None,
    samples: int | None = None,
    positions: str = "response_avg",
    estimator: str = "mean_difference",
    sampling: Sampling | None = None,
    seed: int = 0,
    folder: str | Path | None = None,
    rollouts: str | Path | None = None,
    thresholds: Thresholds | None = None,
    minimum_pairs: int = MINIMUM_PAIRS,
    layer_scores: str | None = AUTO,
    progress: Callable[[Progress], None] | None = None,
    batch_size: int | None = None,
) -> PersonaVector:
    """Extract a persona vector at every layer of `model`, and score the layers, so that steering knows where.

    By default as the command ``extract-vectors`` does it, with the same answers, scores and choice of layer.

    Example:
        >>> vector = extract(model, "silly", judge="auto", samples=1, folder="runs/silly")
        >>> vector = extract(model, positive="Be silly.", negative="Be serious.", questions=["How are you?", "What is tea?"])
        >>> vector = extract(model, positive=["What joy!", "I love it."], negative=["What misery.", "I hate it."], trait="joy")
        >>> vector = extract(model, pairs=[(("Hi", "Hello, dear turnip!"), ("Hi", "Good morning."))], trait="silly")

    Args:
        model: whose vector it will be.
        trait: what to extract: a name, a file or a `Trait`. Where texts are given, what to call the vector.
        positive: with `questions`, system prompts; else texts, chats, ``(prompt, answer)``, or prompts which the model answers
            (see `models.texts`; a prompt is a `Conversation` or a list of messages, as a bare string is text without roles).
        negative: likewise; the first one belongs to the first positive, and so on.
        pairs: in place of both, such pairs.
        questions: asked instead of the trait's extraction questions, or under the system prompts given.
        judge: filters pairs of answers, for example "auto" (`load_judge`). None: all are kept.
        samples: answers per instruction and question, for each sign: 10 if None; per prompt given: 1 if None.
        positions: which tokens are averaged: ``response_avg``, ``prompt_avg`` or ``prompt_last``.
        estimator: ``mean_difference``, ``pca`` or ``logistic``.
        sampling: how answers are drawn; `Sampling()` if None.
        seed: with the same settings the same answers.
        folder: keeps what is made, so that a second call goes on (not of texts given). None: nothing is kept.
        rollouts: a JSONL file of answers to use instead of generating; their layers are not scored.
        thresholds: of the filter.
        minimum_pairs: fewer kept pairs are an error (of texts given, one is enough).
        layer_scores: how layers are scored (`layer_effectiveness`); None: not at all, and steering must be told its layers.
        progress: told how far it is, beside the bars.
        batch_size: rows the model runs together; None lets it choose.

    Raises:
        InvalidInputError: neither a trait nor a contrast, or both; or as `vectors.extract.extract`.
        UnknownNameError: there is no such trait, pooling, estimator or judge.
        PersonaInterpError: too few pairs were kept, residuals are not finite, or the disk is full. What was made is kept.
    """
    given = None if positive is None and negative is None and pairs is None else _given(positive, negative, pairs)
    common: dict[str, Any] = {"sampling": sampling, "seed": seed, "batch_size": batch_size}
    with ExitStack() as stack:
        if progress is not None:
            stack.enter_context(on_progress(progress))
        if given is not None and questions is None:
            if folder is not None or rollouts is not None or judge is not None:
                raise InvalidInputError("folder, rollouts and judge are for answers to questions: leave them out here")
            options: dict[str, Any] = {"positions": positions, "estimator": estimator, "samples": samples or 1, **common}
            return _scored_texts(model, contrast_of_texts(model, given, name=_name(trait), **options), layer_scores, batch_size)
        if given is not None:
            positive, negative = zip(*given, strict=True)
            trait = InstructionContrast.of(positive, negative, questions or (), name=_name(trait))
        if trait is None:
            raise InvalidInputError("there is nothing to extract: name a trait, or give positive=[...] and negative=[...]")
        trait = resolve_trait(model, trait)
        home = Path(stack.enter_context(TemporaryDirectory(prefix="persona-interp-"))) if folder is None else Path(folder)
        vector = extract_rollouts(
            model, trait, judge=judge, samples=_SAMPLES if samples is None else samples, questions=questions,
            positions=positions, estimator=estimator, folder=folder, rollouts=rollouts, thresholds=thresholds,
            minimum_pairs=minimum_pairs, **common,
        )  # fmt: skip
        if layer_scores is None or rollouts is not None:
            return vector
        drawn: dict[str, Any] = {"sampling": sampling or Sampling(), "seed": seed, "batch_size": batch_size}
        found = scores_kept(vector, model, trait, home, method=layer_scores, **drawn)
        return vector if found is None else _recorded(vector, found)


def _given(positive: Any, negative: Any, pairs: Any) -> list[tuple[Any, Any]]:
    if pairs is None:
        if positive is None or negative is None:
            raise InvalidInputError("only one side of the contrast was given: give positive=[...] and negative=[...]")
        return paired(positive, negative)
    if positive is not None or negative is not None:
        raise InvalidInputError("both pairs and positive or negative were given: give pairs=[(positive, negative), ...] alone")
    if wrong := [place for place, pair in enumerate(pairs) if isinstance(pair, str) or len(pair) != 2]:
        raise InvalidInputError(f"pair {wrong[0]} is {pairs[wrong[0]]!r:.60}: give (positive, negative)")
    return paired([one for one, _ in pairs], [other for _, other in pairs])


def _name(trait: Trait | str | Path | None) -> str:
    if isinstance(trait, Trait):
        return trait.name
    return "contrast" if trait is None else Path(trait).stem


def _scored_texts(model: SteerableModel, found: TextContrast, method: str | None, batch_size: int | None) -> PersonaVector:
    """The vector, with scores of its layers where there are answers to score them by.

    The scores are those of a vector from one half of the questions, on answers to the other half.
    """
    if method is None or found.first_half is None or len(found.held_out) < _ENOUGH:
        if method is not None:
            say("note: there are no pairs of answers to score layers by, so none is recorded as the best: name layers=[...]")
        return found.vector
    pairs = ContrastPairs(tuple(ContrastPair(*pair) for pair in found.held_out[:PAIRS]), 0)
    name = found.vector.trait
    try:
        scores = layer_effectiveness(model, found.first_half, name, method=method, pairs=pairs, batch_size=batch_size)
    except PersonaInterpError as error:
        say(f"note: the layers could not be scored ({error}): name layers=[...]")
        return found.vector
    return _recorded(found.vector, scores)


def _recorded(vector: PersonaVector, scores: LayerEffectiveness) -> PersonaVector:
    LOG.info(scores.reason())
    return scores.recorded_in(vector)
