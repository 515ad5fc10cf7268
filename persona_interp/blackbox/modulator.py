"""What all that is said to a model from outside has in common: a coefficient becomes a `Sampling`."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from persona_interp.models.sampling import Sampling


@runtime_checkable
class Modulator(Protocol):
    """A vector as a change of how tokens are drawn, in a model of which nothing inside can be reached.

    Whatever evaluates one evaluates all: `ParameterModulator`, `LogitBiasModulator`, and placebos of them.
    """

    @property
    def trait(self) -> str:
        """What the vector is of."""
        ...

    @property
    def base(self) -> Sampling:
        """How tokens are drawn at coefficient 0."""
        ...

    def sampling(self, coefficient: float) -> Sampling:
        """How tokens are drawn at `coefficient`; at 0 it is `base`.

        Raises:
            InvalidInputError: the coefficient is not a finite number.
        """
        ...

    def to_json(self) -> dict[str, Any]:
        """JSON values, for records."""
        ...
