"""Padded batches through a Hugging Face model in nnsight traces. No other file of this package calls nnsight on a model."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import nnsight
import torch
from jaxtyping import Float
from nnsight import TransformersModel
from torch import Tensor, nn
from transformers import GenerationConfig, LogitsProcessorList

from persona_interp.errors import PersonaInterpError, UnsupportedError
from persona_interp.interventions.compile.eager import uncompiled
from persona_interp.interventions.compile.model_call import cache_name
from persona_interp.interventions.compile.nnsight import TracedGraph
from persona_interp.interventions.compile.readout import Readouts
from persona_interp.interventions.compile.stacked import stack_writes
from persona_interp.interventions.graph import InterventionGraph
from persona_interp.interventions.positions import decode_masks
from persona_interp.models.batching import PaddedBatch
from persona_interp.models.continuations import Walker
from persona_interp.models.engines.nnsight.cache_walk import CacheWalk, walks_exactly, within_window
from persona_interp.models.engines.nnsight.shared_prompts import SharedRows, last_column, shared_prompts
from persona_interp.models.families import FamilyLayout, text_config
from persona_interp.models.generation_settings import plain_settings
from persona_interp.models.inference import frozen, inference_only
from persona_interp.models.placement import left_in_place, token_device
from persona_interp.models.remote import remote_errors
from persona_interp.models.row_sampler import RowSampler
from persona_interp.models.turns import Turns
from persona_interp.models.unembedding import (
    Head,
    answer_log_probs,
    answer_states,
    capped_head,
    chosen_log_probs,
    log_prob_gradients,
    token_log_probs,
)
from persona_interp.shapes import Residual, TokenIds

_NO_GRADIENT = "{} passes no gradient to its residual stream: use method 'likelihood' instead"
_LOCKS: weakref.WeakKeyDictionary[nn.Module, Turns] = weakref.WeakKeyDictionary()


class _WhereverPut(TransformersModel):
    """Gives inputs to where they are wanted, also where the weights are offloaded and the first of them is nowhere."""

    @property
    def device(self) -> torch.device | None:
        """Where inputs go."""
        return token_device(self._module)


@dataclass(frozen=True)
class Restart:
    """Where a forward begins in the middle.

    Attributes:
        layer: the last block that is not run.
        resid: its output for the batch, unsteered.
    """

    layer: int
    resid: Residual


class TracedModel:
    """Runs padded batches of one model inside nnsight traces, one at a time; `NnsightEngine` says what they leave as it was.

    Args:
        hf_model: a causal language model.
        tokenizer: copied, because nnsight changes its padding side.
        layout: where the blocks and the embedding are.
        remote: handed to nnsight, see `NnsightEngine`.
        name: how errors call the model.
        revision: of the hub repository that NDIF is to run; None: the one it serves by default.
    """

    def __init__(
        self,
        hf_model: Any,
        tokenizer: Any,
        layout: FamilyLayout,
        *,
        remote: bool | str = False,
        name: str = "this model",
        revision: str | None = None,
    ) -> None:
        self._hf_model = hf_model
        self._layout = layout
        self._remote = remote
        self._name = name
        self._lock = _LOCKS.setdefault(hf_model, Turns())
        if remote:
            nnsight.register("persona_interp")  # its source goes with each request: the servers do not have it installed
        kind = TransformersModel if remote else _WhereverPut
        with self._lock, left_in_place(hf_model) as device:
            self._traced = kind(hf_model, tokenizer=copy.deepcopy(tokenizer), task="text-generation", revision=revision, **device)
        blocks = self._traced.get(layout.blocks)
        self._blocks = [blocks[layer] for layer in range(len(blocks))]
        self._embedding = self._traced.get(layout.embedding)
        self._unembedding = self._traced.get(layout.unembedding)
        self._walks_exactly: bool | None = None

    def residuals(self, batch: PaddedBatch, layers: Sequence[int]) -> dict[int, Residual]:
        """The unsteered outputs of some blocks for the whole batch, pads included, for forwards that begin there."""
        found: dict[int, Residual] = {}
        with self.running(), self._traced.trace(**batch.inputs, use_cache=False, logits_to_keep=1) as tracer:
            kept = {}
            for layer in sorted(layers):
                kept[layer] = self._blocks[layer].output
            found = nnsight.save(kept)
            tracer.stop()
        return found

    def forward(
        self, batch: PaddedBatch, graph: InterventionGraph, readouts: Readouts, *, n_logits: int, start: Restart | None = None
    ) -> Float[Tensor, "batch kept vocab"] | None:
        """One forward. The logits of the last `n_logits` positions; with 0 none, and layers nobody needs are not run.

        With `start` the blocks up to its layer are not run either: what they put out is given.
        """
        traced = TracedGraph(stack_writes(graph, batch.ids.shape[0]), readouts, self._blocks, self._embedding)
        logits, read = None, readouts.values()
        with (
            self.running(),
            self._traced.trace(**batch.inputs, use_cache=False, logits_to_keep=max(1, n_logits), remote=self._remote) as tracer,
        ):
            if start is None:
                traced.forward(batch.spans)
            else:
                traced.forward_from(start.layer, start.resid, batch.spans)
            read = nnsight.save(traced.readouts.values())
            if n_logits == 0:
                tracer.stop()
            logits = nnsight.save(tracer.result.logits)
        readouts.take(read)
        return logits

    def generate(
        self,
        batch: PaddedBatch,
        graph: InterventionGraph,
        readouts: Readouts,
        *,
        sampler: RowSampler,
        max_new_tokens: int,
        end_ids: Collection[int],
    ) -> TokenIds:
        """Answer ids ``[batch pos]``; what follows the first end id of a row is padding."""
        traced = TracedGraph(stack_writes(graph, batch.ids.shape[0]), readouts, self._blocks, self._embedding, end_ids)
        settings = plain_settings(max_new_tokens, end_ids, pad_id=int(min(end_ids, default=0)))
        options = {"generation_config": settings, "logits_processor": LogitsProcessorList([sampler]), "streamer": None}
        shared = None if self._remote else shared_prompts(batch, graph)
        spans = batch.spans if shared is None else last_column(batch.spans)
        if shared is not None:
            with self.running():
                options[cache_name(self._hf_model)] = shared.cache(self._hf_model)
        ids, read, calls = batch.ids, readouts.values(), [0]
        with self.running(settings), self._traced.generate(**options, remote=self._remote) as tracer:
            with tracer.invoke(input_ids=batch.ids, attention_mask=batch.attention_mask):
                traced.generate(tracer, spans, max_new_tokens)
                read, calls = nnsight.save(traced.readouts.values()), nnsight.save([traced.calls])
            with tracer.invoke():  # apart: a block whose steps ran out when every row had ended does not come back
                ids = nnsight.save(tracer.result)
        answers = ids[:, batch.ids.shape[1] :]
        readouts.take(read)
        followed = readouts.layers(generating=True) or traced.writes.layers(decode_masks(1))
        if followed and calls[0] != answers.shape[1]:
            raise PersonaInterpError(
                f"{answers.shape[1]} tokens were generated but {calls[0]} calls of the model were seen: the result would "
                "be wrong; this version of nnsight or transformers runs generation differently"
            )
        return answers

    def log_probs(
        self,
        batch: PaddedBatch | SharedRows,
        graph: InterventionGraph,
        answers: Sequence[Sequence[int]],
        *,
        start: Restart | None = None,
    ) -> list[Float[Tensor, " n_answer"]]:
        """The log probability of every token of each row's answer, which its last positions predict. Float32 on the CPU.

        `start` as in `forward`, for whole rows. `SharedRows` need a `head`.
        """
        after: dict[str, Any] = {}
        inputs = batch.inputs
        if isinstance(batch, SharedRows):
            with self.running():
                after[cache_name(self._hf_model)] = batch.prompts.cache(self._hf_model)
            batch = batch.tails
        longest = max(1, *map(len, answers))
        if self.head is None:
            logits = self.forward(batch, graph, Readouts((), len(self._blocks)), n_logits=longest, start=start)
            if logits is None:
                raise RuntimeError("the engine returned no logits")
            return [answer_log_probs(logits[row], answer) for row, answer in enumerate(answers)]
        traced = TracedGraph(
            stack_writes(graph, batch.ids.shape[0]), Readouts((), len(self._blocks)), self._blocks, self._embedding
        )
        hidden: Any = None
        with self.running():
            with self._traced.trace(**inputs, **after, use_cache=bool(after), logits_to_keep=longest) as tracer:
                if start is None:
                    traced.forward(batch.spans)
                else:
                    traced.forward_from(start.layer, start.resid, batch.spans)
                hidden = nnsight.save(self._unembedding.input)
                tracer.stop()
            ids = [token for answer in answers for token in answer]
            found = token_log_probs(self.head, answer_states(hidden, answers), ids, self._vocab_size)
        return list(found.cpu().split([len(answer) for answer in answers]))

    def gradient(
        self, batch: PaddedBatch, layers: Sequence[int], answers: Sequence[Sequence[int]], weights: Sequence[Tensor]
    ) -> Float[Tensor, "batch layer d_model"]:
        """Gradients with respect to the residual stream, by one forward and one backward pass; see `Engine.gradient`.

        Raises:
            UnsupportedError: the model is quantized in a way that passes no gradient.
        """
        longest, head = max(map(len, answers)), self.head
        ids = [token for answer in answers for token in answer]
        read: dict[int, Tensor] = {}
        hidden: Any = None
        with self.running(), frozen(self._hf_model), torch.enable_grad():
            with self._traced.trace(**batch.inputs, use_cache=False, logits_to_keep=longest) as tracer:
                resid = {}
                for layer in sorted(layers):
                    if not resid:  # what lies below needs no gradient, and nothing of it is kept
                        self._blocks[layer].output = self._blocks[layer].output.detach().requires_grad_()
                    resid[layer] = self._blocks[layer].output
                read = nnsight.save(resid)
                if head is None:
                    hidden = nnsight.save(tracer.result.logits)
                else:
                    hidden = nnsight.save(self._unembedding.input)
                    tracer.stop()
            if hidden is None or not hidden.requires_grad:
                raise UnsupportedError(_NO_GRADIENT.format(self._name))
            states = answer_states(hidden, answers)
            each = torch.cat([torch.as_tensor(row, dtype=torch.float32) for row in weights]).to(states.device)
            if head is None:
                wanted = [chosen_log_probs(states, ids), each]
            else:
                slopes = log_prob_gradients(head, states, ids, self._vocab_size)
                wanted = [states, slopes * each.to(slopes).unsqueeze(1)]
            kept = [read[layer] for layer in layers]
            gradients = torch.autograd.grad(wanted[0], kept, grad_outputs=wanted[1], allow_unused=True)
        if any(gradient is None for gradient in gradients):
            raise UnsupportedError(_NO_GRADIENT.format(self._name))
        real = batch.spans.real.unsqueeze(-1)
        return torch.stack([torch.where(real.to(g.device), g, 0).sum(1, dtype=torch.float32).cpu() for g in gradients], dim=1)

    def unembed(self, resid: Float[Tensor, "row d_model"]) -> Float[Tensor, "row vocab"]:
        """Logits read off residuals; see `Engine.unembed`."""
        norm, head = (self._hf_model.get_submodule(path) for path in (self._layout.final_norm, self._layout.unembedding))
        weight = next(norm.parameters())
        device = token_device(self._hf_model) if weight.is_meta else weight.device  # offloaded ones come to where they are used
        with self.running():
            normed = norm(resid.to(device, weight.dtype))
            logits = head(normed.to(dtype=next(head.parameters()).dtype))
        return logits.float().cpu()

    @property
    def _vocab_size(self) -> int:
        return int(text_config(self._hf_model.config).vocab_size)

    @cached_property
    def head(self) -> Head | None:
        """The unembedding and whatever follows it, for slices of positions; None where that is not what the model does.

        Found out by trying: an architecture may scale or cap its logits in a way of its own. Then they are had from the model.
        """
        if self._remote:
            return None
        module = self._hf_model.get_submodule(self._layout.unembedding)
        head = capped_head(module, getattr(text_config(self._hf_model.config), "final_logit_softcapping", None))
        weight, device = self._hf_model.get_input_embeddings().weight, token_device(self._hf_model)
        ids = torch.tensor([[0, 1]], device=device)
        resid = torch.linspace(-1, 1, 2 * weight.shape[1], dtype=self._hf_model.dtype).view(1, 2, -1)
        states, logits = None, None
        with self.running():
            with self._traced.trace(input_ids=ids, use_cache=False, logits_to_keep=1) as tracer:
                for block in self._blocks:  # only what follows them is to be tried
                    block.skip(resid.to(device))
                states = nnsight.save(self._unembedding.input)
                logits = nnsight.save(tracer.result.logits)
            same = states is not None and logits is not None and torch.allclose(head(states).float(), logits.float(), rtol=1e-5)
        return head if same else None

    def walks(self, longest: int) -> bool:
        """See `Engine.walks`; found out on a few tokens, once."""
        if self._remote or not within_window(text_config(self._hf_model.config), longest):
            return False
        if self._walks_exactly is None:
            with self.running():
                self._walks_exactly = walks_exactly(self._hf_model, token_device(self._hf_model))
        return self._walks_exactly

    @contextmanager
    def walking(self, shared: Sequence[int], likely: Sequence[tuple[int, ...]]) -> Iterator[Walker]:
        """See `Engine.walking`."""
        with self.running():
            yield CacheWalk(self._hf_model, shared, likely, token_device(self._hf_model))

    @contextmanager
    def running(self, settings: GenerationConfig | None = None) -> Iterator[None]:
        """The model to ourselves: locked, not compiled, in evaluation mode, without gradients; everything is put back."""
        with self._lock, uncompiled(), inference_only(self._hf_model), remote_errors(self._remote, self._name):
            before = self._hf_model.generation_config
            try:
                if settings is not None:
                    # transformers fills every setting left open from the checkpoint's own, which may hold penalties and bans
                    self._hf_model.generation_config = settings
                yield
            finally:
                self._hf_model.generation_config = before
