"""``persona-interp study layers``: is the automatic choice of a layer as good as an exhaustive search?"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from persona_interp.cli import arguments

if TYPE_CHECKING:
    from persona_interp.studies.layers import LayerBench

TRAITS = ("honest", "silly")


def register(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "layers",
        help="compare every way of choosing a layer on the bundled organisms, against an exhaustive search",
        description="Choose a layer in every way on extraction questions; measure every layer on evaluation questions.",
        allow_abbrev=False,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="default: every organism that ships")
    parser.add_argument("--traits", nargs="+", default=list(TRAITS), metavar="T", help="default: honest silly")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("layers"),
        metavar="DIR",
        help="where NAME_TRAIT.json and LAYERS.md go, and what is measured already is taken from (default: %(default)s)",
    )
    parser.add_argument("--seed", type=arguments.whole, default=0, help="same seed, same numbers (default: %(default)s)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Measure what is not measured yet, print and write the tables."""
    from persona_interp.models.registry import shipped_models
    from persona_interp.organisms.grammar.questions import check_trait
    from persona_interp.organisms.recipes import recipe_of
    from persona_interp.storage import ensure_writable, read_json, write_json, write_text
    from persona_interp.studies.layers import LayerBench, bench_layers, layers_markdown

    names = [recipe_of(name).name for name in args.names] or sorted(shipped_models())
    traits = [check_trait(trait) for trait in args.traits]
    benches: list[LayerBench] = []
    for name in names:
        for trait in traits:
            path = args.output / f"{name}_{trait}_{args.seed}.json"
            if not path.exists():
                ensure_writable(path)
                write_json(path, bench_layers(arguments.loaded(name), trait, seed=args.seed).to_json())
            benches.append(LayerBench.from_json(read_json(path, "layer bench"), source=str(path)))
    written = write_text(args.output / "LAYERS.md", layers_markdown(benches))
    print(layers_markdown(benches))
    print(f"wrote {written}")
    missed = [f"{bench.model}, {bench.trait}" for bench in benches if not bench.met]
    print("the bar is met" if not missed else "the bar is NOT met: " + "; ".join(missed))
