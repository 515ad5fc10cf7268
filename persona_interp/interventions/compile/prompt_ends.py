"""Where the prompt of each row ends, when a model is called by other people's code, in one call or several."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from persona_interp.errors import InvalidInputError, UnsupportedError
from persona_interp.interventions.compile.model_call import ModelCall
from persona_interp.interventions.positions import prompts_only, row_spans
from persona_interp.shapes import PositionMask, TokenIds


@dataclass
class _Generation:
    """One run of a `generate`.

    Attributes:
        ids: its prompts, None where they are known from its first call only.
        mask: given with them.
        width: columns of the prompts, those in a cache among them; None until the first call.
        pads: whether some of `ids` are what the model calls pads.
    """

    ids: Tensor | None
    mask: Tensor | None
    width: int | None
    pads: bool

    def goes_on_in(self, other: _Generation) -> bool:
        """Whether `other`, begun inside this one, works on the same prompts: a model that is its own assistant."""
        ids, longer = self.ids, other.ids
        if ids is None or longer is None or ids.dim() != 2 or longer.dim() != 2 or self.width is None:
            return False
        return longer.shape[1] >= ids.shape[1] and longer.shape[0] == ids.shape[0] and torch.equal(longer[:, : ids.shape[1]], ids)


@dataclass(frozen=True)
class _Known:
    """What is known of the rows in a cache: columns of their prompts, and where those end."""

    width: int
    end: Int[Tensor, " batch"]


class PromptEnds:
    """Works out where prompts end.

    Given prompt lengths, or a mask of the prompts, settle it. Inside `generate` the prompt is what `generate` was given, in
    however many calls it reaches the model. Of other calls, one without cached tokens is a prompt, and one that holds a single
    token behind a cache an answer token. That leaves calls of which it cannot be known: several tokens behind a cache, and,
    without a cache, the ids of the call before and one more.

    Args:
        attention_mask: ``[batch pos]`` of the prompts.
        n_prompt: prompt tokens of each row.
    """

    def __init__(self, attention_mask: Tensor | None, n_prompt: Sequence[int] | None) -> None:
        self._mask = attention_mask
        self._n_prompt = None if n_prompt is None else list(n_prompt)
        self._generations: list[_Generation] = []
        self._caches: weakref.WeakKeyDictionary[Any, _Known] = weakref.WeakKeyDictionary()
        self._last_ids: TokenIds | None = None
        self._found: _Known | None = None

    @contextmanager
    def generating(self, module: nn.Module, ids: Any, mask: Any) -> Iterator[None]:
        """See `watched_generate.Generating`."""
        pad = getattr(getattr(module, "generation_config", None), "pad_token_id", None)
        pads = pad is not None and ids is not None and not ids.is_floating_point() and bool((ids == pad).any())
        known = mask if isinstance(mask, Tensor) and mask.dim() == 2 else None
        # with a mask, the ids may be the new ones only
        width = None if ids is None else ids.shape[1] if known is None else known.shape[1]
        begun = _Generation(ids, known, width, pads)
        outer = self._generations[-1] if self._generations else None
        if outer is not None and outer.goes_on_in(begun):
            begun = outer
        self._generations.append(begun)
        try:
            yield
        finally:
            place = max(place for place, open_one in enumerate(self._generations) if open_one is begun)
            del self._generations[place]  # not always the last one: answers that are streamed may end in any order
            self._last_ids = None

    def real(self, call: ModelCall) -> PositionMask:
        """``[batch pos]``, False at pads, of all columns up to the end of `call`.

        Raises:
            UnsupportedError: pads cannot be told.
            InvalidInputError: a mask of other rows.
        """
        generation = self._generations[-1] if self._generations else None
        if self._mask is not None:
            mask = self._mask
        elif call.mask is None or (isinstance(call.mask, Tensor) and call.mask.dim() == 2):
            mask = call.mask
        elif generation is not None and (generation.mask is not None or not generation.pads):
            mask = generation.mask  # `generate` makes the mask of each call out of this one
        else:
            raise UnsupportedError(
                "the model was called with an attention mask that is not [batch pos], so pads cannot be told from tokens: "
                "pass attention_mask=... of the prompts to steered()"
            )
        if mask is None:
            return torch.ones(call.n_rows, call.total, dtype=torch.bool, device=call.device)
        real = _of_rows(mask.to(device=call.device, dtype=torch.bool), call.n_rows)
        missing = call.total - real.shape[1]
        if missing <= 0:
            return real[:, : call.total]
        ones = real.new_ones(call.n_rows, missing)
        only_new = self._mask is None and mask is call.mask and real.shape[1] == call.width
        return torch.cat([ones, real] if only_new else [real, ones], dim=1)

    def find(self, call: ModelCall, real: PositionMask) -> Int[Tensor, " batch"] | None:
        """The column after the last prompt token of each row, None where it cannot be known.

        Raises:
            InvalidInputError: another number of prompt lengths than rows.
            UnsupportedError: prompts that `generate` was given with pads and without a mask, in several calls.
        """
        self._found = self._known(call, real)
        end = None if self._found is None else self._found.end
        self._last_ids = None if call.cached or self._generations else call.ids
        return None if end is None or _packed(call, real) else end

    def remember(self, call: ModelCall, cache: Any) -> None:
        """Keep what `find` found for later calls that go on from `cache`."""
        cache = call.cache if cache is None else cache
        if cache is not None and self._found is not None and not isinstance(cache, tuple | list):
            self._caches[cache] = self._found

    def unknown(self, call: ModelCall) -> str:
        """Why `find` found nothing, and what to do."""
        if call.cached:
            why = f"{call.width} tokens a row behind {call.cached} cached ones: the rest of a prompt, a new turn, or an answer"
        elif call.position_ids is not None and self._found is not None:
            why = "several texts packed into one row"
        else:
            why = "the ids of the call before and one more: a longer prompt, or an answer that is generated without a cache"
        return (
            f"the model was called with {why}. Where prompts end cannot be known, and the positions 'prompt' and 'response' and "
            "schedules depend on it: give n_prompt=[...] (prompt tokens of each row, cached ones among them) to the block that "
            "steers, enter a new block for each prompt, or let hf_model.generate(...) call the model"
        )

    def _known(self, call: ModelCall, real: PositionMask) -> _Known | None:
        if self._n_prompt is not None:
            if len(self._n_prompt) != call.n_rows:
                raise InvalidInputError(
                    f"n_prompt has {len(self._n_prompt)} entries, but the model was called with {call.n_rows} rows: give one each"
                )
            return _Known(call.total, row_spans(real, self._n_prompt).prompt_end)
        if self._mask is not None:
            return _ends_of(_of_rows(self._mask.to(call.device).bool(), call.n_rows))
        if self._generations:
            return self._generated(self._generations[-1], call, real)
        if call.cached:
            return self._behind_cache(call)
        return None if self._continues(call.ids) else _ends_of(real)

    def _generated(self, generation: _Generation, call: ModelCall, real: PositionMask) -> _Known:
        if generation.width is None:
            generation.width = call.total
        if call.total >= generation.width:
            return _ends_of(real[:, : generation.width])
        if generation.mask is not None:
            return _ends_of(_of_rows(generation.mask.to(call.device).bool(), call.n_rows))
        if generation.pads:
            raise UnsupportedError("prompts with pads reach the model in several calls: give generate() their attention_mask=...")
        return _ends_of(real.new_ones(call.n_rows, generation.width))

    def _behind_cache(self, call: ModelCall) -> _Known | None:
        if call.width > 1:
            return None
        known = self._caches.get(call.cache) if not isinstance(call.cache, tuple | list) else None
        if known is None:  # filled where nobody looked: taken for a prompt
            return _Known(call.cached, torch.full((call.n_rows,), call.cached, dtype=torch.long, device=call.device))
        if call.cached < known.width or len(known.end) != call.n_rows:
            return None  # cut back into its prompt, or other rows
        return known

    def _continues(self, ids: TokenIds | None) -> bool:
        last = self._last_ids
        if ids is None or last is None or ids.shape != (last.shape[0], last.shape[1] + 1):
            return False
        return bool(torch.equal(ids[:, :-1], last))


def _ends_of(prompts: PositionMask) -> _Known:
    return _Known(prompts.shape[1], prompts_only(prompts).prompt_end)


def _of_rows(mask: Tensor, n_rows: int) -> Tensor:
    """A mask of prompts for the rows of a call, of which beams and several sequences a prompt make more."""
    if not len(mask) or n_rows % len(mask):
        raise InvalidInputError(f"the attention mask has {len(mask)} rows, but the model is called with {n_rows}: give one a row")
    return mask.repeat_interleave(n_rows // len(mask), dim=0) if n_rows != len(mask) else mask


def _packed(call: ModelCall, real: PositionMask) -> bool:
    """Whether a row holds several texts one after another: its positions begin anew at a token."""
    positions = call.position_ids
    if not isinstance(positions, Tensor) or positions.dim() != 2 or call.width == 1:
        return False
    tokens = real[:, call.cached :].to(positions.device)
    begins = (positions[:, 1:] < positions[:, :-1]) & tokens[:, 1:] & tokens[:, :-1]
    return bool(begins.any())
