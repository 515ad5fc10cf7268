"""``persona-interp traits list|show|add``: the library of traits and the user's own."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any


def register(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser("traits", help="list, show or add traits", allow_abbrev=False)
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)

    listing = actions.add_parser("list", help="every trait that can be named", allow_abbrev=False)
    listing.set_defaults(run=list_traits)

    show = actions.add_parser("show", help="a trait's instructions, questions and rubric", allow_abbrev=False)
    show.add_argument("trait", metavar="TRAIT", help="name or .json file")
    show.add_argument("--organism", action="store_true", help="the trait of that name that the model organisms have")
    show.add_argument("--json", action="store_true", help="print the trait file itself, to start your own from")
    show.set_defaults(run=show_trait)

    add = actions.add_parser("add", help="check a trait file and keep it under its name", allow_abbrev=False)
    add.add_argument("file", type=Path, metavar="FILE", help="a trait: .json with instruction, questions and eval_prompt")
    add.add_argument("--overwrite", action="store_true", help="replace your own trait of the same name")
    add.set_defaults(run=add_trait)


def list_traits(_: argparse.Namespace) -> None:
    """Print names, where they come from, and descriptions."""
    from persona_interp.cli.tables import console, table
    from persona_interp.organisms.grammar import TRAITS
    from persona_interp.organisms.trait_texts import organism_trait
    from persona_interp.traits.catalogue import load_trait, trait_names

    rows = [[name, origin, load_trait(name).description] for name, origin in trait_names().items()]
    rows += [[name, "organisms", organism_trait(name).description] for name in TRAITS]
    console().print(table("traits", [("name", "left"), ("from", "left"), ("description", "left")], rows))


def show_trait(args: argparse.Namespace) -> None:
    """Print one trait in full."""
    import json

    from persona_interp.organisms.trait_texts import organism_trait
    from persona_interp.traits.catalogue import load_trait

    trait = organism_trait(args.trait) if args.organism else load_trait(args.trait)
    if args.json:
        print(json.dumps(trait.to_json(), indent=2, ensure_ascii=False))
        return
    print(f"{trait.name}: {trait.description}")
    for number, pair in enumerate(trait.instructions, start=1):
        print(f"\ninstruction {number}\n  + {pair.positive}\n  - {pair.negative}")
    for kind, questions in (("extraction", trait.extraction_questions), ("evaluation", trait.evaluation_questions)):
        print(f"\n{len(questions)} {kind} questions")
        print("\n".join(f"  {question}" for question in questions))
    print(f"\nrubric\n{trait.rubric}")


def add_trait(args: argparse.Namespace) -> None:
    """Validate a trait file and copy it to the user's folder."""
    from persona_interp.traits.catalogue import add_trait as add
    from persona_interp.traits.catalogue import load_trait

    trait = load_trait(args.file)
    path = add(trait, overwrite=args.overwrite)
    print(f"added {trait.name!r}: {path}", file=sys.stdout)
