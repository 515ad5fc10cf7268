"""What an engine can do, said before anything runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, get_args

from persona_interp.interventions.graph import InterventionGraph, Write, WritePositions
from persona_interp.interventions.operations import Ablate, AblateThenAdd, Add, AddPreservingNorm, Cap, Clamp, Operation

Need: TypeAlias = Literal["captures", "likelihoods", "gradients", "unembedding", "streams", "module"]
"""What a verb needs beside what its graph holds; each is a field of `Capabilities`."""

WORDS: dict[Need, str] = {
    "captures": "read the residual stream",
    "likelihoods": "score texts",
    "gradients": "take gradients",
    "unembedding": "unembed residuals given from outside",
    "streams": "tell answers while they are written",
    "module": "hand out a PyTorch module (TransformerLens, attribution, baking)",
}


@dataclass(frozen=True)
class Capabilities:
    """What one engine can do with a model. What it cannot is refused by `engines.registry.check`, in one place and manner.

    Attributes:
        engine: what errors call it.
        first_layer: the first block whose output it can write to.
        operations: those it can apply; None: every one there is or will be; none at all: it does not steer.
        positions: of a `Write`.
        conditions: whether a `Write` may have a condition.
        schedules: whether it may have a schedule.
        rows: whether the rows of one call may be written to differently.
        captures: whether it reads the residual stream.
        likelihoods: whether it gives logits and likelihoods of given texts.
        gradients: whether it takes gradients of likelihoods.
        unembedding: whether it makes logits of residuals given from outside.
        streams: whether it tells each token as it is drawn.
        module: whether the model is at hand as a PyTorch module.
        restarts: whether a forward can begin in the middle, so that many graphs over the same texts cost less.
    """

    engine: str
    first_layer: int = 0
    operations: frozenset[type[Operation]] | None = None
    positions: tuple[WritePositions, ...] = get_args(WritePositions)
    conditions: bool = True
    schedules: bool = True
    rows: bool = True
    captures: bool = True
    likelihoods: bool = True
    gradients: bool = True
    unembedding: bool = True
    streams: bool = True
    module: bool = True
    restarts: bool = True

    @property
    def kinds(self) -> str:
        """The operations in words."""
        return "every one" if self.operations is None else ", ".join(sorted(each.kind for each in self.operations)) or "none"

    @property
    def steers(self) -> bool:
        """Whether it can write to the residual stream at all."""
        return self.operations is None or bool(self.operations)

    def lacks(self, graph: InterventionGraph, needs: Sequence[Need] = ()) -> str | None:
        """The first thing asked for that the engine cannot do, in words, and a way round it; None: it can do all."""
        for need in needs:
            if not getattr(self, need):
                return f"cannot {WORDS[need]}"
        if graph.captures and not self.captures:
            return f"cannot {WORDS['captures']}"
        return next((lack for lack in map(self._lacks, graph.writes) if lack is not None), None)

    def _lacks(self, write: Write) -> str | None:
        place = f"the Write at layer {write.layer}"
        if self.operations is not None and type(write.operation) not in self.operations:
            kind = type(write.operation).__name__
            return f"cannot steer ({place})" if not self.steers else f"only does {self.kinds}, and {place} is {kind}"
        if write.layer < self.first_layer:
            chosen = "vector.graph(layers=[...]) chooses"
            return f"steers from layer {self.first_layer} on, and a Write is at layer {write.layer} ({chosen})"
        if write.positions not in self.positions:
            return f"steers the positions {', '.join(self.positions)}, and {place} is at {write.positions!r}"
        if write.condition is not None and not self.conditions:
            return f"knows no conditions, and {place} has one ({type(write.condition).__name__})"
        if write.schedule is not None and not self.schedules:
            return f"knows no schedules, and {place} has one ({type(write.schedule).__name__})"
        if write.rows is not None and not self.rows:
            return f"steers all rows of a call alike, and {place} is for rows {list(write.rows)}"
        return None


TORCH = Capabilities("PyTorch")
REMOTE = replace(TORCH, engine="PyTorch on a remote server", gradients=False, unembedding=False, streams=False, restarts=False)
LLAMA_CPP = Capabilities(
    "llama.cpp",
    first_layer=1,  # it adds no control vector to the output of block 0
    operations=frozenset({Add}),
    conditions=False,
    schedules=False,
    gradients=False,
    unembedding=False,
    module=False,
    restarts=False,
)
VLLM = Capabilities(
    "vLLM",
    # its workers are processes of their own, which know no operation that a program has added
    operations=frozenset({Add, AddPreservingNorm, Ablate, AblateThenAdd, Clamp, Cap}),
    gradients=False,
    unembedding=False,
    module=False,
    restarts=False,
)
TRANSFORMER_LENS = Capabilities(
    "TransformerLens",
    operations=frozenset(),
    captures=False,
    likelihoods=False,
    gradients=False,
    unembedding=False,
    restarts=False,
)
ENDPOINT = replace(TRANSFORMER_LENS, engine="a server", streams=False, module=False)
