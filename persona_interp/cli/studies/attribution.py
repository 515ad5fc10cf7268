"""``persona-interp study attribution``: are the heads that write along a vector the ones its trait needs?"""

from __future__ import annotations

import argparse
from typing import Any

from persona_interp.cli import arguments
from persona_interp.cli.studies.bench import add_bench


def register(commands: Any) -> None:
    """Add the command to the parser."""
    add_bench(
        commands,
        run,
        words=(
            "attribution",
            "attribute vectors of the bundled organisms, and ablate what writes them",
            "Extract vectors, attribute them at the planted block, and ablate the heads that write most, or others.",
        ),
        output="attribution.json",
        kept="a .json file; the table goes beside it as .md, answers and scores into a .run folder, from which a second run goes "
        "on",
        names="default: every organism that ships",
        samples=1,
    )


def run(args: argparse.Namespace) -> None:
    """Measure, show and write."""
    from persona_interp.models.registry import load_model, shipped_models
    from persona_interp.organisms.grammar.questions import check_trait
    from persona_interp.organisms.recipes import recipe_of
    from persona_interp.progress import say
    from persona_interp.provenance import provenance
    from persona_interp.storage import write_json, write_text
    from persona_interp.studies.attribution import FORMAT_VERSION, attribution_case, attribution_markdown, attribution_summary

    names = [recipe_of(name).name for name in args.names] or sorted(shipped_models())
    traits = [check_trait(trait) for trait in dict.fromkeys(args.traits)]
    folder = arguments.json_result(args.output).with_suffix(".run")
    found = []
    for name in names:
        model = load_model(name)
        for trait in traits:
            found.append(attribution_case(model, trait, folder / f"{name}_{trait}", samples=args.samples, seed=args.seed))
            say(f"{name}, {trait}: {found[-1].heads.reason()}")
            cases = [case.to_json() for case in found]
            write_json(args.output, {"format_version": FORMAT_VERSION, "cases": cases, "provenance": provenance(seed=args.seed)})
    written = write_text(args.output.with_suffix(".md"), attribution_markdown(found))
    print(attribution_markdown(found))
    print(f"wrote {written}")
    print(attribution_summary(found))
