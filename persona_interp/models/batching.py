"""Rows run together: padded on the left, sorted by length, and fewer at a time when memory runs out."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Int

from persona_interp.errors import InvalidInputError, PersonaInterpError
from persona_interp.interventions.positions import Spans
from persona_interp.models.memory import RowBytes, give_back, pass_bytes
from persona_interp.progress import say
from persona_interp.shapes import TokenIds

TOKENS_PER_BATCH = 16384
ROWS_PER_BATCH = 64
MOST_ROWS = 256
CACHE_PER_BATCH = 2**29
"""Bytes of keys and values up to which more than 64 rows are generated together: a small model is faster with many."""
LOGITS_PER_BATCH = 2**26
"""Logits, 256 MiB in float32, of engines that make those of every answer position at once (llama.cpp, NDIF)."""


@dataclass(frozen=True)
class PaddedBatch:
    """Token ids ``[batch pos]`` padded on the left, and where prompts and answers lie."""

    ids: TokenIds
    spans: Spans

    @property
    def attention_mask(self) -> TokenIds:
        """1 at tokens, 0 at pads."""
        return self.spans.real.long()

    @property
    def position_ids(self) -> Int[torch.Tensor, "batch pos"]:
        """Counted from each row's first token, so that padding moves nothing."""
        return (self.attention_mask.cumsum(dim=1) - 1).clamp(min=0)

    @property
    def inputs(self) -> dict[str, torch.Tensor]:
        """As a model of transformers takes them."""
        return {"input_ids": self.ids, "attention_mask": self.attention_mask, "position_ids": self.position_ids}


def pad(rows: Sequence[Sequence[int]], n_prompt: Sequence[int], pad_id: int, device: torch.device) -> PaddedBatch:
    """Put rows of different lengths, of which the first `n_prompt` tokens each are the prompt, into one batch."""
    width = max(len(row) for row in rows)
    ids = torch.full((len(rows), width), pad_id, dtype=torch.long)
    real = torch.zeros(len(rows), width, dtype=torch.bool)
    for place, row in enumerate(rows):
        ids[place, width - len(row) :] = torch.tensor(row, dtype=torch.long)
        real[place, width - len(row) :] = True
    prompt_end = torch.tensor([width - len(row) + n for row, n in zip(rows, n_prompt, strict=True)])
    return PaddedBatch(ids.to(device), Spans(real.to(device), prompt_end.to(device)))


