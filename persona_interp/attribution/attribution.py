"""What every component writes along a persona vector: the result of `attribute`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from persona_interp.attribution.component import ABLATABLE, Component, Kind
from persona_interp.errors import InvalidInputError
from persona_interp.measure.statistics import Estimate
from persona_interp.records import Record


@dataclass(frozen=True)
class Contribution:
    """One component.

    Attributes:
        component: which.
        positive: mean projection of what it wrote onto the unit vector in positive answers, in activation units.
        negative: likewise in negative answers.
        difference: positive minus negative, with a 95 % interval over questions.
        share: `difference` over that of the whole stream, likewise. Shares sum to 1; single ones can be below 0 or above 1.
    """

    component: Component
    positive: float
    negative: float
    difference: Estimate
    share: Estimate


@dataclass(frozen=True)
class Attribution(Record):
    """The difference of positive and negative answers along a vector, split exactly over everything that writes into the stream.

    Example:
        >>> found = attribute(model, vector, "silly", layer=4)
        >>> for each in found.top(5):
        ...     print(each.component, each.share)

    Attributes:
        trait: name of the trait.
        model: name of the model.
        layer: 0-based block whose output is explained.
        positions: averaged over.
        n_pairs: pairs of answers.
        n_questions: they answer.
        judge: filtered them; None: nobody.
        whole: the difference of the stream itself, in activation units. Where the answers are those the vector was made from, as
            a mean difference, it is the vector's norm.
        contributions: one a component, in the order of the stream.
        gap: how far the parts of an answer miss its stream at most, over the norm of the stream: rounding.
        provenance: versions, seed, settings, identities.
    """

    json_kind = "attribution"
    json_version = 1
    json_names = ("trait", "model", "layer", "positions", "n_pairs", "n_questions", "judge", "gap", "*")

    trait: str
    model: str
    layer: int
    positions: str
    n_pairs: int
    n_questions: int
    judge: str | None
    whole: Estimate
    contributions: tuple[Contribution, ...]
    gap: float
    provenance: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def components(self) -> tuple[Component, ...]:
        """In the order of the stream."""
        return tuple(each.component for each in self.contributions)

    @property
    def n_heads(self) -> int:
        """Heads of the block that has most."""
        return 1 + max(component.head for component in self.components if component.head is not None)

    def of(self, component: Component | str) -> Contribution:
        """What one component wrote, by itself or by its name (``L3H2``).

        Raises:
            InvalidInputError: it was not among those that write up to the layer.
        """
        wanted = Component.named(component) if isinstance(component, str) else component
        for each in self.contributions:
            if each.component == wanted:
                return each
        raise InvalidInputError(
            f"{wanted} writes nothing into layer {self.layer} of {self.model}: there are embedding, L0H0 to "
            f"L{self.layer}H{self.n_heads - 1}, and L0.mlp to L{self.layer}.mlp"
        )

    def top(self, k: int, kinds: Sequence[Kind] = ABLATABLE) -> tuple[Contribution, ...]:
        """The `k` components of `kinds` that write most towards the trait, most first.

        Raises:
            InvalidInputError: `k` is below 1, or above what there is.
        """
        listed = [each for each in self.contributions if each.component.kind in kinds]
        if not 1 <= k <= len(listed):
            raise InvalidInputError(
                f"top {k} of {len(listed)} components ({', '.join(kinds)}) up to layer {self.layer} of {self.model}: ask for 1 "
                f"to {len(listed)}"
            )
        return tuple(sorted(listed, key=lambda each: -(each.difference.value or 0.0))[:k])

    def share_of(self, kind: Kind) -> float:
        """The shares of all components of one kind together."""
        return sum(each.share.value or 0.0 for each in self.contributions if each.component.kind == kind)

    def __repr__(self) -> str:
        first = self.top(1)[0]
        return (
            f"Attribution({self.trait!r} in {self.model} at layer {self.layer}, {self.n_pairs} pairs, most by {first.component}: "
            f"{first.share})"
        )
