"""What can be said to a model of which only sampling parameters can be changed: two numbers of a vector, and a coefficient.

With magnitude ``m`` and polarity ``p`` of a vector, coefficient ``c`` and base values ``T0``, ``P0``, ``R0``:

- temperature ``T0 + 0.1 m c``, kept within 0.05 to 2,
- top_p ``P0 + 0.1 p c``, kept within 0.05 to 1,
- repetition penalty ``R0 + 0.1 p c``, kept within 0.5 to 2.

The magnitude is the perturbation ratio at coefficient 1 (norm of the direction over the mean norm of the residual stream),
averaged over the layers. It has no unit, so it differs between traits where norms alone would tell how large a model is. The
polarity is the signed mass ``sum(v) / sum(|v|)``, from -1 to 1, likewise averaged.

Neither number says what a vector means: a vector and its negative raise the temperature alike, and shuffling the dimensions of a
vector leaves both numbers as they were. That is what placebos are there to show.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from persona_interp.errors import InvalidInputError
from persona_interp.models.sampling import Sampling
from persona_interp.vectors.persona_vector import PersonaVector
from persona_interp.vectors.validation import finite_number, layer_spans

STEP = 0.1
"""Change of a parameter per unit of coefficient and of magnitude or polarity."""
TEMPERATURES = (0.05, 2.0)
"""Lowest and highest. At 0 sampling would be greedy, and the seeds of a comparison would count for nothing."""
TOP_PS = (0.05, 1.0)
REPETITION_PENALTIES = (0.5, 2.0)


@dataclass(frozen=True)
class ParameterModulator:
    """Maps a coefficient to sampling parameters, by the magnitude and the polarity of one vector.

    Example:
        >>> modulator = ParameterModulator.of(vector, layers=[3])
        >>> model.generate([Conversation.ask("How are you?")], sampling=modulator.sampling(2.0))

    Attributes:
        magnitude: perturbation ratio at coefficient 1, at least 0.
        polarity: signed mass, from -1 to 1.
        base: the parameters at coefficient 0.
        trait: what the vector is of, for records.

    Raises:
        InvalidInputError: a number out of its range, or a base outside what the mappings can reach.
    """

    magnitude: float
    polarity: float
    base: Sampling = field(default_factory=Sampling)
    trait: str = "unknown"

    def __post_init__(self) -> None:
        if not (math.isfinite(self.magnitude) and self.magnitude >= 0):
            raise InvalidInputError(f"the magnitude is {self.magnitude}, expected a finite number from 0 on")
        if not -1 <= self.polarity <= 1:
            raise InvalidInputError(f"the polarity is {self.polarity}, expected -1 to 1")
        for name, value, (low, high) in (
            ("temperature", self.base.temperature, TEMPERATURES),
            ("top_p", self.base.top_p, TOP_PS),
            ("repetition_penalty", self.base.repetition_penalty, REPETITION_PENALTIES),
        ):
            if not low <= value <= high:
                raise InvalidInputError(f"the base {name} is {value}, expected {low} to {high}: parameters are moved within that")

    @classmethod
    def of(
        cls, vector: PersonaVector, *, layers: Sequence[int] | None = None, base: Sampling | None = None
    ) -> ParameterModulator:
        """The modulator of a vector.

        Args:
            vector: with residual norms among its statistics, as extracted vectors have them.
            layers: to average over; all of the vector if None.
            base: the parameters at coefficient 0; `Sampling()` if not given.

        Raises:
            InvalidInputError: the vector has no such layer, is zero, or has no residual norm there.
        """
        chosen = vector if layers is None else vector.select(layers)
        ratios = [ratio for ratio in chosen.listed("norm_ratio") if ratio is not None]
        if len(ratios) < len(chosen.layers):
            raise InvalidInputError(
                f"the vector {vector.trait!r} of {vector.model.name} has no residual norms at layers "
                f"{layer_spans(chosen.layers)}, without which its magnitude has no unit: extract it again, or give magnitude and "
                "polarity yourself"
            )
        masses = chosen.directions.double().abs().sum(dim=1)
        if not bool((masses > 0).all()):
            raise InvalidInputError(f"the vector {vector.trait!r} is zero at some layer: leave it out with layers=[...]")
        polarities = (chosen.directions.double().sum(dim=1) / masses).tolist()
        return cls(
            magnitude=sum(ratios) / len(ratios),
            polarity=sum(polarities) / len(polarities),
            base=base or Sampling(),
            trait=vector.trait,
        )

    def sampling(self, coefficient: float) -> Sampling:
        """The parameters at `coefficient`.

        Each is monotone in the coefficient, and stays where it reaches the end of its range.

        Raises:
            InvalidInputError: the coefficient is not a finite number.
        """
        number = finite_number(coefficient, "the coefficient")
        return replace(
            self.base,
            temperature=_within(self.base.temperature + STEP * self.magnitude * number, TEMPERATURES),
            top_p=_within(self.base.top_p + STEP * self.polarity * number, TOP_PS),
            repetition_penalty=_within(self.base.repetition_penalty + STEP * self.polarity * number, REPETITION_PENALTIES),
        )

    def to_json(self) -> dict[str, Any]:
        """JSON values, for records."""
        return {
            "trait": self.trait,
            "magnitude": self.magnitude,
            "polarity": self.polarity,
            "step": STEP,
            "base": self.base.to_json(),
        }


def _within(value: float, ends: tuple[float, float]) -> float:
    low, high = ends
    return min(max(value, low), high)
