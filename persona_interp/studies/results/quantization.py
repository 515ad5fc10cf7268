"""What is said of vectors in quantized files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from persona_interp.measure.markdown_table import markdown_table
from persona_interp.organisms.gguf_export import KINDS
from persona_interp.storage import read_json
from persona_interp.studies.reproduction.quantization_text import overview_markdown, quantization_summary
from persona_interp.studies.reproduction.quantized_steering import OTHER_SEED, QuantizedSteering, quantization_from_json


def quantization(folder: Path) -> str:
    """Both tables, what was met, and the extremes."""
    rows, parity = quantization_from_json(read_json(folder / "quantization.json", "quantizations"))
    table = markdown_table(("what", "measured"), extremes(rows))
    return "\n".join([overview_markdown(rows, parity), quantization_summary(rows, parity), "", *table])


def extremes(rows: Sequence[QuantizedSteering]) -> list[tuple[str, str]]:
    """Ranges, and the single rows that stand out."""
    files = [row for row in rows if row.weights in KINDS]
    other = [row for row in rows if row.weights == OTHER_SEED]
    below = [row for row in files if (row.share.high or 0.0) < 1]
    drawn = {(row.model, row.trait): row.cosines[row.layer] for row in other}
    gaps = [drawn[row.model, row.trait] - row.cosines[row.layer] for row in files if row.weights == "q4_0"]
    farther = [f"{gap:.5f}" for gap in gaps if gap > 0]
    pushed = [row.random.value or 0.0 for row in rows]
    return [
        ("share of the slope in PyTorch, all files", _span([row.share.value or 0.0 for row in files])),
        ("the same of another seed in PyTorch", _span([row.share.value or 0.0 for row in other])),
        (f"intervals of {len(files)} below 1", "; ".join(_share(row) for row in below) or "none"),
        ("vectors at `q4_0` farther off, at the steered block, than another seed's", f"{len(farther)}: {', '.join(farther)}"),
        ("lowest cosine of another seed", _least(other)),
        ("lowest cosine of a file", _least(files)),
        ("share that a random direction reaches", _span(pushed)),
    ]


def _span(values: Sequence[float]) -> str:
    return f"{min(values):.2f} to {max(values):.2f}"


def _share(row: QuantizedSteering) -> str:
    return f"{row.trait} in {_short(row)} at `{row.weights}` ({row.share.value:.2f})"


def _least(rows: Sequence[QuantizedSteering]) -> str:
    row = min(rows, key=lambda each: each.cosines[each.lowest])
    weights = "" if row.weights == OTHER_SEED else f" at `{row.weights}`"
    return f"{row.cosines[row.lowest]:.2f} ({row.trait} in {_short(row)}{weights}, block {row.lowest})"


def _short(row: QuantizedSteering) -> str:
    return row.model.removeprefix("organism-")