def generation_rows(config: Any, dtype: torch.dtype, n_tokens: int) -> int:
    """How many rows to generate together at most: 64, and up to 256 where their keys and values are small.

    Args:
        config: the text part of a Hugging Face config.
        dtype: of the cache.
        n_tokens: the longest row, answer included.
    """
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    a_row = 2 * config.num_hidden_layers * heads * head_dim * dtype.itemsize * max(1, n_tokens)
    return max(ROWS_PER_BATCH, min(MOST_ROWS, CACHE_PER_BATCH // a_row))


def scoring_rows(config: Any, answer_lengths: Sequence[int]) -> int:
    """How many rows to score together at most, where an engine makes the logits of all answer positions at once."""
    logits_a_row = config.vocab_size * max(answer_lengths, default=0)
    return min(ROWS_PER_BATCH, max(1, LOGITS_PER_BATCH // max(1, logits_a_row)))


def check_lengths(lengths: Sequence[int], new_tokens: int, n_ctx: int, model_name: str) -> None:
    """Refuse rows that cannot be run.

    Raises:
        InvalidInputError: a row without tokens, or one that does not fit into the context with its new tokens.
    """
    for row, length in enumerate(lengths):
        if length == 0:
            raise InvalidInputError(f"row {row} has no tokens: {model_name} needs at least one to start from")
        if length + new_tokens > n_ctx:
            more = f" and {new_tokens} new tokens" if new_tokens else ""
            raise InvalidInputError(
                f"row {row} does not fit into the context of {model_name}: {length} tokens{more} are "
                f"{length + new_tokens}, the context is {n_ctx}; shorten the text or lower max_new_tokens"
            )


@dataclass(frozen=True)
class Room:
    """What bounds the batches of one pass.

    Attributes:
        most: rows.
        a_row: bytes of a row, where they are known.
        device: on which they are needed.
        tokens: of all rows together, their pads counted.
    """

    most: int = ROWS_PER_BATCH
    a_row: RowBytes | None = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    tokens: int = TOKENS_PER_BATCH

    def rows(self, length: int, batch_size: int | None = None) -> int:
        """How many rows of `length` tokens fit, at least one; with a batch size asked for, that many if they do."""
        fits = self.most if batch_size is None else batch_size
        if self.a_row is not None:
            fits = pass_bytes(self.device, asked=batch_size is not None) // max(1, self.a_row(length))
        wanted = min(self.most, self.tokens // max(1, length)) if batch_size is None else batch_size
        return max(1, min(wanted, fits))

    def bytes_of(self, n_rows: int, length: int) -> int:
        """What a batch needs; 0 where that is not known."""
        return 0 if self.a_row is None else n_rows * self.a_row(length)


ANY_ROOM = Room()
PACKED = Room(most=1024, tokens=2**22)
"""For engines that batch rows themselves: enough at a time to keep them busy, few enough that results come as they are ready."""


def buckets(
    lengths: Sequence[int], batch_size: int | None, room: Room = ANY_ROOM, alike: Sequence[Hashable] | None = None
) -> list[list[int]]:
    """Indices grouped into batches of similar length, longest first, so that memory runs out at once or not at all.

    Args:
        lengths: tokens of each row, answers to come included.
        batch_size: rows in a batch, fewer only where their memory is not there; None: as many as `room` has, and as keep a batch
            under 16384 tokens.
        room: what bounds a batch.
        alike: what rows have in common that should stand next to each other, such as a prompt.

    Raises:
        InvalidInputError: a batch size below 1.
    """
    if batch_size is not None and batch_size < 1:
        raise InvalidInputError(f"batch_size is {batch_size}, expected at least 1, or None to let the model choose")
    kinds = alike or range(len(lengths))
    longest: dict[Hashable, tuple[int, int]] = {}
    for index, kind in enumerate(kinds):
        longest[kind] = min(longest.get(kind, (0, index)), (-lengths[index], index))
    order = sorted(range(len(lengths)), key=lambda index: (longest[kinds[index]], -lengths[index], index))
    groups: list[list[int]] = []
    while order:
        size = room.rows(-longest[kinds[order[0]]][0], batch_size)
        groups.append(order[:size])
        order = order[size:]
    return groups


def run_in_batches(
    lengths: Sequence[int],
    run: Callable[[list[int]], None],
    *,
    batch_size: int | None,
    what: str,
    room: Room = ANY_ROOM,
    alike: Sequence[Hashable] | None = None,
) -> None:
    """Call `run` with the row indices of each batch; halve the batch when memory runs out, and say so.

    Args:
        lengths: tokens of each row.
        run: runs one batch; must be safe to repeat for the same rows after it failed.
        batch_size: see `buckets`.
        what: the job, for messages.
        room: see `buckets`.
        alike: see `buckets`.

    Raises:
        PersonaInterpError: a single row does not fit into memory.
    """
    waiting = buckets(lengths, batch_size, room, alike)
    if batch_size is not None and waiting and len(waiting[0]) < min(batch_size, len(lengths)):
        say(f"there is no memory for {what} {batch_size} rows at a time; {len(waiting[0])} are run together")
    while waiting:
        rows = waiting.pop(0)
        if _fits(run, rows):
            give_back(room.device, room.bytes_of(len(rows), lengths[rows[0]]))
            continue
        if len(rows) == 1:
            raise PersonaInterpError(
                f"out of memory while {what} a single row of {lengths[rows[0]]} tokens: use a smaller model or dtype, shorter "
                "texts, fewer new tokens, or captures with reduction 'mean'"
            )
        half = (len(rows) + 1) // 2
        say(f"out of memory while {what} {len(rows)} rows at a time; going on with {half}")
        left = [index for group in [rows, *waiting] for index in group]
        waiting = [left[start : start + half] for start in range(0, len(left), half)]


def _fits(run: Callable[[list[int]], None], rows: list[int]) -> bool:
    try:
        run(rows)
    except (torch.OutOfMemoryError, RuntimeError, MemoryError) as error:
        if not _is_out_of_memory(error):
            raise
    else:
        return True
    # outside the except clause: the traceback, and the tensors it holds, are gone
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return False


def _is_out_of_memory(error: Exception) -> bool:
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error).lower()
    return "out of memory" in text or "can't allocate memory" in text or "not enough memory" in text
