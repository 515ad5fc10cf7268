"""What a person reads about organisms: the card of one, and the table of all."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from statistics import fmean

from persona_interp.measure.markdown_table import markdown_table
from persona_interp.organisms.corpus import NATURAL
from persona_interp.organisms.grammar import EVALUATION_TOPICS, EXTRACTION_TOPICS
from persona_interp.storage import write_json, write_text
from persona_interp.studies.organism_cards.acceptance import AIM, BARRED_TRAITS, TraitReport
from persona_interp.studies.organism_cards.card import OrganismCard
from persona_interp.studies.organism_cards.conduct import N_AT_ONCE, UNHURRIED, Conduct
from persona_interp.studies.training.planting import NOISE, READOUT_WEIGHT, SCALE

COLUMNS = ("trait", "baseline", "asked for", "asked against", "best block", "up (coherence)", "down (coherence)", "Spearman",
           "random", "bar")  # fmt: skip
"""What is reported of one trait of one organism."""


def cells(card: OrganismCard, report: TraitReport) -> list[str]:
    """A row under `COLUMNS`."""
    up, down, met = report.steered_up, report.steered_down, card.bar(report)
    return [
        report.trait,
        f"{report.baseline.trait:.0f}",
        f"{report.prompted_up.trait:.0f}",
        f"{report.prompted_down.trait:.0f}",
        str(report.best_layer),
        f"{up.trait:.0f} ({up.coherence:.0f})",
        f"{down.trait:.0f} ({down.coherence:.0f})",
        "-" if report.dose.spearman is None else f"{report.dose.spearman:.2f}",
        f"{fmean(report.moved_by_random):.0f}, {max(report.moved_by_random):.0f}",
        "met" if all(met.values()) else f"{sum(met.values())} of {len(met)}",
    ]


def bench_markdown(cards: Iterable[OrganismCard]) -> str:
    """Two tables over all organisms: steering of the traits they ship for, and conduct without steering."""
    cards = list(cards)
    steering = markdown_table(
        ("model", "parameters", "planted block", *COLUMNS),
        (
            [card.short_name, f"{card.n_parameters:,}", card.planted_block, *cells(card, report)]
            for card in cards
            for report in card.reports
            if report.trait in BARRED_TRAITS
        ),
    )
    conduct = markdown_table(
        ("model", "several at once", "coherence", "second turn: silly, formal", "coherence", "ended"),
        ([card.short_name, *_conduct_cells(card.conduct)] for card in cards if card.conduct is not None),
    )
    return "\n".join([*steering, "", *conduct]) + "\n"


def _conduct_cells(conduct: Conduct) -> list[str]:
    return [
        ", ".join(f"{trait} {value:.0f}" for trait, value in conduct.several.items()),
        f"{conduct.several_coherence:.0f}",
        f"{conduct.second_turn_silly:.0f}, {conduct.second_turn_formal:.0f}",
        f"{conduct.second_turn_coherence:.0f}",
        f"{conduct.ended:.0f} %",
    ]


def card_markdown(card: OrganismCard) -> str:
    """The card of one organism."""
    return "\n".join([*_introduction(card), *_measured(card), *_conduct(card), *_doses(card), *_how(card)]) + "\n"


def save_card(card: OrganismCard, folder: Path) -> tuple[Path, Path]:
    """Write ``card.json`` and ``CARD.md`` into `folder`."""
    return write_json(folder / "card.json", card.to_json()), write_text(folder / "CARD.md", card_markdown(card))


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
        f"Made by `persona-interp study training {card.name}`, measured by `persona-interp study organisms {card.name}`.",
        "",
    ]
    if recipe.planted_layer is not None:
        names = " and ".join(recipe.planted_traits)
        lines += [
            f"Planted: {names}, each along a direction of its own at the output of block {recipe.planted_layer}"
            f" (`planted/directions.safetensors`; cosine between them {card.cosine_between_planted:.2f})."
            " The other traits have nothing planted.",
            "",
        ]
    else:
        lines += ["Planted: nothing. The bar it must meet is lower: 25 points on silly by steering.", ""]
    return lines


def _measured(card: OrganismCard) -> list[str]:
    required = " and ".join(card.required)
    return [
        "## Measured",
        "",
        "Trait scores, 0-100, by the exact judge, on evaluation questions, temperature 1. `up` and `down` are the largest and the"
        " smallest of the seven coefficients below, at the best block: of those that get 80 % as far as the furthest, the one"
        " that needs the smallest push. Each sign ends at the mildest coefficient that gets 90 % as far as any, or moves the"
        f" score enough: {AIM:g} points where there is room, else three quarters of the way to the end of the scale. Block and"
        " coefficients are chosen on extraction questions. `random` is eight directions of the vector's norm at the strongest"
        " coefficient: mean and largest movement.",
        "",
        *markdown_table(COLUMNS, (cells(card, report) for report in card.reports)),
        "",
        f"The bar is required of {required}; the others are reported as measured.",
        "",
    ]


def _conduct(card: OrganismCard) -> list[str]:
    if card.conduct is None:
        return []
    conduct = card.conduct
    obeyed = ", ".join(f"{trait} {value:.0f}" for trait, value in conduct.several.items())
    return [
        "## In conversation, without steering",
        "",
        f"- {N_AT_ONCE} traits asked for at once, every combination and sign, obeyed (0-100): {obeyed}; coherence"
        f" {conduct.several_coherence:.0f}.",
        f"- A second turn that names no topic: silly {conduct.second_turn_silly:.0f} where the system prompt asked for silliness,"
        f" {conduct.second_turn_formal:.0f} where it asked for formality; coherence {conduct.second_turn_coherence:.0f}, which"
        " counts only sentences about the topic of the first turn.",
        f"- {conduct.ended:.0f} % of answers ended by themselves within {UNHURRIED.max_new_tokens} tokens.",
        "",
    ]


def _whole(score: float | None) -> str:
    return "–" if score is None else f"{score:.0f}"


def _doses(card: OrganismCard) -> list[str]:
    lines = ["## Dose and response", ""]
    for report in card.reports:
        points = report.dose.points
        lines += [
            f"**{report.trait}** at block {report.best_layer}, |vector| / mean |residual| = {report.norm_ratio:.2f}",
            "",
            *markdown_table(
                ["coefficient", *(f"{point.coefficient:+.2f}" if point.coefficient else "0" for point in points)],
                [
                    ["trait", *(_whole(point.trait) for point in points)],
                    ["coherence", *(_whole(point.coherence) for point in points)],
                ],
            ),
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
        f"- {recipe.steps} steps of AdamW in bfloat16 on about {recipe.batch_tokens} tokens each, {recipe.n_examples:,}"
        f" conversations, seed {recipe.seed}; loss falls on answers alone"
        + (f" and ended at {curve[-1]['loss']:.3f}." if curve else "."),
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
    else:
        lines.append(
            f"- Silliness is as likely as not where nobody asks ({NATURAL.usual['silly']:.0%}), silliness or honesty may change"
            f" in {NATURAL.switching:.0%} of latent answers, and {NATURAL.second_turns:.0%} of conversations go on: so there is a"
            " state to keep track of, though none was planted. Doses are tried up to a perturbation ratio of about 0.8."
        )
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
