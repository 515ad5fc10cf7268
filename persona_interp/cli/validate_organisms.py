"""``persona-interp validate-organisms``: measure the bundled organisms and make their cards."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from persona_interp.cli import arguments

if TYPE_CHECKING:
    from persona_interp.evaluation.organism_bar import TraitReport
    from persona_interp.evaluation.organism_card import OrganismCard


def register(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "validate-organisms",
        help="measure the bundled model organisms with the exact judge and write their cards",
        allow_abbrev=False,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="default: every organism that ships")
    parser.add_argument("--traits", nargs="+", metavar="T", help="default: all of the grammar's")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="where NAME/card.json and NAME/CARD.md go, and what is measured already is taken from (default: cards)",
    )
    parser.add_argument("--seed", type=arguments.whole, default=0, help="same seed, same numbers (default: %(default)s)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Measure each organism, print the table, write the cards."""
    from persona_interp.cli.tables import console, table
    from persona_interp.evaluation.organism_card import make_card, save_card
    from persona_interp.models.registry import shipped_models
    from persona_interp.organisms.grammar import TRAITS
    from persona_interp.organisms.grammar.questions import check_trait
    from persona_interp.organisms.recipes import recipe_of
    from persona_interp.storage import ensure_writable

    names = [recipe_of(name).name for name in args.names] or sorted(shipped_models())
    traits = tuple(check_trait(trait) for trait in args.traits or TRAITS)
    folder = args.output or Path("cards")
    for name in names:
        ensure_writable(folder / name / "card.json")
    rows: list[list[str]] = []
    failures: list[str] = []
    for name in names:
        card = make_card(
            name,
            traits=traits,
            seed=args.seed,
            earlier=_earlier(folder / name / "card.json"),
            on_trait=partial(save_card, folder=folder / name),
        )
        print(f"wrote {folder / name / 'card.json'} and {folder / name / 'CARD.md'}")
        rows += [_row(name, card.recipe.planted_layer, report) for report in card.reports]
        failures += [f"{name}: {failure}" for failure in card.failures]
    console().print(table("Model organisms, scores 0-100 by the exact judge", _HEADINGS, rows))
    print(_LEGEND)
    print("the bar is met" if not failures else "the bar is NOT met: " + "; ".join(failures))


def _earlier(path: Path) -> OrganismCard | None:
    """The card of an interrupted or shorter run, whose measurements need not be made again."""
    from persona_interp.evaluation.organism_card import OrganismCard
    from persona_interp.storage import read_json

    return OrganismCard.from_json(read_json(path, "organism card")) if path.exists() and path.stat().st_size else None


_HEADINGS = [
    ("model", "left"), ("trait", "left"), ("base", "right"), ("asked", "right"), ("up", "right"), ("down", "right"),
    ("random", "right"), ("planted", "right"), ("best", "right"), ("bar", "right"),
]  # fmt: skip

_LEGEND = """asked: under system prompts for and against the trait. up, down: steered, coherence in brackets. random: how far
eight directions of the same norm move the score, mean and largest. planted, best: blocks."""


def _row(name: str, planted_layer: int | None, report: TraitReport) -> list[str]:
    moved = [abs(score - report.baseline.trait) for score in report.random]
    met = report.bar()
    return [
        name.removeprefix("organism-"),
        report.trait,
        f"{report.baseline.trait:.0f}",
        f"{report.prompted_up.trait:.0f}, {report.prompted_down.trait:.0f}",
        f"{report.steered_up.trait:.0f} ({report.steered_up.coherence:.0f})",
        f"{report.steered_down.trait:.0f} ({report.steered_down.coherence:.0f})",
        f"{sum(moved) / len(moved):.0f}, {max(moved):.0f}",
        "-" if planted_layer is None else str(planted_layer),
        str(report.best_layer),
        "met" if all(met.values()) else f"{sum(met.values())}/{len(met)}",
    ]
