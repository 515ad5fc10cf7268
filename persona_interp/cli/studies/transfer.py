"""``persona-interp study transfer``: do vectors carry from every organism into every other?"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from persona_interp.cli.studies.bench import add_bench

if TYPE_CHECKING:
    from persona_interp.studies.transfers import TransferCase


def register(commands: Any) -> None:
    """Add the command to the parser."""
    add_bench(
        commands,
        run,
        words=(
            "transfer",
            "carry vectors between all pairs of bundled organisms, by every method, against controls",
            "Carry vectors between every ordered pair of model organisms, with the trait's style among the anchors and without, "
            "and measure how much of the target's own vector's effect they have.",
        ),
        output="transfer",
        kept="where SOURCE_TARGET_TRAIT.json and TRANSFER.md go; what is there already is not measured again, and a .run folder "
        "keeps answers",
    )


def run(args: argparse.Namespace) -> None:
    """Measure what is not measured yet, print and write the tables."""
    from persona_interp.organisms.grammar.questions import check_trait
    from persona_interp.organisms.recipes import planted_organisms
    from persona_interp.storage import ensure_writable, read_json, write_json, write_text
    from persona_interp.studies.transfers import TransferBench, TransferCase, summary, transfer_markdown, unmet

    names = planted_organisms(args.names)
    traits = [check_trait(trait) for trait in args.traits]
    bench = TransferBench(args.output / "work.run", seed=args.seed, samples=args.samples)
    cases: list[TransferCase] = []
    for trait in traits:
        for source in names:
            for target in names:
                if source == target:
                    continue
                path = args.output / f"{source}_{target}_{trait}.json"
                if not path.exists():
                    ensure_writable(path)
                    write_json(path, bench.case(source, target, trait).to_json())
                cases.append(TransferCase.from_json(read_json(path, "transfer case"), source=str(path)))
    written = write_text(args.output / "TRANSFER.md", transfer_markdown(cases))
    print(transfer_markdown(cases))
    print(f"wrote {written}")
    print(summary(cases))
    missed = unmet(cases)
    print("the bar is met" if not missed else "the bar is NOT met: " + "; ".join(missed))
