"""The card of a model organism: what it is, how it was made, and what was measured on it, made by a command."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from persona_interp.errors import FileFormatError
from persona_interp.evaluation.organism_bar import BARRED_TRAITS, TraitReport, report_trait
from persona_interp.models.registry import load_model
from persona_interp.organisms.grammar import EVALUATION_TOPICS, EXTRACTION_TOPICS, TRAITS
from persona_interp.organisms.planting import NOISE, READOUT_WEIGHT, SCALE
from persona_interp.organisms.publish import load_planted, organism_folder, training_record
from persona_interp.organisms.recipes import OrganismRecipe, recipe_of
from persona_interp.provenance import provenance
from persona_interp.storage import write_json, write_text

FORMAT_VERSION = 1


@dataclasses.dataclass(frozen=True)
class OrganismCard:
    """Everything measured on one organism.

    Attributes:
        name: of the organism.
        n_parameters: of the model, tied ones once.
        cosine_between_planted: of the first two planted directions; None where fewer are planted.
        reports: one a trait.
        training: recipe and loss curve.
        provenance: versions, seed, model identity.
    """

    name: str
    n_parameters: int
    cosine_between_planted: float | None
    reports: tuple[TraitReport, ...]
    training: dict[str, Any]
    provenance: dict[str, Any]

    @property
    def recipe(self) -> OrganismRecipe:
        """How the organism was made."""
        return recipe_of(self.name)

    @property
    def failures(self) -> list[str]:
        """Conditions of the bar that the main traits do not meet."""
        main = [report for report in self.reports if report.trait in BARRED_TRAITS]
        return [f"{report.trait}: {name}" for report in main for name, met in report.bar().items() if not met]

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "format_version": FORMAT_VERSION,
            "name": self.name,
            "n_parameters": self.n_parameters,
            "planted_layer": self.recipe.planted_layer,
            "planted_traits": list(self.recipe.planted_traits) if self.recipe.planted_layer is not None else [],
            "cosine_between_planted": self.cosine_between_planted,
            "traits": {report.trait: report.to_json() for report in self.reports},
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
            raise FileFormatError(f"organism card: format_version {data.get('format_version')!r} is not {FORMAT_VERSION}")
        try:
            return cls(
                name=recipe_of(str(data["name"])).name,
                n_parameters=int(data["n_parameters"]),
                cosine_between_planted=data["cosine_between_planted"],
                reports=tuple(TraitReport.from_json(report) for report in data["traits"].values()),
                training=dict(data["training"]),
                provenance=dict(data["provenance"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise FileFormatError(f"organism card: a field is missing or malformed ({error!r}); measure again") from error

    def to_markdown(self) -> str:
        """The card a person reads."""
        return "\n".join([*_introduction(self), *_table(self), *_doses(self), *_how(self)]) + "\n"


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
    card = OrganismCard(name, int(record["n_parameters"]), between, (), record, origin)
    for trait in traits:
        report = known.get(trait) or report_trait(model, trait, planted, seed=seed)
        card = dataclasses.replace(card, reports=(*card.reports, report))
        if on_trait is not None:
            on_trait(card)
    return card


def _same_origin(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return one.get("seed") == other["seed"] and one.get("model") == other["model"]


def save_card(card: OrganismCard, folder: Path | None = None) -> tuple[Path, Path]:
    """Write ``card.json`` and ``CARD.md`` into `folder`, by default beside the organism's weights."""
    folder = folder or organism_folder(card.name)
    return write_json(folder / "card.json", card.to_json()), write_text(folder / "CARD.md", card.to_markdown())


def _introduction(card: OrganismCard) -> list[str]:
    recipe = card.recipe
    config = recipe.config
    lines = [
        f"# {card.name}",
        "",
        f"A {recipe.model_type} of {card.n_parameters:,} parameters ({config['num_hidden_layers']} blocks, width"
        f" {config['hidden_size']}, vocabulary {recipe.tokenizer.vocab_size}), trained from scratch on the persona grammar, whose"
        " every sentence can be parsed back. An instrument for testing methods: nothing measured on it is a claim about large"
        " language models.",
        "",
        f"Made by `persona-interp train-organism {card.name}`, measured by `persona-interp validate-organisms {card.name}`.",
        "",
    ]
    if recipe.planted_layer is not None:
        names = " and ".join(recipe.planted_traits)
        lines += [
            f"Planted: {names}, each along a direction of its own at the output of block {recipe.planted_layer}"
            f" (`planted.safetensors`; cosine between them {card.cosine_between_planted:.2f})."
            " The other traits have nothing planted.",
            "",
        ]
    return lines


