"""What runs a model. `SteerableModel` asks this much of an engine and no more; nnsight is the first one."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from persona_interp.interventions.compile.readout import Readouts
from persona_interp.interventions.graph import InterventionGraph
from persona_interp.models.batching import PaddedBatch
from persona_interp.models.continuations import Walker
from persona_interp.models.row_sampler import RowSampler
from persona_interp.shapes import Residual, TokenIds


@dataclass(frozen=True)
class Restart:
    """Where a forward begins in the middle.

    Attributes:
        layer: the last block that is not run.
        resid: its output for the batch, unsteered.
    """

    layer: int
    resid: Residual


@runtime_checkable
class Engine(Protocol):
    """Runs one padded batch while the writes of a graph are applied and its captures collected in `readouts`.

    An engine that cannot express a graph raises `UnsupportedError` before anything runs.
    """

    @property
    def restarts(self) -> bool:
        """Whether a forward can begin in the middle, from residuals kept on this machine."""
        ...

    @property
    def slices_logits(self) -> bool:
        """Whether `log_probs` makes logits of a few positions at a time."""
        ...

    def residuals(self, batch: PaddedBatch, layers: Sequence[int]) -> dict[int, Residual]:
        """The unsteered outputs of some blocks for the whole batch, pads included, for forwards that begin there."""
        ...

    def forward(
        self, batch: PaddedBatch, graph: InterventionGraph, readouts: Readouts, *, n_logits: int, start: Restart | None = None
    ) -> Float[Tensor, "batch kept vocab"] | None:
        """One forward. The logits of the last `n_logits` positions; with 0 none, and layers nobody needs are not run.

        With `start` the blocks up to its layer are not run either: what they put out is given.
        """
        ...

    def log_probs(
        self, batch: PaddedBatch, graph: InterventionGraph, answers: Sequence[Sequence[int]], *, start: Restart | None = None
    ) -> list[Float[Tensor, " n_answer"]]:
        """The log probability of every token of each row's answer, which its last positions predict. Float32 on the CPU.

        Logits are made where answers are, and never all of them at once where the engine can help it. `start` as in `forward`.
        """
        ...

    def gradient(
        self, batch: PaddedBatch, layers: Sequence[int], answers: Sequence[Sequence[int]], weights: Sequence[Tensor]
    ) -> Float[Tensor, "batch layer d_model"]:
        """How the log probabilities of each row's answer, times `weights` and added up, change with what is added at each layer.

        Added to every token of the row, at 0; one forward and one backward pass. Float32 on the CPU.
        """
        ...

    def unembed(self, resid: Float[Tensor, "row d_model"]) -> Float[Tensor, "row vocab"]:
        """What the final norm and the unembedding make of residuals."""
        ...

    def walks(self, longest: int) -> bool:
        """Whether continuations of prompts of up to `longest` tokens, pads included, can be walked over kept keys and values."""
        ...

    def walking(self, shared: Sequence[int], likely: Sequence[tuple[int, ...]], longest: int) -> AbstractContextManager[Walker]:
        """What walks the continuations of prompts, unsteered, while the block lasts; asked for only where `walks` says so.

        Args:
            shared: tokens all prompts begin with, run once.
            likely: paths that will probably be asked for behind every prompt, each behind those it grows on.
            longest: tokens of the longest prompt, these included.
        """
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
