"""The engine that answers through TransformerLens, with whatever its hooks do to the model meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from transformers import LogitsProcessorList

from persona_interp.interventions.compile.readout import Readouts
from persona_interp.interventions.graph import InterventionGraph
from persona_interp.models.batching import pad
from persona_interp.models.engines.capabilities import TRANSFORMER_LENS
from persona_interp.models.engines.protocol import Answered, Engine, OnStep
from persona_interp.models.generation_settings import plain_settings
from persona_interp.models.inference import inference_only
from persona_interp.models.row_sampler import RowSampler, drawn_up_to, telling
from persona_interp.models.sampling import Sampling


class BridgeEngine(Engine):
    """Generates through the Hugging Face tree of a bridge while its hooks are on. Prompts are padded on the left.

    It answers as the engine of the same weights does, with the same batches and random streams.

    Args:
        whole: the engine of the model.
        bridge: of the same model, see `SteerableModel.bridge`.
        hooks: hook point -> what is called there.
        fingerprint: of what the hooks make of the weights; None: that of `whole`.
    """

    capabilities = TRANSFORMER_LENS

    def __init__(
        self,
        whole: Engine,
        bridge: Any,
        hooks: Mapping[str, Callable[..., Any]] | None = None,
        fingerprint: str | None = None,
    ) -> None:
        self.name, self.config, self.n_layers, self.n_ctx = whole.name, whole.config, whole.n_layers, whole.n_ctx
        self.hf_model, self.layout = getattr(whole, "hf_model", None), getattr(whole, "layout", None)
        self.file_fingerprint = whole.file_fingerprint
        self._whole, self._bridge, self._hooks, self._fingerprint = whole, bridge, dict(hooks or {}), fingerprint

    @property
    def dtype(self) -> torch.dtype:
        """See `Engine.dtype`."""
        return self._whole.dtype

    @property
    def device(self) -> torch.device:
        """See `Engine.device`."""
        return self._whole.device

    @property
    def fingerprint(self) -> str:
        """See `Engine.fingerprint`."""
        return self._fingerprint or self._whole.fingerprint

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
        model, readouts = self._bridge.original_model, Readouts((), self.n_layers)
        end = min(end_ids, default=None)
        batch = pad(prompts, [len(prompt) for prompt in prompts], 0, self.device)
        sampler = RowSampler(sampling, seeds, telling(on_step, readouts), end, self.name, self.dtype)
        settings = plain_settings(sampling.max_new_tokens, end_ids, pad_id=end or 0)
        model.generation_config = settings  # of the bridge's own tree: transformers fills what is left open from it
        with inference_only(model), self._bridge.hooks(fwd_hooks=list(self._hooks.items())):
            ids = model.generate(
                input_ids=batch.ids,
                attention_mask=batch.attention_mask,
                generation_config=settings,
                logits_processor=LogitsProcessorList([sampler]),
            )
        return [Answered(drawn_up_to(answer, end_ids)) for answer in ids[:, batch.ids.shape[1] :].tolist()]
