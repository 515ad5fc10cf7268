"""What runs a model. `SteerableModel` asks this much of an engine and no more; nnsight is the first one."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from jaxtyping import Float
from torch import Tensor

from persona_interp.interventions.compile.readout import Readouts
from persona_interp.interventions.graph import InterventionGraph
from persona_interp.models.batching import PaddedBatch
from persona_interp.models.row_sampler import RowSampler
from persona_interp.shapes import TokenIds


class Engine(Protocol):
    """Runs one padded batch while the writes of a graph are applied and its captures collected in `readouts`.

    An engine that cannot express a graph raises `UnsupportedError` before anything runs.
    """

    def forward(
        self, batch: PaddedBatch, graph: InterventionGraph, readouts: Readouts, *, n_logits: int
    ) -> Float[Tensor, "batch kept vocab"] | None:
        """One forward. The logits of the last `n_logits` positions; with 0 none, and layers nobody needs are not run."""
        ...

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
        ...
