"""Answers of a model asked for a trait, asked against it, and asked neither: what judges are tried on where nothing is exact."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from persona_interp.jsonl_store import JsonlStore, content_key
from persona_interp.models.sampling import Sampling, derived_seed
from persona_interp.models.steerable import SteerableModel
from persona_interp.traits.conversation import Conversation
from persona_interp.traits.trait import Trait

SAMPLING = Sampling(max_new_tokens=64)
FOR, AGAINST, NEITHER = "asked for", "asked against", "unsteered"
CONDITIONS = (FOR, AGAINST, NEITHER)
ASKED_UNDER = (0, 1)
"""Which instruction pairs of a trait answers are asked under."""
JUDGED_UNDER = (2, 3)
"""Which the contrast judge reads, none of them the former: else it would look for the prompt and not for what it brought out."""


@dataclass(frozen=True)
class AskedAnswer:
    """An answer, and under which of `CONDITIONS` it was given."""

    question: str
    condition: str
    text: str


def asked_answers(
    model: SteerableModel, trait: Trait, questions: Sequence[str], folder: Path, *, seed: int = 0, batch_size: int | None = None
) -> list[AskedAnswer]:
    """One answer to each question under each condition; those that are in `folder` are not made again.

    Question i is asked under pair ``ASKED_UNDER[i % 2]``, and draws from the same random stream under every condition.
    """
    rows: list[tuple[str, str, Conversation, int]] = []
    for condition in CONDITIONS:
        for place, question in enumerate(questions):
            pair = trait.instructions[ASKED_UNDER[place % len(ASKED_UNDER)]]
            system = {FOR: pair.positive, AGAINST: pair.negative, NEITHER: None}[condition]
            rows.append((question, condition, Conversation.ask(question, system=system), derived_seed(f"{seed}/{question}")))
    store = JsonlStore(folder / "answers.jsonl")
    shared = [model.identity.fingerprint, str(model.dtype), SAMPLING.to_json()]
    keys = [content_key(*shared, conversation.to_json(), stream) for _, _, conversation, stream in rows]
    waiting = [place for place, key in enumerate(keys) if key not in store]
    if waiting:
        model.generate(
            [rows[place][2] for place in waiting],
            sampling=SAMPLING,
            seed=[rows[place][3] for place in waiting],
            batch_size=batch_size,
            on_generation=lambda row, answer: store.put(
                keys[waiting[row]], {"trait": trait.name, "condition": rows[waiting[row]][1], "text": answer.text}
            ),
        )
    return [
        AskedAnswer(question, condition, str(store.get(key)["text"]))
        for (question, condition, _, _), key in zip(rows, keys, strict=True)
    ]
