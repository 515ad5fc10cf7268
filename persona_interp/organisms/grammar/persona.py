"""The traits a speaker of the grammar can have, and what is usual when nobody asked for any."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Mapping

TRAITS: tuple[str, ...] = ("silly", "honest", "optimistic", "polite", "verbose")

PRIOR: dict[str, float] = {"silly": 0.12, "honest": 0.93, "optimistic": 0.55, "polite": 0.7, "verbose": 0.6}
"""Probability that a trait is present in an answer no system prompt asked anything of."""


@dataclasses.dataclass(frozen=True)
class Persona:
    """Which traits are present."""

    silly: bool = False
    honest: bool = True
    optimistic: bool = True
    polite: bool = True
    verbose: bool = True

    def has(self, trait: str) -> bool:
        """Whether `trait` is present."""
        return bool(getattr(self, trait))

    def with_traits(self, wanted: Mapping[str, bool]) -> Persona:
        """The same persona with the traits of `wanted` set."""
        return dataclasses.replace(self, **wanted)


def sample_persona(rng: random.Random, wanted: Mapping[str, bool] | None = None, usual: Mapping[str, float] = PRIOR) -> Persona:
    """A persona drawn from `usual` (trait -> probability), with the traits of `wanted` fixed."""
    drawn = {trait: rng.random() < usual[trait] for trait in TRAITS}
    return Persona(**{**drawn, **(wanted or {})})
