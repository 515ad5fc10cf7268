"""Tokens drawn as on every other engine: the same seeds give the same numbers, and the same numbers the same tokens."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from vllm.v1.sample.logits_processor import LogitsProcessor  # pyright: ignore[reportMissingImports]
from vllm.v1.sample.logits_processor.builtin import process_dict_updates  # pyright: ignore[reportMissingImports]

from persona_interp.errors import PersonaInterpError
from persona_interp.models.engines.vllm.request import PersonaRequest
from persona_interp.models.finite import check_scores
from persona_interp.models.row_sampler import RowSampler, uniform_numbers
from persona_interp.models.sampling import Sampling

LOGITS: dict[str, Tensor] = {}
"""Key of a request -> logits of its last step, until they are fetched."""
FAILED: dict[str, str] = {}
"""Key of a request -> why no token could be drawn."""


class _Row:
    """One request of the batch."""

    def __init__(self, request: PersonaRequest, output_ids: list[int]) -> None:
        self.request, self.output_ids = request, output_ids
        self.sampling = None if request.sampling is None else json.dumps(request.sampling, sort_keys=True)
        self.uniform: Tensor | None = None
        if request.sampling is not None and request.sampling["temperature"] > 0:
            self.uniform = uniform_numbers(request.seed, int(request.sampling["max_new_tokens"]))


class RowDraws(LogitsProcessor):
    """vLLM's logits processor: leaves one token possible in the rows that are drawn by a `Sampling`, others alone."""

    def __init__(self, vllm_config: Any, device: torch.device, is_pin_memory: bool) -> None:
        self._rows: dict[int, _Row] = {}
        self._samplers: dict[str, RowSampler] = {}
        self._model, self._dtype = vllm_config.model_config.model, vllm_config.model_config.dtype

    @classmethod
    def validate_params(cls, params: Any) -> None:
        """Refuse extra arguments that are not ours to read, before a request is taken.

        Raises:
            ValueError: as `PersonaRequest.from_extra_args`.
        """
        try:
            PersonaRequest.from_extra_args(params.extra_args)
        except PersonaInterpError as error:
            raise ValueError(str(error)) from error

    def is_argmax_invariant(self) -> bool:
        """It decides what the argmax is."""
        return False

    def update_state(self, batch_update: Any) -> None:
        """Follow which request is in which row."""
        process_dict_updates(self._rows, batch_update, _row)

    def apply(self, logits: Tensor) -> Tensor:
        """Logits ``[request vocab]`` with what may be drawn."""
        drawn: dict[str, list[int]] = {}
        for at, row in self._rows.items():
            if at >= len(logits):
                continue
            if row.request.logits and row.request.key is not None:
                LOGITS[row.request.key] = logits[at].float().cpu().clone()
            if row.sampling is not None:
                drawn.setdefault(row.sampling, []).append(at)
        for told, places in drawn.items():
            self._draw(logits, told, places)
        return logits

    def _draw(self, logits: Tensor, told: str, places: Sequence[int]) -> None:
        if told not in self._samplers:
            values = json.loads(told)
            biases = {int(token): bias for token, bias in values.pop("logit_bias", {}).items()}
            self._samplers[told] = RowSampler(Sampling(**values, logit_bias=biases), ())
        sampler, rows = self._samplers[told], [self._rows[at] for at in places]
        penalised = rows[0].request.sampling is not None and rows[0].request.sampling.get("repetition_penalty", 1) != 1
        groups = [[at] for at in range(len(rows))] if penalised else [list(range(len(rows)))]
        for group in groups:
            at = torch.tensor([places[place] for place in group], device=logits.device)
            scores = logits[at]
            try:
                check_scores(scores, "a new token", self._model, self._dtype)
                held = rows[group[0]].output_ids if penalised else []
                answers = torch.tensor([held], dtype=torch.long) if held else None
                logits[at] = sampler.chosen(scores, _numbers([rows[place] for place in group]), answers)
            except PersonaInterpError as error:  # raised here it would end the engine for everybody
                FAILED.update({str(rows[place].request.key): str(error) for place in group})
                logits[at] = 0.0


def _row(params: Any, prompt_ids: Any, output_ids: list[int]) -> _Row | None:
    request = PersonaRequest.from_extra_args(params.extra_args)
    return None if request is None or (request.sampling is None and not request.logits) else _Row(request, output_ids)


def _numbers(rows: Sequence[_Row]) -> Tensor | None:
    found = [row.uniform[min(len(row.output_ids), len(row.uniform) - 1)] for row in rows if row.uniform is not None]
    return torch.stack(found) if found else None
