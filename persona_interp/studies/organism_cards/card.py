"""The card of a model organism: what it is, how it was made, and what was measured on it, made by a command."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from persona_interp.errors import FileFormatError
from persona_interp.models.registry import load_model
from persona_interp.organisms.grammar import TRAITS
from persona_interp.organisms.recipes import OrganismRecipe, recipe_of
from persona_interp.provenance import provenance
from persona_interp.studies.organism_cards.acceptance import (
    BARRED_TRAITS,
    NATURAL_TRAITS,
    TraitReport,
    report_trait,
    unsteered_answers,
)
from persona_interp.studies.organism_cards.conduct import Conduct, measure_conduct
from persona_interp.studies.training.publish import load_planted, training_record

FORMAT_VERSION = 2


@dataclasses.dataclass(frozen=True)
class OrganismCard:
    """Everything measured on one organism.

    Attributes:
        name: of the organism.
        n_parameters: of the model, tied ones once.
        cosine_between_planted: of the first two planted directions; None where fewer are planted.
        reports: one a trait.
        conduct: how it behaves in a conversation; None while it is not measured.
        training: recipe and loss curve.
        provenance: versions, seed, model identity.
    """

    name: str
    n_parameters: int
    cosine_between_planted: float | None
    reports: tuple[TraitReport, ...]
    conduct: Conduct | None
    training: dict[str, Any]
    provenance: dict[str, Any]

    @property
    def recipe(self) -> OrganismRecipe:
        """How the organism was made."""
        return recipe_of(self.name)

    @property
    def short_name(self) -> str:
        """The name without ``organism-``."""
        return self.name.removeprefix("organism-")

    @property
    def planted_block(self) -> str:
        """Index of the planted block, or a dash."""
        return "-" if self.recipe.planted_layer is None else str(self.recipe.planted_layer)

    @property
    def required(self) -> tuple[str, ...]:
        """The traits that must meet the bar."""
        return NATURAL_TRAITS if self.recipe.planted_layer is None else BARRED_TRAITS

    def bar(self, report: TraitReport) -> dict[str, bool]:
        """Each condition of this organism's bar, and whether `report` meets it."""
        return report.bar(planted=self.recipe.planted_layer is not None)

    @property
    def failures(self) -> list[str]:
        """Conditions of the bar that the main traits do not meet."""
        main = [report for report in self.reports if report.trait in self.required]
        return [f"{report.trait}: {name}" for report in main for name, met in self.bar(report).items() if not met]

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "format_version": FORMAT_VERSION,
            "name": self.name,
            "n_parameters": self.n_parameters,
            "planted_layer": self.recipe.planted_layer,
            "planted_traits": list(self.recipe.planted_traits) if self.recipe.planted_layer is not None else [],
            "cosine_between_planted": self.cosine_between_planted,
            "traits": {report.trait: {**report.to_json(), "bar": self.bar(report)} for report in self.reports},
            "conduct": None if self.conduct is None else dataclasses.asdict(self.conduct),
            "failures": self.failures,
            "training": self.training,
            "provenance": self.provenance,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> OrganismCard:
        """The inverse of `to_json`; what follows from the measurements is computed again.

        Raises:
            FileFormatError: another format version, or a field that is missing or malformed.
        """
        if data.get("format_version") != FORMAT_VERSION:
            raise FileFormatError(
                f"organism card: format_version {data.get('format_version')!r} is not {FORMAT_VERSION}; measure again elsewhere"
            )
        try:
            return cls(
                name=recipe_of(str(data["name"])).name,
                n_parameters=int(data["n_parameters"]),
                cosine_between_planted=data["cosine_between_planted"],
                reports=tuple(TraitReport.from_json(report) for report in data["traits"].values()),
                conduct=None if data["conduct"] is None else Conduct(**data["conduct"]),
                training=dict(data["training"]),
                provenance=dict(data["provenance"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise FileFormatError(f"organism card: a field is missing or malformed ({error!r}); measure again") from error


def make_card(
    name: str,
    *,
    traits: Sequence[str] = TRAITS,
    seed: int = 0,
    earlier: OrganismCard | None = None,
    on_trait: Callable[[OrganismCard], object] | None = None,
) -> OrganismCard:
    """Measure the shipped organism `name`; some minutes a trait on two cores.

    Args:
        name: of a shipped organism.
        traits: of the grammar.
        seed: of every answer and random direction.
        earlier: a card whose reports are taken over, where it was made of the same weights with the same seed.
        on_trait: called after each trait with the card as far as it goes, so that an interrupted run loses one trait at most.

    Raises:
        UnknownNameError: there is no such organism or trait.
    """
    model = load_model(recipe_of(name).name)
    planted = load_planted(name)
    between = None
    if planted is not None and len(planted.traits) > 1:
        first, second = planted.directions[0], planted.directions[1]
        between = float(first @ second / (first.norm() * second.norm()))
    record = training_record(name)
    origin = provenance(seed=seed, model=model.identity.to_json())
    known = {report.trait: report for report in earlier.reports} if earlier and _same_origin(earlier.provenance, origin) else {}
    conduct = earlier.conduct if earlier and known else None
    card = OrganismCard(
        name, int(record["n_parameters"]), between, (), conduct or measure_conduct(model, seed=seed), record, origin
    )
    unsteered = unsteered_answers(model, seed=seed) if set(traits) - set(known) else []
    for trait in traits:
        report = known.get(trait) or report_trait(model, trait, planted, unsteered, seed=seed)
        card = dataclasses.replace(card, reports=(*card.reports, report))
        if on_trait is not None:
            on_trait(card)
    return card


def _same_origin(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return one.get("seed") == other["seed"] and one.get("model") == other["model"]
