"""A model's own answers to prompts that somebody else answered too: seeded, in batches, each kept as soon as it is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from persona_interp.jsonl_store import JsonlStore, check_settings, content_key
from persona_interp.locks import folder_lock
from persona_interp.models.chat import TokenisedAnswer
from persona_interp.models.results import Generation
from persona_interp.models.sampling import Sampling, derived_seed
from persona_interp.models.steerable import SteerableModel
from persona_interp.traits.conversation import Conversation

SETTINGS, ANSWERS = "settings.json", "own_answers.jsonl"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class OwnAnswer:
    """What the model said itself.

    Attributes:
        text: without the end-of-turn token.
        tokenised: the very ids it read and made.
    """

    text: str
    tokenised: TokenisedAnswer


def answering_settings(model: SteerableModel, sampling: Sampling, seed: int) -> dict[str, Any]:
    """All that an answer depends on besides its prompt."""
    return {
        "format_version": FORMAT_VERSION,
        "model": model.identity.fingerprint,
        "dtype": str(model.dtype),
        "sampling": sampling.to_json(),
        "seed": seed,
    }


def own_answers(
    model: SteerableModel,
    conversations: Sequence[Conversation],
    *,
    samples: int = 1,
    sampling: Sampling,
    seed: int = 0,
    folder: Path,
    batch_size: int | None = None,
) -> list[list[OwnAnswer]]:
    """`samples` answers to each conversation. Equal conversations share theirs; what `folder` holds is not made again.

    Each answer's random stream depends on the seed, its conversation and its number alone: more samples or a longer list change
    none of the answers there are.

    Raises:
        InvalidInputError: `folder` holds answers made with other settings; also as `SteerableModel.generate`.
        PersonaInterpError: the disk is full; what was made is kept.
        InUseError: somebody else works in `folder`.
    """
    with folder_lock(folder):
        check_settings(folder / SETTINGS, answering_settings(model, sampling, seed))
        keys = [[content_key(conversation.to_json(), number) for number in range(samples)] for conversation in conversations]
        log = JsonlStore(folder / ANSWERS)
        missing = {
            key: conversation for row, conversation in zip(keys, conversations, strict=True) for key in row if key not in log
        }
        waiting = list(missing)

        def keep(row: int, answer: Generation) -> None:
            log.put(
                waiting[row],
                {"text": answer.text, "prompt_ids": list(answer.prompt_ids), "answer_ids": list(answer.answer_ids)},
            )

        if waiting:
            model.generate(
                list(missing.values()),
                sampling=sampling,
                seed=[derived_seed(f"{seed}/{key}") for key in waiting],
                batch_size=batch_size,
                on_generation=keep,
            )
        return [[_answer(log.get(key)) for key in row] for row in keys]


def _answer(entry: dict[str, Any]) -> OwnAnswer:
    prompt = tuple(map(int, entry["prompt_ids"]))
    return OwnAnswer(str(entry["text"]), TokenisedAnswer((*prompt, *map(int, entry["answer_ids"])), len(prompt)))
