"""What was measured of one trait in one kind of weights, and whether it reaches the bar."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from persona_interp.errors import FileFormatError
from persona_interp.measure.statistics import Estimate
from persona_interp.records import Record
from persona_interp.storage import check_format_version
from persona_interp.studies.reproduction.residual_parity import ResidualParity

FORMAT_VERSION = 1
FULL = "PyTorch"
OTHER_SEED = "another seed"
"""PyTorch once more, with other answers: the control of every row, for all that it shows is chance."""
BARS = {"q8_0": 0.95, "q4_0": 0.85}
"""Share of the full-precision slope that must be left."""


@dataclass(frozen=True)
class QuantizedSteering(Record):
    """One trait in one kind of weights, beside the float32 PyTorch model.

    Attributes:
        model: name of the organism.
        trait: name of the trait.
        weights: a kind of GGUF file, or `FULL`, or `OTHER_SEED`.
        layer: 0-based block steered at: the one where the full model's vector works best, from 1 on.
        cosines: of the vector extracted from these weights with the full model's, at every layer.
        slope: of the trait score on the full model's vector, in points per 0.1 of perturbation ratio.
        share: of the full model's slope; 95 % interval over questions, the same ones for both.
        random: the same for a random direction of the same length.
        coherence: the lowest mean over coefficients, 0-100.
    """

    json_kind = "quantized steering"

    model: str
    trait: str
    weights: str
    layer: int
    cosines: tuple[float, ...]
    slope: Estimate
    share: Estimate
    random: Estimate
    coherence: float | None

    @property
    def lowest(self) -> int:
        """The layer where the two vectors differ most."""
        return min(range(len(self.cosines)), key=lambda layer: self.cosines[layer])

    @property
    def met(self) -> bool | None:
        """Whether enough of the slope is left; None where there is no bar. By the value, whatever its interval."""
        bar = BARS.get(self.weights)
        return None if bar is None else self.share.value is not None and self.share.value >= bar


def quantization_json(
    rows: Sequence[QuantizedSteering], parity: Sequence[ResidualParity], provenance: Mapping[str, Any]
) -> dict[str, Any]:
    """All that was measured, as JSON values."""
    found = {"parity": [each.to_json() for each in parity], "rows": [each.to_json() for each in rows]}
    return {"format_version": FORMAT_VERSION, **found, "provenance": dict(provenance)}


def quantization_from_json(
    data: Mapping[str, Any], *, source: str = "quantizations"
) -> tuple[list[QuantizedSteering], list[ResidualParity]]:
    """The inverse of `quantization_json`.

    Raises:
        FileFormatError: another format version, or a field that is missing or malformed.
    """
    check_format_version(data, FORMAT_VERSION, source)
    try:
        rows = [QuantizedSteering.from_json(each, source=source) for each in data["rows"]]
        return rows, [ResidualParity.from_json(each, source=source) for each in data["parity"]]
    except (KeyError, TypeError) as error:
        raise FileFormatError(f"{source}: a field is missing or malformed ({error!r})") from error
