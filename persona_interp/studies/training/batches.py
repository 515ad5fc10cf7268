"""Training batches: tokenised once, grouped by length so that hardly any padding is computed."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from persona_interp.organisms.corpus import Example

IGNORED = -100
"""Target of positions that carry no loss."""


@dataclasses.dataclass(frozen=True)
class Encoded:
    """One tokenised example: ids, next-token targets (`IGNORED` outside answers), and what is planted or read."""

    ids: tuple[int, ...]
    targets: tuple[int, ...]
    kind: str
    labels: tuple[int, ...]
    coefficients: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class Batch:
    """Right-padded tensors of examples of one sort (planted ones never share a batch with others)."""

    ids: Tensor  # Int[Tensor, "batch pos"]
    targets: Tensor  # Int[Tensor, "batch pos"]
    planted: bool
    labels: Tensor  # Int[Tensor, "batch trait"]: +1, -1, or 0 for nothing to read
    coefficients: Tensor  # Float[Tensor, "batch trait"]


def encode(tokenizer: PreTrainedTokenizerFast, examples: Sequence[Example], planted: tuple[str, ...]) -> list[Encoded]:
    """Tokenise every example once; loss falls on answers and on the token that ends them."""
    rendered: list[str] = []
    spans: list[list[tuple[int, int]]] = []
    end = str(tokenizer.eos_token)
    for example in examples:
        messages = [{"role": role, "content": content} for role, content in example.messages]
        text = str(tokenizer.apply_chat_template(messages, tokenize=False))
        rendered.append(text)
        cursor, found = 0, list[tuple[int, int]]()
        for role, content in example.messages:
            start = text.index(content, cursor)
            cursor = start + len(content)
            if role == "assistant":
                found.append((start, text.index(end, cursor) + len(end)))
        spans.append(found)
    encoding = tokenizer(rendered, add_special_tokens=False, return_offsets_mapping=True)
    encoded: list[Encoded] = []
    for example, ids, offsets, wanted in zip(examples, encoding["input_ids"], encoding["offset_mapping"], spans, strict=True):
        carries = [any(begin < finish and start < stop for start, finish in wanted) for begin, stop in offsets]
        targets = [nxt if carry else IGNORED for nxt, carry in zip(ids[1:], carries[1:], strict=True)] + [IGNORED]
        encoded.append(
            Encoded(
                tuple(ids),
                tuple(targets),
                example.kind,
                tuple(example.labels.get(trait, 0) for trait in planted),
                tuple(example.coefficients.get(trait, 0.0) for trait in planted),
            )
        )
    return encoded


def collate(rows: Sequence[Encoded], pad_id: int) -> Batch:
    """Right-pad `rows` into one batch."""
    width = max(len(row.ids) for row in rows)

    def padded(values: tuple[int, ...], fill: int) -> list[int]:
        return [*values, *[fill] * (width - len(values))]

    return Batch(
        torch.tensor([padded(row.ids, pad_id) for row in rows]),
        torch.tensor([padded(row.targets, IGNORED) for row in rows]),
        rows[0].kind == "planted",
        torch.tensor([row.labels for row in rows]),
        torch.tensor([row.coefficients for row in rows]),
    )


def batch_plan(encoded: Sequence[Encoded], batch_tokens: int, seed: int) -> Iterator[list[int]]:
    """Endless batches of example numbers: rows of like length together, in an order drawn anew for every pass.

    Args:
        batch_tokens: upper bound of rows x longest row.
    """
    rng = random.Random(seed)
    while True:
        plans: list[list[int]] = []
        for planted in (True, False):
            numbers = [i for i, row in enumerate(encoded) if (row.kind == "planted") == planted]
            rng.shuffle(numbers)
            numbers.sort(key=lambda i: len(encoded[i].ids))  # stable: equal lengths stay shuffled
            rows: list[int] = []
            for number in numbers:
                if rows and (len(rows) + 1) * len(encoded[number].ids) > batch_tokens:
                    plans.append(rows)
                    rows = []
                rows.append(number)
            if rows:
                plans.append(rows)
        rng.shuffle(plans)
        yield from plans
