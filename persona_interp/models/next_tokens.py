"""What a model would say next: its verbs about a single token, and what all its verbs check and pad in the same way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from persona_interp.interventions.graph import Capture, InterventionGraph
from persona_interp.models.batching import check_lengths, run_in_batches
from persona_interp.models.continuations import Grow, shared_start, walk_anew
from persona_interp.models.engines.capabilities import Capabilities, Need
from persona_interp.models.engines.protocol import Engine
from persona_interp.models.engines.registry import check
from persona_interp.models.families import text_config
from persona_interp.models.finite import check_finite, check_scores
from persona_interp.models.rooms import Rooms
from persona_interp.profiling import count_tokens

NOTHING = InterventionGraph()
WALKED_TOGETHER = 8
"""Prompts whose continuations are walked together."""
_Model = TypeVar("_Model", bound="NextTokens")


class NextTokens:
    """The part of a `SteerableModel` that predicts one token; not to be made alone.

    To be used in a ``with`` block, where a model holds memory outside Python.
    """

    name: str
    tokenizer: Any
    engine: Engine
    config: Any
    n_layers: int
    d_model: int
    n_ctx: int

    @property
    def capabilities(self) -> Capabilities:
        """What its engine can do."""
        return self.engine.capabilities

    @property
    def first_steerable_layer(self) -> int:
        """The first block whose output can be written to."""
        return self.capabilities.first_layer

    @property
    def device(self) -> torch.device:
        """Where token ids go: to the embedding, or the CPU if the weights are elsewhere (remote, GGUF)."""
        return self.engine.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return self.engine.dtype

    def close(self) -> None:
        """Free what the engine holds outside Python, after which its verbs raise; a PyTorch model stays usable."""
        self.engine.close()

    def __enter__(self: _Model) -> _Model:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def unembed(self, resid: Float[Tensor, "row d_model"]) -> Float[Tensor, "row vocab"]:
        """Logits that the final norm and the unembedding read off residuals (a logit lens), float32 on the CPU.

        Raises:
            UnsupportedError: the engine has no unembedding at hand.
            PersonaInterpError: they are NaN or infinite.
        """
        self._check(NOTHING, 0, "unembedding")
        return check_scores(self.engine.unembed(resid), "unembedding", self.name, self.dtype)

    def next_token_logits(
        self, prompt_ids: Sequence[Sequence[int]], *, graph: InterventionGraph | None = None, batch_size: int | None = None
    ) -> Float[Tensor, "batch vocab"]:
        """The logits of the token that would follow each prompt, float32 on the CPU.

        Raises:
            InvalidInputError: an empty prompt, or one longer than the context; also as `InterventionGraph.check`.
            PersonaInterpError: they are NaN or infinite.
        """
        graph = InterventionGraph((graph or NOTHING).writes)
        self._check(graph, len(prompt_ids), "likelihoods")
        self._check_lengths([len(ids) for ids in prompt_ids], 0)
        results = torch.zeros(len(prompt_ids), text_config(self.config).vocab_size, dtype=torch.float32)

        def run(rows: list[int]) -> None:
            prompts = [prompt_ids[row] for row in rows]
            count_tokens(read=sum(map(len, prompts)))
            results[rows] = self.engine.next_logits(prompts, graph.for_rows(rows))

        room = self._rooms.predicting()
        run_in_batches([len(ids) for ids in prompt_ids], run, batch_size=batch_size, what="reading", room=room)
        return check_scores(results, "next token", self.name, self.dtype)

    def walk(
        self,
        prompt_ids: Sequence[Sequence[int]],
        grow: Grow,
        *,
        depth: int,
        likely: Sequence[tuple[int, ...]] = (),
        batch_size: int | None = None,
    ) -> None:
        """Ask what would follow each prompt, and then what would follow the tokens that `grow` answers with, and so on.

        Unsteered. Each prompt is run once, and what all of them begin with once for all; continuations are walked over its keys
        and values, where the engine can do that exactly, and cost one token each. Rows are padded on the left and do not depend
        on each other; the logits are those of plain forwards up to the rounding of the dtype.

        Args:
            prompt_ids: token ids.
            grow: given row, path and next-token logits (float32 on the CPU), names the tokens to go on with; none ends a path.
            depth: tokens of the longest path that `grow` asks for.
            likely: a few paths that `grow` will probably ask for behind every prompt, each behind those it grows on: they may be
                run along with the prompts. Others cost a call of their own; the results are the same.
            batch_size: prompts at a time; 8 if None. Halved when memory runs out.

        Raises:
            InvalidInputError: an empty prompt, or one that does not fit into the context together with `depth` tokens.
            PersonaInterpError: logits are NaN or infinite.
        """
        prompts = [tuple(ids) for ids in prompt_ids]
        self._check(NOTHING, len(prompts), "likelihoods")
        self._check_lengths([len(ids) for ids in prompts], depth)
        if not prompts:
            return
        size = batch_size or WALKED_TOGETHER

        def checked(row: int, path: tuple[int, ...], logits: Tensor) -> Sequence[int]:
            return grow(row, path, check_scores(logits, f"row {row}, next token", self.name, self.dtype))

        longest = max(map(len, prompts))
        if not self.engine.walks(longest):
            walk_anew(prompts, checked, lambda ids: self.next_token_logits(ids, batch_size=size), size)
            return
        n_shared = shared_start(prompts)
        with self.engine.walking(prompts[0][:n_shared], likely, longest + depth) as walker:

            def run(rows: list[int]) -> None:
                own = [prompts[row][n_shared:] for row in rows]
                count_tokens(read=sum(map(len, own)))
                walker(own, lambda place, path, logits: checked(rows[place], path, logits))

            run_in_batches([len(ids) for ids in prompts], run, batch_size=size, what="walking")

    @property
    def _rooms(self) -> Rooms:
        return Rooms(self.config, self.dtype, self.device, known=self.engine.runs_here, packed=self.engine.packs_rows)

    def _finite(self, values: Tensor, what: str) -> Tensor:
        return check_finite(values, what, self.name, self.dtype)

    def _all_finite(self, captured: Mapping[Capture, Tensor]) -> dict[Capture, Tensor]:
        return {capture: self._finite(values, "values of the residual stream") for capture, values in captured.items()}

    def _check(self, graph: InterventionGraph, n_rows: int, *needs: Need) -> None:
        graph.check(n_layers=self.n_layers, d_model=self.d_model, n_rows=n_rows, model_name=self.name)
        check(graph, self.capabilities, self.name, needs)

    def _check_lengths(self, lengths: Sequence[int], new_tokens: int) -> None:
        check_lengths(lengths, new_tokens, self.n_ctx, self.name)
