"""Walking a tree of continuations over the keys and values of its prompt: one forward of the prompt, and few tokens more.

All twigs of a row stand in one sequence behind its prompt, and an attention mask lets each see the prompt and the tokens it grew
on, but not its neighbours. So nothing is copied, and fifty numbers cost fifty tokens.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from transformers import DynamicCache

from persona_interp.errors import UnsupportedError
from persona_interp.interventions.compile.model_call import cache_name, cache_of
from persona_interp.models.batching import pad
from persona_interp.models.continuations import Grow, Twig
from persona_interp.models.families import text_config
from persona_interp.shapes import TokenIds

LOGITS_AT_ONCE = 2**25
"""128 MiB in float32."""
_DEEPEST = 16
"""Tokens of a path, at most, where a window slides over the prompt."""
_CLOSE = {torch.float32: 1e-3, torch.float64: 1e-3}
_CLOSE_HALF = 0.05


@dataclass(frozen=True)
class _Grown(Twig):
    columns: tuple[int, ...] = ()
    """Where the keys of the tokens it grew on lie."""


class CacheWalk:
    """Walks prompts of one model that begin alike; a `Walker`. The model must be ready to be run: see `inference_only`.

    Args:
        hf_model: a causal language model for which `walks_exactly` holds.
        shared: the tokens all prompts begin with, run once; may be empty.
        likely: paths run along with every prompt, as a handful of tokens more costs less there than in a call of their own. Each
            stands behind those it grows on.
        device: where token ids go.
    """

    def __init__(self, hf_model: Any, shared: Sequence[int], likely: Sequence[tuple[int, ...]], device: torch.device) -> None:
        self._hf_model, self._likely, self._device, self._n_shared = hf_model, list(likely), device, len(shared)
        self._stem: Any = None
        self._cache_name = cache_name(hf_model)
        if shared:
            ids = torch.tensor([list(shared)], device=device)
            # without a config: no layer forgets what slid out of its window, so that columns stay where they are
            empty = {self._cache_name: DynamicCache()}
            self._stem = cache_of(hf_model(input_ids=ids, **empty, use_cache=True, logits_to_keep=1))

    def __call__(self, rows: Sequence[Sequence[int]], grow: Grow) -> None:
        """Walk the prompts whose ends are `rows`."""
        batch = pad(rows, [len(row) for row in rows], 0, self._device)
        own = batch.spans.real.cpu()
        self._real = torch.cat([own.new_ones(len(rows), self._n_shared), own], dim=1)
        self._lengths, self._width = self._real.sum(dim=1), self._n_shared
        self._cache: Any = DynamicCache() if self._stem is None else copy.deepcopy(self._stem)
        if self._stem is not None:
            self._cache.reorder_cache(torch.zeros(len(rows), dtype=torch.long, device=self._device))
        guesses = self._guesses(len(rows))
        found = self._step(guesses, batch.ids.cpu())
        known = {path: place for place, path in enumerate(self._likely)}
        columns = {twig.path: (*twig.columns, self._width - len(known) + place) for place, twig in enumerate(guesses[0])}
        waiting: list[list[_Grown]] = [[] for _ in rows]
        for row, logits in enumerate(found):
            asked = [((), token) for token in grow(row, (), logits[0])]
            while asked:
                before, token = asked.pop(0)
                path = (*before, token)
                if path in known:
                    asked += [(path, after) for after in grow(row, path, logits[1 + known[path]])]
                else:
                    waiting[row].append(_Grown(row, path, columns.get(before, ())))
        self._walk_on(waiting, grow, max(1, LOGITS_AT_ONCE // (len(rows) * found.shape[-1])))

    def _guesses(self, n_rows: int) -> list[list[_Grown]]:
        """The likely paths of every row, which lie right behind the prompts."""
        first = self._real.shape[1]
        columns: dict[tuple[int, ...], tuple[int, ...]] = {(): ()}
        twigs: list[_Grown] = []
        for place, path in enumerate(self._likely):
            twigs.append(_Grown(0, path, columns[path[:-1]]))
            columns[path] = (*columns[path[:-1]], first + place)
        return [twigs] * n_rows

    def _walk_on(self, waiting: list[list[_Grown]], grow: Grow, most: int) -> None:
        while any(waiting):
            now = [twigs[:most] for twigs in waiting]
            waiting = [twigs[most:] for twigs in waiting]
            first = self._width
            found = self._step(now)
            for row, twigs in enumerate(now):
                for place, twig in enumerate(twigs):
                    columns = (*twig.columns, first + place)
                    tokens = grow(row, twig.path, found[row, place])
                    waiting[row] += [_Grown(row, (*twig.path, token), columns) for token in tokens]

    def _step(self, twigs: Sequence[Sequence[_Grown]], prompts: TokenIds | None = None) -> Float[Tensor, "batch kept vocab"]:
        """The logits behind twigs, whose last tokens are run; with `prompts` those too, and their logits come first.

        Float32 on the CPU.
        """
        n_rows, size, n_before = len(twigs), max(map(len, twigs)), 0 if prompts is None else prompts.shape[1]
        ids = torch.zeros(n_rows, n_before + size, dtype=torch.long)
        places = torch.zeros_like(ids)
        seen = torch.zeros(n_rows, n_before + size, self._width + n_before + size, dtype=torch.bool)
        seen[:, :, : self._real.shape[1]] = self._real.unsqueeze(1)
        if prompts is not None:
            ids[:, :n_before] = prompts
            places[:, :n_before] = (self._real.long().cumsum(dim=1) - 1).clamp(min=0)[:, self._width :]
            seen[:, :n_before] &= torch.ones_like(seen[0, :n_before]).tril(self._width)
            seen[:, :n_before].diagonal(self._width, 1, 2).fill_(True)  # a pad sees itself: of nothing there is no average
        for row, own in enumerate(twigs):
            for place, twig in enumerate(own):
                ids[row, n_before + place] = twig.path[-1]
                places[row, n_before + place] = self._lengths[row] + len(twig.path) - 1
                seen[row, n_before + place, [*twig.columns, self._width + n_before + place]] = True
        self._width += n_before + size
        outputs = self._hf_model(
            input_ids=ids.to(self._device),
            attention_mask=_additive(seen, self._hf_model.dtype, self._device),
            position_ids=places.to(self._device),
            **{self._cache_name: self._cache},
            use_cache=True,
            logits_to_keep=size + (prompts is not None),
        )
        self._cache = cache_of(outputs)
        return outputs.logits.float().cpu()


def walks_exactly(hf_model: Any, device: torch.device) -> bool:
    """Whether the model heeds a mask of this kind: tried out on a few tokens, against plain forwards. Run as `CacheWalk`.

    Not so where attention is written in a way that takes no such mask, or where other memory than keys and values goes along.
    """
    config = text_config(hf_model.config)
    if set(getattr(config, "layer_types", None) or ()) - {"full_attention", "sliding_attention"}:
        return False
    n_ids = min(int(config.vocab_size), 97)
    prompts = [[number % n_ids for number in range(1, 8)], [number % n_ids for number in (1, 2, 5)]]
    paths = {(): (3 % n_ids, 4 % n_ids, 5 % n_ids), (3 % n_ids,): (6 % n_ids, 2 % n_ids)}
    walked: dict[tuple[int, tuple[int, ...]], Tensor] = {}

    def grow(row: int, path: tuple[int, ...], logits: Tensor) -> Sequence[int]:
        walked[row, path] = logits
        return paths.get(path, ())

    try:
        CacheWalk(hf_model, prompts[0][:2], [(3 % n_ids,), (3 % n_ids, 6 % n_ids)], device)([row[2:] for row in prompts], grow)
    except (UnsupportedError, TypeError, ValueError, AttributeError, RuntimeError, IndexError):
        return False  # what it takes instead cannot be known: every path is then run from its beginning
    close = _CLOSE.get(hf_model.dtype, _CLOSE_HALF)
    for (row, path), logits in walked.items():
        ids = torch.tensor([[*prompts[row], *path]], device=device)
        plain = hf_model(input_ids=ids, use_cache=False, logits_to_keep=1).logits[0, -1].float().cpu()
        if not float((plain - logits).abs().max()) <= close * max(1.0, float(plain.abs().max())):
            return False
    return True


def within_window(config: Any, longest: int) -> bool:
    """Whether no layer that looks back a limited way would miss a token of a prompt of `longest` tokens and its twigs.

    Args:
        config: the text part of a Hugging Face config.
        longest: pads included.
    """
    kinds = getattr(config, "layer_types", None)
    window = getattr(config, "sliding_window", None)
    if not window or (kinds is not None and "sliding_attention" not in kinds):
        return True
    return longest + _DEEPEST <= int(window)


def _additive(seen: Bool[Tensor, "batch query key"], dtype: torch.dtype, device: torch.device) -> Tensor:
    """The mask as transformers takes it ready-made: added to the scores of attention."""
    mask = torch.full(seen.shape, torch.finfo(dtype).min, dtype=dtype)
    return mask.masked_fill(seen, 0).unsqueeze(1).to(device)
