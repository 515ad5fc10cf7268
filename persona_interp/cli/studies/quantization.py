"""``persona-interp study quantization``: what is left of a persona vector in quantized GGUF files?"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from persona_interp.cli import arguments
from persona_interp.cli.studies.bench import add_bench

if TYPE_CHECKING:
    from persona_interp.studies.reproduction.quantized_steering import QuantizedSteering
    from persona_interp.studies.reproduction.residual_parity import ResidualParity


def register(commands: Any) -> None:
    """Add the command to the parser."""
    add_bench(
        commands,
        run,
        words=(
            "quantization",
            "extract from and steer the bundled organisms as GGUF files, from float32 down to four bits",
            "Export model organisms to GGUF, let llama.cpp quantize them, and compare residuals, vectors and steering with the "
            "float32 PyTorch model, beside a random direction and another seed.",
        ),
        output="quantization.json",
        kept="a .json file; tables go beside it as .md, models, answers and finished rows into a .run folder, from which a "
        "second run goes on",
    )


def run(args: argparse.Namespace) -> None:
    """Measure what is not measured yet, show and write."""
    from persona_interp.models.engines.llama_cpp.library import llama_cpp
    from persona_interp.organisms.grammar.questions import check_trait
    from persona_interp.organisms.recipes import planted_organisms
    from persona_interp.provenance import provenance
    from persona_interp.storage import write_json, write_text
    from persona_interp.studies.reproduction.quantization import QuantizationBench
    from persona_interp.studies.reproduction.quantization_text import quantization_markdown, quantization_summary
    from persona_interp.studies.reproduction.quantized_steering import quantization_json

    names = planted_organisms(args.names)
    traits = [check_trait(trait) for trait in dict.fromkeys(args.traits)]
    arguments.json_result(args.output)
    settings = {"seed": args.seed, "samples": args.samples, "llama_cpp_python": llama_cpp().__version__}
    rows: list[QuantizedSteering] = []
    parity: list[ResidualParity] = []
    with QuantizationBench(args.output.with_suffix(".run"), samples=args.samples, seed=args.seed) as bench:
        for name in names:
            parity += bench.parity(name, traits)
            for trait in traits:
                case = list(bench.rows(name, trait))
                rows += case
                write_json(args.output, quantization_json(rows, parity, provenance(**settings)))
                _show_case(case)
    written = write_text(args.output.with_suffix(".md"), quantization_markdown(rows, parity))
    _show_overview(rows, parity)
    print(quantization_summary(rows, parity))
    print(f"wrote {args.output}")
    print(f"wrote {written}")


def _show_case(case: Sequence[QuantizedSteering]) -> None:
    """Every kind of weights of one organism and trait."""
    from persona_interp.studies.reproduction.quantization_text import ROW_HEADINGS, row_cells

    slope = ROW_HEADINGS.index("slope")
    rows = [[*cells[2:slope], cells[slope].split(" [")[0], *cells[slope + 1 :]] for cells in row_cells(case)]
    _show(f"{case[0].model}, {case[0].trait}", ROW_HEADINGS[2:], rows)


def _show_overview(rows: Sequence[QuantizedSteering], parity: Sequence[ResidualParity]) -> None:
    from persona_interp.cli.tables import console
    from persona_interp.studies.reproduction.quantization_text import (
        LEGEND,
        OVERVIEW_HEADINGS,
        PARITY_HEADINGS,
        overview_cells,
        parity_cells,
    )

    _show("Outputs of all blocks, llama.cpp in float32 against PyTorch", PARITY_HEADINGS, parity_cells(parity))
    _show("Over the models", OVERVIEW_HEADINGS, overview_cells(rows))
    console().print(LEGEND, highlight=False, markup=False)


def _show(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table in which intervals and verdicts stand on a line of their own."""
    from persona_interp.cli.tables import console, table

    broken = [[cell.replace(" [", "\n[").replace(": ", ":\n") for cell in row] for row in rows]
    console().print(table(title, [(heading, "left") for heading in headings], broken))
