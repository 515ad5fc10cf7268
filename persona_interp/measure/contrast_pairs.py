"""Answers with and without a trait, for scoring layers by likelihood: made under the trait's instructions, read without them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from persona_interp.errors import FileFormatError, InvalidInputError, PersonaInterpError
from persona_interp.jsonl_store import content_key
from persona_interp.models.sampling import Sampling, fitting_seed
from persona_interp.models.steerable import SteerableModel
from persona_interp.storage import read_json, write_json
from persona_interp.traits.conversation import Conversation
from persona_interp.traits.model_kinds import resolve_trait
from persona_interp.traits.trait import Trait

FORMAT_VERSION = 2


@dataclass(frozen=True)
class ContrastPair:
    """One question, answered with the trait and without it.

    Attributes:
        question: asked.
        positive: the answer with the trait.
        negative: the answer without it.
        systems: the system prompts under which they were given, in that order; None where they are not known.
    """

    question: str
    positive: str
    negative: str
    systems: tuple[str, str] | None = None


@dataclass(frozen=True)
class ContrastPairs:
    """Pairs, and how many tokens were generated to have them."""

    pairs: tuple[ContrastPair, ...]
    n_tokens: int


def kept_pairs(
    path: Path,
    model: SteerableModel,
    trait: Trait | str | Path,
    *,
    n_pairs: int = 16,
    sampling: Sampling | None = None,
    seed: int = 0,
    batch_size: int | None = None,
) -> ContrastPairs:
    """`contrast_pairs`, read from `path` where the same ones were made before, and else written there.

    Raises:
        FileFormatError: the file is damaged.
    """
    sampling = Sampling() if sampling is None else sampling
    trait = resolve_trait(model, trait)
    key = content_key(
        FORMAT_VERSION, model.identity.to_json(), str(model.dtype), trait.to_json(), n_pairs, sampling.to_json(), seed
    )
    if path.exists():
        kept = read_json(path, "contrast pairs")
        if kept.get("key") == key:
            try:
                pairs = [ContrastPair(**{**pair, "systems": tuple(pair["systems"])}) for pair in kept["pairs"]]
                return ContrastPairs(tuple(pairs), int(kept["n_tokens"]))
            except (KeyError, TypeError, ValueError) as error:
                raise FileFormatError(f"contrast pairs {path} are damaged ({error!r}): delete the file") from error
    made = contrast_pairs(model, trait, n_pairs=n_pairs, sampling=sampling, seed=seed, batch_size=batch_size)
    write_json(path, {"format_version": FORMAT_VERSION, "key": key, **asdict(made)})
    return made


def contrast_pairs(
    model: SteerableModel,
    trait: Trait | str | Path,
    *,
    n_pairs: int = 16,
    questions: Sequence[str] | None = None,
    sampling: Sampling | None = None,
    seed: int = 0,
    batch_size: int | None = None,
) -> ContrastPairs:
    """Answer questions under a positive and a negative instruction of `trait`, the instructions in turn.

    With another seed than an extraction's these are other answers than those a vector was made from.

    Args:
        model: answers, unsteered.
        trait: whose instructions, or its name (`resolve_trait`).
        n_pairs: how many; questions are asked again when they run out.
        questions: the trait's extraction questions if None.
        sampling: how to draw; the defaults of `Sampling` if None.
        seed: of the answers; both of a pair have the same random stream.
        batch_size: rows run together, chosen by the model if None.

    Raises:
        InvalidInputError: no question, or `n_pairs` below 2, of which no interval could be had.
        PersonaInterpError: fewer than 2 pairs have two answers that are not empty.
    """
    trait = resolve_trait(model, trait)
    asked = tuple(trait.extraction_questions if questions is None else questions)
    if not asked or n_pairs < 2:
        raise InvalidInputError(f"{n_pairs} contrast pairs of {len(asked)} questions: ask for at least 2, of at least 1 question")
    chosen = [(asked[i % len(asked)], trait.instructions[i % len(trait.instructions)]) for i in range(n_pairs)]
    conversations = [Conversation.ask(question, system=pair.positive) for question, pair in chosen]
    conversations += [Conversation.ask(question, system=pair.negative) for question, pair in chosen]
    seeds = [fitting_seed(seed * 1_000_003 + i) for i in range(n_pairs)] * 2
    answers = model.generate(conversations, sampling=sampling, seed=seeds, batch_size=batch_size)
    found = tuple(
        ContrastPair(question, positive.text, negative.text, (pair.positive, pair.negative))
        for (question, pair), positive, negative in zip(chosen, answers[:n_pairs], answers[n_pairs:], strict=True)
        if positive.text.strip() and negative.text.strip()
    )
    if len(found) < 2:
        raise PersonaInterpError(
            f"{model.name} gave {len(found)} pairs of answers that are not empty, for {trait.name!r}: allow more new tokens, or"
            " look at what it answers under the trait's instructions"
        )
    return ContrastPairs(found, sum(len(answer.answer_ids) for answer in answers))
