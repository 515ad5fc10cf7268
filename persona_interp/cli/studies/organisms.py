"""``persona-interp study organisms``: measure the bundled organisms and make their cards."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from persona_interp.cli import arguments

if TYPE_CHECKING:
    from persona_interp.studies.organism_cards.card import OrganismCard


def register(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "organisms",
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
    from persona_interp.models.registry import shipped_models
    from persona_interp.organisms.grammar import TRAITS
    from persona_interp.organisms.grammar.questions import check_trait
    from persona_interp.organisms.recipes import recipe_of
    from persona_interp.storage import ensure_writable, write_text
    from persona_interp.studies.organism_cards.card import make_card
    from persona_interp.studies.organism_cards.text import bench_markdown, cells, save_card

    names = [recipe_of(name).name for name in args.names] or sorted(shipped_models())
    traits = tuple(check_trait(trait) for trait in args.traits or TRAITS)
    folder = args.output or Path("cards")
    for name in names:
        ensure_writable(folder / name / "card.json")
    cards: list[OrganismCard] = []
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
        cards.append(card)
        rows += [[card.short_name, f"{card.n_parameters / 1e6:.1f} M", card.planted_block, *cells(card, r)] for r in card.reports]
        failures += [f"{name}: {failure}" for failure in card.failures]
    headings = [(name, "left" if name in ("model", "trait") else "right") for name in _HEADINGS]
    written = write_text(folder / "BENCH.md", bench_markdown(cards))
    console().print(table("Model organisms, scores 0-100 by the exact judge", headings, rows))
    print(_LEGEND)
    print(f"wrote {written}")
    print("the bar is met" if not failures else "the bar is NOT met: " + "; ".join(failures))


def _earlier(path: Path) -> OrganismCard | None:
    """The card of an interrupted or shorter run, whose measurements need not be made again."""
    from persona_interp.storage import read_json
    from persona_interp.studies.organism_cards.card import OrganismCard

    return OrganismCard.from_json(read_json(path, "organism card")) if path.exists() and path.stat().st_size else None


_HEADINGS = ("model", "size", "planted", "trait", "base", "for", "against", "best", "up", "down", "rho", "random", "bar")

_LEGEND = """for, against: under system prompts. planted, best: blocks. up, down: steered at the best block, coherence in
brackets. rho: Spearman of coefficient and score. random: how far eight directions of the same norm move the score, mean and
largest. The bar is required of silly and honest, and of silly alone where nothing is planted."""
