"""The engine that runs Hugging Face models in PyTorch, through nnsight."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from persona_interp.errors import UnsupportedError
from persona_interp.interventions.compile.readout import Captured, Readouts
from persona_interp.interventions.graph import InterventionGraph
from persona_interp.models.batching import PaddedBatch, pad, scoring_rows
from persona_interp.models.chat import TokenisedAnswer
from persona_interp.models.checks import verified_blocks
from persona_interp.models.continuations import Walker
from persona_interp.models.engines.capabilities import REMOTE, TORCH
from persona_interp.models.engines.nnsight.running_batch import RunningBatch
from persona_interp.models.engines.nnsight.shared_prompts import SharedRows, shared_rows
from persona_interp.models.engines.nnsight.traced import Restart, TracedModel
from persona_interp.models.engines.protocol import Answered, Engine, OnStep
from persona_interp.models.families import context_length, layout_of, text_config
from persona_interp.models.identity import fingerprint
from persona_interp.models.placement import runs_here, token_device
from persona_interp.models.row_sampler import RowSampler, drawn_up_to, telling
from persona_interp.models.sampling import Sampling


class NnsightEngine(Engine):
    """A Hugging Face causal language model, padded on the left and run inside nnsight traces.

    nnsight wraps the `forward` of every module, for good; outside a trace that wrapper hands calls straight on. Weights, hooks,
    training mode, gradients and generation settings stay as they were.

    Args:
        hf_model: a causal language model.
        tokenizer: copied, because nnsight changes its padding side.
        remote: handed to nnsight: True runs on NDIF, "local" takes the same way of serialising on this machine.
        name: how errors call the model.
        revision: of the hub repository that NDIF is to run; None: the one it serves by default.

    Raises:
        UnsupportedError: the architecture is not known or does not fit its layout.
    """

    def __init__(
        self, hf_model: nn.Module, tokenizer: Any, *, remote: bool | str = False, name: str, revision: str | None = None
    ) -> None:
        self.hf_model: Any = hf_model
        self.name, self.config = name, self.hf_model.config
        self.capabilities = REMOTE if remote else TORCH
        self.layout = layout_of(self.config)
        self.n_layers = len(verified_blocks(hf_model, self.layout, name))
        self.n_ctx = context_length(self.config)
        pad_id = tokenizer.pad_token_id
        self._pad_id = 0 if pad_id is None else int(pad_id)
        self._traced = TracedModel(hf_model, tokenizer, self.layout, remote=remote, name=name, revision=revision)

    @property
    def dtype(self) -> torch.dtype:
        """See `Engine.dtype`."""
        return self.hf_model.dtype

    @property
    def device(self) -> torch.device:
        """Where the embedding is, or the CPU if the weights are elsewhere (remote)."""
        return token_device(self.hf_model)

    @property
    def runs_here(self) -> bool:
        """Not so on NDIF."""
        return runs_here(self.hf_model)

    @property
    def fingerprint(self) -> str:
        """Of the weights as they are now."""
        return fingerprint(self.hf_model)

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        graph: InterventionGraph,
        sampling: Sampling,
        seeds: Sequence[int],
        *,
        end_ids: frozenset[int],
        on_step: OnStep | None = None,
    ) -> list[Answered]:
        """See `Engine.generate`."""
        readouts = Readouts(graph.captures, self.n_layers)
        told = telling(on_step, readouts) if self.capabilities.streams else None
        sampler = RowSampler(sampling, seeds, told, min(end_ids, default=None), self.name, self.dtype)
        ids = self._traced.generate(
            self._pad(prompts), graph, readouts, sampler=sampler, max_new_tokens=sampling.max_new_tokens, end_ids=end_ids
        )
        return [Answered(drawn_up_to(answer, end_ids), readouts.result(row)) for row, answer in enumerate(ids.tolist())]

    def next_logits(self, prompts: Sequence[Sequence[int]], graph: InterventionGraph) -> Float[Tensor, "batch vocab"]:
        """See `Engine.next_logits`."""
        logits = self._traced.forward(self._pad(prompts), graph, Readouts((), self.n_layers), n_logits=1)
        if logits is None:
            raise RuntimeError("the model returned no logits")
        return logits[:, 0].float().cpu()

    def capture(self, rows: Sequence[TokenisedAnswer], graph: InterventionGraph) -> list[Captured]:
        """See `Engine.capture`."""
        readouts = Readouts(graph.captures, self.n_layers)
        self._traced.forward(self._padded(rows), graph, readouts, n_logits=0)
        return [readouts.result(row) for row in range(len(rows))]

    def log_probs(
        self, rows: Sequence[TokenisedAnswer], graphs: Sequence[InterventionGraph]
    ) -> list[list[Float[Tensor, " n_answer"]]]:
        """See `Engine.log_probs`.

        With several graphs the residual stream is read once, unsteered, at the layers where a graph begins to write; each graph
        then runs from its own layer on. With one graph that leaves prompts alone, a prompt that rows share is run once. The
        numbers are those of full forwards.
        """
        size = len(rows)
        if self._traced.head is None:  # what it then makes of a batch are the logits of every answer position at once
            size = scoring_rows(text_config(self.config), [len(row.answer_ids) for row in rows])
        found: list[list[Tensor]] = [[] for _ in graphs]
        for start in range(0, len(rows), size):
            places = range(start, min(start + size, len(rows)))
            chosen = [rows[place] for place in places]
            answers = [row.answer_ids for row in chosen]
            if len(graphs) == 1 and (shared := self._shared(chosen, graphs[0])) is not None:
                found[0] += self._traced.log_probs(shared, graphs[0].for_rows(places), answers)
                continue
            part = self._padded(chosen)
            layers = restart_layers(graphs) if self.capabilities.restarts else []
            resid = self._traced.residuals(part, layers) if layers else {}
            for scored, graph in zip(found, graphs, strict=True):
                layer = _begins(graph, otherwise=max(layers, default=None))
                begin = Restart(layer, resid[layer]) if layer is not None and layer in resid else None
                scored += self._traced.log_probs(part, graph.for_rows(places), answers, start=begin)
        return found

    def gradient(
        self, rows: Sequence[TokenisedAnswer], layers: Sequence[int], weights: Sequence[Float[Tensor, " _"]]
    ) -> Float[Tensor, "batch layer d_model"]:
        """See `Engine.gradient`.

        Raises:
            UnsupportedError: the model is quantized in a way that passes no gradient.
        """
        return self._traced.gradient(self._padded(rows), layers, [row.answer_ids for row in rows], weights)

    def unembed(self, resid: Float[Tensor, "row d_model"]) -> Float[Tensor, "row vocab"]:
        """See `Engine.unembed`."""
        return self._traced.unembed(resid)

    def walks(self, longest: int) -> bool:
        """See `Engine.walks`; found out on a few tokens, once."""
        return self._traced.walks(longest)

    def walking(self, shared: Sequence[int], likely: Sequence[tuple[int, ...]], longest: int) -> AbstractContextManager[Walker]:
        """See `Engine.walking`."""
        return self._traced.walking(shared, likely)

    def _shared(self, rows: Sequence[TokenisedAnswer], graph: InterventionGraph) -> SharedRows | None:
        """Where the model was seen to answer the same behind a cache of keys and values with gaps."""
        longest = 2 * max(len(row.fed) for row in rows)  # pads of prompts and of answers
        found = shared_rows(rows, graph, self._pad_id, self.device)
        return found if found is not None and self._traced.head is not None and self._traced.walks(longest) else None

    def running_batch(self) -> RunningBatch:
        """An empty batch whose rows come and go between steps, for servers.

        Raises:
            UnsupportedError: the model remembers more of a text than keys and values, or runs elsewhere.
        """
        if not self.capabilities.streams:
            raise UnsupportedError(f"{self.name} runs on a remote server: its steps cannot be told apart here")
        return RunningBatch(self.hf_model, self.layout, self._traced.running, self._pad_id)

    def _padded(self, rows: Sequence[TokenisedAnswer]) -> PaddedBatch:
        return self._pad([row.fed for row in rows], [row.n_prompt for row in rows])

    def _pad(self, rows: Sequence[Sequence[int]], n_prompt: Sequence[int] | None = None) -> PaddedBatch:
        return pad(rows, n_prompt or [len(row) for row in rows], self._pad_id, self.device)


def restart_layers(graphs: Sequence[InterventionGraph]) -> list[int]:
    """Layers whose residuals are read first, so that the forward of each graph can begin where it writes."""
    return sorted({layer for layer in map(_begins, graphs) if layer is not None}) if len(graphs) > 1 else []


def _begins(graph: InterventionGraph, otherwise: int | None = None) -> int | None:
    return min((write.layer for write in graph.writes), default=otherwise)
