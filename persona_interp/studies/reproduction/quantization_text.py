"""Persona vectors under quantization, as tables and in words."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from persona_interp.measure.markdown_table import markdown_table
from persona_interp.studies.reproduction.quantized_steering import BARS, FULL, QuantizedSteering
from persona_interp.studies.reproduction.residual_parity import BAR, ResidualParity

LEGEND = (
    "cosine: of the vector extracted from these weights with the one from the float32 PyTorch model, where it is lowest and at "
    "the block steered; slope: points of trait score per 0.1 of perturbation ratio, of the PyTorch model's vector on these "
    "weights; share: of the slope in PyTorch; random: the same for a random direction as long; coherence: the lowest mean at any "
    "coefficient; another seed: PyTorch again, which shows what is chance. Intervals (95 %) are over questions."
)
ROW_HEADINGS = (
    "model",
    "trait",
    "weights",
    "lowest cosine (block)",
    "cosine, steered (block)",
    "slope",
    "share",
    "random",
    "coherence",
    "bar",
)
PARITY_HEADINGS = ("model", "float32 file against", "largest difference", "at block", "mean length there", "tokens beyond", "bar")
OVERVIEW_HEADINGS = ("weights", "trait", "lowest cosine", "cosine, steered", "share", "random", "coherence", "bar")


def row_cells(rows: Sequence[QuantizedSteering]) -> list[tuple[str, ...]]:
    """Cells under `ROW_HEADINGS`."""
    return [
        (
            _short(each.model),
            each.trait,
            each.weights,
            f"{_cosine(each.cosines[each.lowest])} ({each.lowest})",
            f"{_cosine(each.cosines[each.layer])} ({each.layer})",
            str(each.slope),
            str(each.share),
            str(each.random),
            _whole(each.coherence),
            _verdict(each.met, BARS.get(each.weights)),
        )
        for each in rows
    ]


def parity_cells(parity: Sequence[ResidualParity]) -> list[tuple[str, ...]]:
    """Cells under `PARITY_HEADINGS`."""
    return [
        (
            _short(each.model),
            each.reference,
            f"{each.largest:.1e}",
            str(each.layer),
            f"{each.norm:.0f}",
            f"{each.n_beyond:,} of {each.n_tokens:,}",
            _verdict(each.met, BAR),
        )
        for each in parity
    ]


def overview_cells(rows: Sequence[QuantizedSteering]) -> list[tuple[str, ...]]:
    """Cells under `OVERVIEW_HEADINGS`: ranges over the models, for each kind of weights and each trait."""
    found: list[tuple[str, ...]] = []
    for weights in dict.fromkeys(each.weights for each in rows):
        for trait in dict.fromkeys(each.trait for each in rows):
            mine = [each for each in rows if (each.weights, each.trait) == (weights, trait)]
            if mine:
                found.append(
                    (
                        weights,
                        trait,
                        _cosine(min(each.cosines[each.lowest] for each in mine)),
                        _range([each.cosines[each.layer] for each in mine], _cosine),
                        _range([each.share.value for each in mine], _share),
                        _range([each.random.value for each in mine], _share),
                        _whole(min((each.coherence for each in mine if each.coherence is not None), default=None)),
                        _verdicts(mine),
                    )
                )
    return found


def overview_markdown(rows: Sequence[QuantizedSteering], parity: Sequence[ResidualParity]) -> str:
    """Two tables for the results page: parity of the float32 files, and ranges over the models."""
    first, second = markdown_table(PARITY_HEADINGS, parity_cells(parity)), markdown_table(OVERVIEW_HEADINGS, overview_cells(rows))
    return "\n".join([*first, "", *second]) + "\n"


def quantization_markdown(rows: Sequence[QuantizedSteering], parity: Sequence[ResidualParity]) -> str:
    """The tables of the overview, and every row."""
    return "\n".join([overview_markdown(rows, parity), *markdown_table(ROW_HEADINGS, row_cells(rows)), "", LEGEND]) + "\n"


def quantization_summary(rows: Sequence[QuantizedSteering], parity: Sequence[ResidualParity]) -> str:
    """What was met and what was missed, in one paragraph."""
    said = [f"float32 residuals within {BAR:g}: {_counted([each.met for each in parity if each.reference == FULL])}"]
    for weights, bar in BARS.items():
        verdicts = [each.met is True for each in rows if each.weights == weights]
        said.append(f"{weights} at {bar:g} or more of the full-precision slope: {_counted(verdicts)}")
    missed = [f"{_short(each.model)} against {each.reference} ({each.largest:.1e})" for each in parity if not each.met]
    missed += [f"{_short(each.model)}, {each.trait}, {each.weights} ({each.share})" for each in rows if each.met is False]
    return "; ".join(said) + (f". Missed: {'; '.join(missed)}." if missed else ". Nothing is missed.")


def _counted(verdicts: Sequence[bool]) -> str:
    return f"met in {sum(verdicts)} of {len(verdicts)}"


def _verdicts(rows: Sequence[QuantizedSteering]) -> str:
    known = [each.met for each in rows if each.met is not None]
    return f"{BARS[rows[0].weights]:g}: {_counted(known)}" if known else "–"


def _verdict(met: bool | None, bar: float | None) -> str:
    return "–" if met is None or bar is None else f"{bar:g}: {'met' if met else 'missed'}"


def _range(values: Sequence[float | None], shown: Callable[[float], str]) -> str:
    known = [value for value in values if value is not None]
    return f"{shown(min(known))} to {shown(max(known))}" if known else "–"


def _cosine(value: float) -> str:
    return f"{value:.3f}"


def _share(value: float) -> str:
    return f"{round(value, 2) + 0.0:.2f}"  # no -0.00


def _whole(value: float | None) -> str:
    return "–" if value is None else f"{value:.0f}"


def _short(name: str) -> str:
    return name.removeprefix("organism-")
