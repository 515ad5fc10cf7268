"""``persona-interp study modulation``: what can be done to GGUF models from inside and from outside, beside placebos?"""

from __future__ import annotations

import argparse
from typing import Any

from persona_interp.cli import arguments
from persona_interp.cli.studies.bench import TRAITS, add_bench


def register(commands: Any) -> None:
    """Add the command to the parser."""
    add_bench(
        commands,
        run,
        words=(
            "modulation",
            "modulate the bundled organisms as GGUF files in every way, against placebos",
            "Export model organisms to GGUF, and measure what control vectors, token biases, sampling parameters, system prompts "
            "and placebos do to a trait.",
        ),
        output="modulation.json",
        kept="a .json file; the table goes beside it as .md, models, answers and scores into a .run folder, from which a second "
        "run goes on",
    )


def run(args: argparse.Namespace) -> None:
    """Measure, show and write."""
    from persona_interp.measure.modulation import Modulated
    from persona_interp.measure.scored_vector import scored_vector
    from persona_interp.models.registry import load_model
    from persona_interp.models.sampling import Sampling
    from persona_interp.organisms.grammar.questions import check_trait
    from persona_interp.organisms.grammar_judge import GrammarJudge
    from persona_interp.organisms.recipes import planted_organisms
    from persona_interp.organisms.trait_texts import organism_trait
    from persona_interp.provenance import provenance
    from persona_interp.storage import write_json, write_text
    from persona_interp.studies.reproduction.modulation_bench import (
        FORMAT_VERSION,
        modulation_case,
        modulation_markdown,
        modulation_summary,
    )

    names = planted_organisms(args.names)
    traits = [check_trait(trait) for trait in dict.fromkeys(args.traits)]
    arguments.json_result(args.output)
    folder, sampling = args.output.with_suffix(".run"), Sampling(max_new_tokens=120)
    found: list[Modulated] = []
    for name in names:
        source = load_model(name)
        vectors = {
            trait: scored_vector(
                source, organism_trait(trait), folder / "vectors" / name, judge=GrammarJudge(), sampling=sampling, seed=args.seed,
                batch_size=256,
            )
            for trait in dict.fromkeys((*traits, *TRAITS))
        }  # fmt: skip
        for trait in traits:
            other = vectors["silly" if trait == "honest" else "honest"]
            found += modulation_case(
                name, trait, vectors[trait], other, folder / name, load=lambda _, source=source: source, samples=args.samples,
                sampling=sampling, seed=args.seed,
            )  # fmt: skip
            cases = [each.to_json() for each in found]
            write_json(args.output, {"format_version": FORMAT_VERSION, "cases": cases, "provenance": provenance(seed=args.seed)})
    written = write_text(args.output.with_suffix(".md"), modulation_markdown(found))
    print(modulation_markdown(found))
    print(f"wrote {written}")
    print(modulation_summary(found))
