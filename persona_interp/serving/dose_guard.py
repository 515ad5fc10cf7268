"""The guard over doses: what would push a model beyond where it stays coherent is refused, weakened, or warned about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import torch

from persona_interp.interventions.graph import InterventionGraph, Write
from persona_interp.interventions.operations import AblateThenAdd, Add, AddPreservingNorm
from persona_interp.serving.errors import ApiError
from persona_interp.serving.persona_choice import Chosen

Mode: TypeAlias = Literal["refuse", "clamp", "warn", "off"]
MODES: tuple[Mode, ...] = ("refuse", "clamp", "warn", "off")
LARGEST_RATIO = 0.9
"""Perturbation ratio that is let through where no cliff was measured; published cliffs lie near 1.15, best doses at .8 to 1."""
_PUSHES = (Add, AddPreservingNorm, AblateThenAdd)


@dataclass(frozen=True)
class Dose:
    """How hard one layer is pushed.

    Attributes:
        layer: 0-based block.
        ratio: length of all that is added there over the mean length of the residual stream.
        limit: the largest that is let through.
        measured: whether `limit` is a cliff that was measured, or `LARGEST_RATIO`.
    """

    layer: int
    ratio: float
    limit: float
    measured: bool


@dataclass(frozen=True)
class DoseGuard:
    """What happens to doses that are too large.

    Attributes:
        mode: ``refuse``, ``clamp`` (all that is added is scaled down together), ``warn``, or ``off``.
        largest: the limit where no cliff was measured.
    """

    mode: Mode = "refuse"
    largest: float = LARGEST_RATIO

    def applied(self, chosen: Sequence[Chosen]) -> tuple[InterventionGraph, list[Dose], str | None]:
        """The graph of all that was chosen, in its order, its doses, and what is to be said of them.

        Raises:
            ApiError: a dose is refused.
        """
        graph = sum((each.graph for each in chosen), InterventionGraph())
        doses = self.doses(chosen)
        worst = max(doses, key=lambda dose: dose.ratio / dose.limit if dose.limit else float(dose.ratio > 0), default=None)
        if worst is None or self.mode == "off" or worst.ratio <= worst.limit * (1 + 1e-6):
            return graph, doses, None
        limit = f"coherence was measured to hold up to {worst.limit:.2f}" if worst.measured else f"the limit is {worst.limit:.2f}"
        what = f"the persona pushes layer {worst.layer} by {worst.ratio:.2f} of its residual norm, and {limit}"
        if self.mode == "refuse":
            factor = worst.limit / worst.ratio
            raise ApiError(f"{what}: lower the coefficient to {factor:.2f} of it", code="dose_refused", param="persona")
        if self.mode == "warn":
            return graph, doses, f"{what}: the answer may fall apart"
        share = min(dose.limit / dose.ratio for dose in doses if dose.ratio)
        nodes = tuple(
            replace(node, coefficient=node.coefficient * share) if isinstance(node, Write) and _pushes(node) else node
            for node in graph.nodes
        )
        weaker = [replace(dose, ratio=dose.ratio * share) for dose in doses]
        return InterventionGraph(nodes), weaker, f"{what}: the dose was lowered to {share:.2f} of it"

    def doses(self, chosen: Sequence[Chosen]) -> list[Dose]:
        """The dose at each layer that is pushed; layers whose residual norm is not known are left out."""
        found: list[Dose] = []
        for layer in sorted({write.layer for each in chosen for write in each.graph.writes if _pushes(write)}):
            here = [(each, write) for each in chosen for write in each.graph.writes if write.layer == layer and _pushes(write)]
            pushes = torch.stack([float(write.coefficient) * write.operation.direction.double() for _, write in here])
            norms = [_resid_norm(each, layer) for each, _ in here]
            limits = [each.persona.cliffs.get((layer, 1 if write.coefficient > 0 else -1)) for each, write in here]
            known = [limit for limit in limits if limit is not None]
            # several personas together were never measured: the strictest of what is known of each
            limit = min(self.largest if each is None else each for each in limits)
            if (norm := next((norm for norm in norms if norm), None)) is not None:
                found.append(Dose(layer, float(pushes.sum(0).norm()) / norm, limit, bool(known) and limit in known))
        return found


def _pushes(write: Write) -> bool:
    return isinstance(write.operation, _PUSHES)


def _resid_norm(chosen: Chosen, layer: int) -> float | None:
    vector = chosen.persona.vector
    values = vector.listed("resid_norm")
    return values[vector.row(layer)] if values else None
