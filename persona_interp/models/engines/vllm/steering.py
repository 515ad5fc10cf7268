"""What steers one model inside a vLLM worker: it is told of each step before the step runs, and called at each block."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from weakref import WeakValueDictionary

import torch
from jaxtyping import Float
from torch import Tensor

from persona_interp.errors import PersonaInterpError
from persona_interp.interventions.graph import InterventionGraph
from persona_interp.models.engines.vllm.bank import Bank, StepWrites
from persona_interp.models.engines.vllm.pooled import PooledReads, Read, StepReads
from persona_interp.models.engines.vllm.request import PersonaRequest, graph_of
from persona_interp.models.engines.vllm.slot_map import Scheduled, SlotMap

STEERED: WeakValueDictionary[int, TokenSteering] = WeakValueDictionary()
"""By number, which is what a compiled graph can hold of an object."""


class TokenSteering:
    """Steers and reads the requests of one model.

    Args:
        n_layers: blocks of the model.
        device: where it is.

    Attributes:
        number: under which it is in `STEERED`.
        kept: graphs given beforehand, by fingerprint.
        reads: what captures have read.
        failed: key of a request -> why nothing can be made of it.
    """

    def __init__(self, n_layers: int, device: torch.device) -> None:
        self.number = max(STEERED, default=0) + 1
        self.kept: dict[str, InterventionGraph] = {}
        self.reads = PooledReads(n_layers, device)
        self.failed: dict[str, str] = {}
        self._bank = Bank(device)
        self._runner: Any = None
        self._reading = False
        self._known: dict[str, tuple[str, InterventionGraph, int, Read | None]] = {}
        self._writes: StepWrites = {}
        self._step_reads: StepReads | None = None
        self._last: tuple[Scheduled, ...] = ()
        STEERED[self.number] = self

    def follow(self, runner: Any, *, reading: bool) -> None:
        """Begin to work for what `runner` schedules.

        Args:
            runner: the worker's model runner.
            reading: whether captures are read here: all but one of several workers that hold the same stream leave it.
        """
        self._runner, self._reading = runner, reading

    def begin(self) -> None:
        """Prepare for the step that is about to run: called before each forward pass of the model."""
        self._writes, self._step_reads = {}, None
        if self._runner is None or not _scheduled_now():
            return
        batch, begins = self._runner.input_batch, self._runner.query_start_loc.np
        ids = list(batch.req_ids)
        told = {id_: self._known.get(id_) or self._met(id_, self._runner.requests[id_]) for id_ in ids}
        if self._bank.full:
            self._bank.clear()
        self._known = told
        if all(not graph.nodes for _, graph, _, _ in told.values()):
            return
        starts = batch.num_computed_tokens_cpu
        spans = [(id_, int(starts[at]), int(begins[at + 1] - begins[at]), int(begins[at])) for at, id_ in enumerate(ids)]
        self._plan_writes(
            tuple(
                Scheduled(self._bank.row(told[id_][0], told[id_][1]), start, count, told[id_][2])
                for id_, start, count, _ in spans
            )
        )
        if self._reading:
            reads = [(read, start, count, place) for id_, start, count, place in spans if (read := told[id_][3]) is not None]
            self._step_reads = self.reads.step(reads) if reads else None

    def works_at(self, layer: int) -> bool:
        """Whether the step under way writes to or reads the output of this block."""
        return layer in self._writes or self._step_reads is not None

    def block(self, layer: int, hidden: Float[Tensor, "token d_model"], rest: Float[Tensor, "token d_model"] | None) -> None:
        """Write to and read the output of a block.

        Args:
            layer: 0-based.
            hidden: what the block puts out, changed in place; pads may follow the tokens.
            rest: what is yet to be added to it, where the model keeps the stream in two parts; None: `hidden` is all of it.
        """
        writes = self._writes.get(layer)
        if writes is not None:
            n_tokens = self._n_tokens
            before = _whole(hidden[:n_tokens], rest).float()
            after = before
            for write in writes:
                after = write.apply(after)
            # the difference, so that what is not moved stays as it was to the last bit
            hidden[:n_tokens] += (after - before).to(hidden.dtype)
        if self._step_reads is not None:
            self.reads.take(self._step_reads, layer, _whole(hidden, rest))

    def _met(self, id_: str, state: Any) -> tuple[str, InterventionGraph, int, Read | None]:
        """What a request wants: the name of its writes in the bank, its graph, its prompt's length, and what is read of it."""
        params = state.sampling_params
        n_prompt = state.num_prompt_tokens
        try:
            request = PersonaRequest.from_extra_args(None if params is None else params.extra_args) or PersonaRequest()
            graph = graph_of(request, self.kept)
        except PersonaInterpError as error:  # an error here would end the engine for everybody
            self.failed[id_] = str(error)
            return "", InterventionGraph(), n_prompt, None
        n_prompt = n_prompt if request.n_prompt is None else request.n_prompt
        name = request.graph if isinstance(request.graph, str) else "" if not graph.nodes else graph.fingerprint()
        wanted = request.key is not None and graph.captures and self._reading
        read = self.reads.request(str(request.key), graph.captures, n_prompt) if wanted else None
        return name, graph, n_prompt, read

    def _plan_writes(self, scheduled: tuple[Scheduled, ...]) -> None:
        slots = SlotMap(scheduled)
        self._n_tokens = sum(each.count for each in scheduled)
        self._writes = self._bank.writes(slots)


def _whole(hidden: Tensor, rest: Tensor | None) -> Tensor:
    return hidden if rest is None else hidden + rest[: len(hidden)]


def _scheduled_now() -> bool:
    """Whether the forward pass holds requests; trial runs of vLLM hold none."""
    from vllm.forward_context import get_forward_context, is_forward_context_available  # pyright: ignore[reportMissingImports]

    return is_forward_context_available() and bool(get_forward_context().attn_metadata)


def persona_state(model: Any) -> TokenSteering:
    """What steers a model that `plugin` has loaded.

    Raises:
        PersonaInterpError: it was loaded otherwise.
    """
    found: Mapping[str, Any] = vars(model)
    if "persona_steering" not in found:
        raise PersonaInterpError('this model cannot be steered: start vLLM with load_format="persona_interp"')
    return found["persona_steering"]
