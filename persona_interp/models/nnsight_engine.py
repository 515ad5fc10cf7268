"""The engine that runs Hugging Face models through nnsight. No other file of this package calls nnsight on a model."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
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
from persona_interp.models.engine import Loss, Restart
from persona_interp.models.families import FamilyLayout
from persona_interp.models.generation_settings import plain_settings
from persona_interp.models.inference import inference_only
from persona_interp.models.placement import left_in_place, token_device
from persona_interp.models.remote import remote_errors
from persona_interp.models.row_sampler import RowSampler
from persona_interp.models.shared_prompts import last_column, shared_prompts
from persona_interp.models.turns import Turns
from persona_interp.shapes import Residual, TokenIds

_LOCKS: weakref.WeakKeyDictionary[nn.Module, Turns] = weakref.WeakKeyDictionary()


class _WhereverPut(TransformersModel):
    """Gives inputs to where they are wanted, also where the weights are offloaded and the first of them is nowhere."""

    @property
    def device(self) -> torch.device | None:
        """Where inputs go."""
        return token_device(self._module)


class NnsightEngine:
    """Runs batches of one model inside nnsight traces, one at a time.

    nnsight wraps the `forward` of every module, for good; outside a trace that wrapper hands calls straight on. Weights, hooks,
    training mode, gradients and generation settings stay as they were.

    Args:
        hf_model: a causal language model.
        tokenizer: copied, because nnsight changes its padding side.
        layout: where the blocks and the embedding are.
        remote: handed to nnsight: True runs on NDIF, "local" takes the same way of serialising on this machine.
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

    @property
    def restarts(self) -> bool:
        """See `Engine.restarts`."""
        return not self._remote

    def residuals(self, batch: PaddedBatch, layers: Sequence[int]) -> dict[int, Residual]:
        """Outputs of `layers`; see `Engine.residuals`."""
        inputs = {"input_ids": batch.ids, "attention_mask": batch.attention_mask, "position_ids": batch.position_ids}
        found: dict[int, Residual] = {}
        with self._running(), self._traced.trace(**inputs, use_cache=False, logits_to_keep=1) as tracer:
            kept = {}
            for layer in sorted(layers):
                kept[layer] = self._blocks[layer].output
            found = nnsight.save(kept)
            tracer.stop()
        return found

    def forward(
        self, batch: PaddedBatch, graph: InterventionGraph, readouts: Readouts, *, n_logits: int, start: Restart | None = None
    ) -> Float[Tensor, "batch kept vocab"] | None:
        """One forward; see `Engine.forward`."""
        traced = TracedGraph(stack_writes(graph, batch.ids.shape[0]), readouts, self._blocks, self._embedding)
        inputs = {"input_ids": batch.ids, "attention_mask": batch.attention_mask, "position_ids": batch.position_ids}
        logits, read = None, readouts.values()
        with (
            self._running(),
            self._traced.trace(**inputs, use_cache=False, logits_to_keep=max(1, n_logits), remote=self._remote) as tracer,
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
        """Answer ids; see `Engine.generate`."""
        traced = TracedGraph(stack_writes(graph, batch.ids.shape[0]), readouts, self._blocks, self._embedding, end_ids)
        settings = plain_settings(max_new_tokens, end_ids, pad_id=int(min(end_ids, default=0)))
        if self._remote:
            sampler.on_step = None  # what follows the answers here cannot travel
        options = {"generation_config": settings, "logits_processor": LogitsProcessorList([sampler]), "streamer": None}
        shared = None if self._remote else shared_prompts(batch, graph)
        spans = batch.spans if shared is None else last_column(batch.spans)
        if shared is not None:
            with self._running():
                options[cache_name(self._hf_model)] = shared.cache(self._hf_model)
        ids, read, calls = batch.ids, readouts.values(), [0]
        with self._running(settings), self._traced.generate(**options, remote=self._remote) as tracer:
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

    def gradient(
        self, batch: PaddedBatch, layers: Sequence[int], loss: Loss, *, n_logits: int
    ) -> Float[Tensor, "batch layer d_model"]:
        """Gradients with respect to the residual stream; see `Engine.gradient`.

        Raises:
            UnsupportedError: the model runs remotely, or is quantized in a way that passes no gradient.
        """
        if self._remote:
            raise UnsupportedError(f"{self._name} runs remotely, where no gradient is taken: use method 'likelihood' instead")
        dtype, real = self._hf_model.dtype, batch.spans.real.unsqueeze(-1)
        shape = (batch.ids.shape[0], len(layers), self._hf_model.get_input_embeddings().weight.shape[1])
        added = torch.zeros(shape, dtype=torch.float32, device=batch.ids.device, requires_grad=True)
        inputs = {"input_ids": batch.ids, "attention_mask": batch.attention_mask, "position_ids": batch.position_ids}
        logits = None
        with self._running(), torch.enable_grad():
            with self._traced.trace(**inputs, use_cache=False, logits_to_keep=max(1, n_logits)) as tracer:
                for column, layer in enumerate(layers):
                    resid = self._blocks[layer].output
                    push = added[:, column].unsqueeze(1).to(resid.device, dtype)
                    self._blocks[layer].output = resid + torch.where(real.to(resid.device), push, 0)
                logits = nnsight.save(tracer.result.logits)
            if logits is None or not logits.requires_grad:
                raise UnsupportedError(f"{self._name} passes no gradient to its residual stream: use method 'likelihood' instead")
            (gradient,) = torch.autograd.grad(loss(logits).sum(), added)
        return gradient.detach().cpu()

    def unembed(self, resid: Float[Tensor, "row d_model"]) -> Float[Tensor, "row vocab"]:
        """Logits read off residuals; see `Engine.unembed`.

        Raises:
            UnsupportedError: the weights are not on this machine.
        """
        if self._remote:
            raise UnsupportedError(f"the unembedding of {self._name} is not on this machine: use method 'likelihood' instead")
        norm, head = (self._hf_model.get_submodule(path) for path in (self._layout.final_norm, self._layout.unembedding))
        weight = next(norm.parameters())
        device = token_device(self._hf_model) if weight.is_meta else weight.device  # offloaded ones come to where they are used
        with self._running():
            normed = norm(resid.to(device, weight.dtype))
            logits = head(normed.to(dtype=next(head.parameters()).dtype))
        return logits.float().cpu()

    @contextmanager
    def _running(self, settings: GenerationConfig | None = None) -> Iterator[None]:
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
