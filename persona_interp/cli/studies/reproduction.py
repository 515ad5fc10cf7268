"""``persona-interp study reproduction``: every main experiment in one resumable run."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from persona_interp.cli import arguments

if TYPE_CHECKING:
    from persona_interp.measure.sections import Section
    from persona_interp.studies.reproduction.preset import Preset
    from persona_interp.studies.reproduction.results import Reproduction


def register(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "reproduction",
        help="run every main experiment, and say which of the brief's claims hold",
        description="Extract vectors, choose layers, steer over a range of coefficients, carry vectors between models, and "
        "report. A run cut short goes on where it stopped.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--preset",
        choices=("organisms", "paper"),
        default="organisms",
        help="organisms: the bundled models; paper: Qwen2.5-7B to Llama-3.1-8B and Mistral-7B, on a GPU (default: %(default)s)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("experiments/paper_results"),
        metavar="DIR",
        help="where reports, figures and all work go (default: %(default)s)",
    )
    parser.add_argument("--dry-run", action="store_true", help="only say what each step would need: memory, disk, tokens, time")
    parser.add_argument(
        "--anchors",
        type=Path,
        metavar="FILE.jsonl",
        help="texts that carry vectors (default: the organisms' corpus, or the package's)",
    )
    parser.add_argument("--seed", type=arguments.seed, default=0, metavar="N", help="same seed, same numbers (default: 0)")
    parser.add_argument("--batch-size", type=arguments.count, metavar="N", help="rows run together (default: the model chooses)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Plan, or run what is missing and write the reports."""
    from persona_interp.progress import say
    from persona_interp.storage import ensure_writable
    from persona_interp.studies.reproduction.preset import preset
    from persona_interp.studies.reproduction.run import reproduce
    from persona_interp.transfers.anchors import anchors_for, read_anchors

    wanted = preset(args.preset)
    anchors = anchors_for(wanted.models) if args.anchors is None else read_anchors(args.anchors)
    if args.dry_run:
        show(planned(wanted, len(anchors)))
        return
    ensure_writable(args.output / "report.json")
    try:
        found = reproduce(wanted, args.output, anchors=anchors, seed=args.seed, batch_size=args.batch_size)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"To go on, give the same command again; what was made is in {args.output}") from None
    write(args.output, found)
    say(f"written: {args.output / 'report.md'}, report.html, report.json and figures")


def planned(wanted: Preset, n_anchors: int) -> Section:
    """What each step would need."""
    from persona_interp.studies.reproduction.estimate import MACHINES, plan
    from persona_interp.studies.reproduction.report import plan_section

    return plan_section(plan(wanted, n_anchors), MACHINES[wanted.name].name)


def write(folder: Path, found: Reproduction) -> None:
    """Reports and figures; the claims also into the terminal."""
    from persona_interp.measure.sections import sections_markdown
    from persona_interp.plotting.html import save_html_folder
    from persona_interp.plotting.sections_page import save_sections
    from persona_interp.storage import write_json, write_text
    from persona_interp.studies.plotting.reproduction import reproduction_figures
    from persona_interp.studies.reproduction.report import sections, title

    parts, figures = sections(found), reproduction_figures(found)
    write_json(folder / "report.json", found.to_json())
    write_text(folder / "report.md", sections_markdown(title(found), parts))
    save_sections(folder / "report.html", title(found), parts, figures)
    save_html_folder(folder / "figures", {f"figure-{n}": figure for n, figure in enumerate(figures, 1)}, title=title(found))
    show(parts[0])


def show(section: Section) -> None:
    """A section's table in the terminal."""
    from persona_interp.cli.tables import console, table

    alignment = [(name, "left") for name in section.headings]
    screen = console()
    screen.print(table(section.title, alignment, [list(row) for row in section.rows]))
    screen.print("\n".join(section.paragraphs), markup=False, highlight=False)
