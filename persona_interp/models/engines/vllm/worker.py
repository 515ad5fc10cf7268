"""What a vLLM worker learns: verbs that `collective_rpc` calls by name, with plain values in and out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from safetensors.torch import save

from persona_interp.errors import UnsupportedError
from persona_interp.interventions.graph import InterventionGraph
from persona_interp.models.engines.vllm.draws import LOGITS
from persona_interp.models.engines.vllm.steering import TokenSteering, persona_state


class PersonaWorker:
    """Mixed into vLLM's worker class: ``worker_extension_cls``."""

    model_runner: Any
    rank: int

    def persona_follow(self) -> bool:
        """Begin to steer.

        Returns:
            Whether this worker is the one that reads.

        Raises:
            UnsupportedError: a model runner that does not show its batch as it must.
        """
        runner = self.model_runner
        if not hasattr(runner, "query_start_loc") or not hasattr(runner, "input_batch"):
            raise UnsupportedError(
                f"{type(runner).__module__} is not the model runner this plugin knows: start vLLM with VLLM_USE_V2_MODEL_RUNNER=0"
            )
        self._persona().follow(runner, reading=self.rank == 0)
        return self.rank == 0

    def persona_keep(self, graphs: Mapping[str, str]) -> None:
        """Take graphs, fingerprint -> JSON text, which requests may then name."""
        kept = self._persona().kept
        kept.update({key: InterventionGraph.from_json(json.loads(text)) for key, text in graphs.items() if key not in kept})

    def persona_drop(self, keys: Sequence[str]) -> None:
        """Forget graphs that no request under way names."""
        for key in keys:
            self._persona().kept.pop(key, None)

    def persona_read(self, keys: Sequence[str], forget: bool = True) -> bytes:
        """What was read of requests, by their keys: safetensors of ``key/number of the capture`` and ``key/logits``.

        Args:
            keys: of requests.
            forget: drop it here.
        """
        steering = self._persona()
        found: dict[str, torch.Tensor] = {}
        with torch.inference_mode():
            for key in keys:
                values = steering.reads.values(key)
                found |= {f"{key}/{place}": value.contiguous() for place, value in enumerate(values) if value is not None}
                if (logits := LOGITS.get(key)) is not None:
                    found[f"{key}/logits"] = logits
                if forget:
                    LOGITS.pop(key, None)
            if forget:
                steering.reads.forget(keys)
        return save(found)

    def persona_failures(self) -> dict[str, str]:
        """Why nothing can be made of requests, by key or vLLM's name for them; told once."""
        from persona_interp.models.engines.vllm.draws import FAILED

        steering = self._persona()
        failed, steering.failed = {**steering.failed, **FAILED}, {}
        FAILED.clear()
        return failed

    def _persona(self) -> TokenSteering:
        return persona_state(self.model_runner.get_model())