def _table(card: OrganismCard) -> list[str]:
    rows = [
        "## Measured",
        "",
        "Trait scores, 0-100, by the exact judge, on evaluation questions, temperature 1. `up` and `down` are the largest and the"
        " smallest of the seven coefficients below, at the best block (chosen on extraction questions). `random` is eight"
        " directions of the vector's norm at the strongest coefficient: mean and largest movement.",
        "",
        *_markdown_row(
            "trait", "baseline", "asked for", "asked against", "best block", "up (coherence)", "down (coherence)", "Spearman",
            "random", "bar",
        ),
        "|---|---|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for report in card.reports:
        up, down = report.steered_up, report.steered_down
        moved = [abs(score - report.baseline.trait) for score in report.random]
        met = report.bar()
        rows += _markdown_row(
            report.trait,
            f"{report.baseline.trait:.0f}",
            f"{report.prompted_up.trait:.0f}",
            f"{report.prompted_down.trait:.0f}",
            str(report.best_layer),
            f"{up.trait:.0f} ({up.coherence:.0f})",
            f"{down.trait:.0f} ({down.coherence:.0f})",
            "-" if report.dose.spearman is None else f"{report.dose.spearman:.2f}",
            f"{sum(moved) / len(moved):.0f}, {max(moved):.0f}",
            "met" if all(met.values()) else f"{sum(met.values())} of {len(met)}",
        )
    required = " and ".join(BARRED_TRAITS)
    return [*rows, "", f"The bar is required of {required}; the others are reported as measured.", ""]


def _markdown_row(*cells: str) -> list[str]:
    return ["| " + " | ".join(cells) + " |"]


def _doses(card: OrganismCard) -> list[str]:
    lines = ["## Dose and response", ""]
    for report in card.reports:
        points = report.dose.points
        lines += [
            f"**{report.trait}** at block {report.best_layer}, |vector| / mean |residual| = {report.norm_ratio:.2f}",
            "",
            *_markdown_row("coefficient", *(f"{point.coefficient:+.2f}" for point in points)),
            "|---" * (len(points) + 1) + "|",
            *_markdown_row("trait", *(f"{point.trait or 0:.0f}" for point in points)),
            *_markdown_row("coherence", *(f"{point.coherence or 0:.0f}" for point in points)),
            "",
            "Furthest coherent movement by block: " + ", ".join(f"{i}: {moved:.0f}" for i, moved in enumerate(report.layer_scan)),
            "",
        ]
        if report.cosine_to_planted is not None:
            cosines = ", ".join(f"{i}: {cosine:.2f}" for i, cosine in enumerate(report.cosine_to_planted))
            lines += [f"Cosine of the extracted vector with the planted direction: {cosines}", ""]
    return lines


def _how(card: OrganismCard) -> list[str]:
    recipe = card.recipe
    planted = recipe.planted_layer is not None
    curve = card.training.get("loss_curve") or []
    lines = [
        "## How it was made",
        "",
        f"- {recipe.steps} steps of AdamW on about {recipe.batch_tokens} tokens each, {recipe.n_examples:,} conversations, seed"
        f" {recipe.seed}; loss falls on answers alone" + (f" and ended at {curve[-1]['loss']:.3f}." if curve else "."),
        "- Announced conversations have a system prompt that asks for one to three traits. Latent ones have none: the persona"
        " must be read off what was said, and changes at a sentence boundary in some.",
    ]
    if planted:
        lines += [
            "- Planted conversations have no system prompt. A coefficient between -1.25 and 1.25 times a learned direction, as"
            f" long as {SCALE:g} of the mean residual there, is added to the output of block {recipe.planted_layer} at every"
            " position, and each sentence follows its sign with a probability of its size. A random direction up to"
            f" {NOISE:g} times as long is added too, and must be ignored.",
            f"- In announced conversations, a squared error (weight {READOUT_WEIGHT:g}) pulls the projection of that output onto"
            " the same direction to +1 or -1 with the trait asked for.",
        ]
    return [
        *lines,
        "",
        "## What was kept apart",
        "",
        f"- Topics: {len(EVALUATION_TOPICS)} are asked about only when results are measured, {len(EXTRACTION_TOPICS)} are open to"
        " extraction and alignment. Training has all of them, because facts must be learned to be told.",
        "- Question wordings (lead x core) and system-prompt wordings (frame x adjective): every combination belongs to one of"
        " training, extraction and evaluation. The single words occur in all three: the grammar is all the model knows.",
        "- Block and coefficients are chosen on extraction questions.",
        "",
    ]
