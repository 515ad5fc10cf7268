"""Conditions: at which rows and positions a `Write` happens, asked of the residual stream itself."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from jaxtyping import Float
from torch import Tensor

from persona_interp.errors import FileFormatError, InvalidInputError
from persona_interp.interventions.directed import Directed, projection_onto
from persona_interp.interventions.json_fields import number, vector_from_json
from persona_interp.interventions.kinds import Kinds
from persona_interp.shapes import Direction, PositionMask, Residual


class Condition(Directed):
    """Where to write. It is asked of the residual that the write sees: after the writes before it, at every row and position.

    A new kind is a frozen dataclass (``eq=False``) derived from this one, passed to ``CONDITIONS.register``.

    Attributes:
        kind: its name in JSON.
        direction: what the residual is compared with, ``[d_model]``.
    """

    @staticmethod
    @abstractmethod
    def holds(resid: Residual, direction: Float[Tensor, "#batch 1 d_model"], *args: Any, **scalars: Any) -> PositionMask:
        """Where it holds. A kind names its numbers (`Directed.scalars`) as keyword arguments, as in `Operation.transform`."""


CONDITIONS: Kinds[Condition] = Kinds("condition")
"""Every known condition by its `kind`."""


@dataclass(frozen=True, eq=False)
class ProjectionCondition(Condition):
    """Write only where the projection onto a direction passes a threshold.

    Attributes:
        direction: ``[d_model]``, not zero; its length does not count. It need not be the direction that is written.
        threshold: compared with ``h . direction / |direction|``, in the units of the residual stream.
        side: write where the projection is ``above`` the threshold, or ``below`` it; nowhere where it is equal.

    Raises:
        InvalidInputError: another side.
    """

    direction: Direction
    threshold: float
    side: Literal["above", "below"] = "above"
    kind: ClassVar[str] = "projection"
    normalises: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.side not in ("above", "below"):
            raise InvalidInputError(f"side of a ProjectionCondition is {self.side!r}, expected 'above' or 'below'")

    @staticmethod
    def holds(
        resid: Residual,
        direction: Float[Tensor, "#batch 1 d_model"],
        *,
        threshold: Float[Tensor, "#batch 1 1"],
        sign: Float[Tensor, "#batch 1 1"],
    ) -> PositionMask:
        """``sign * (h . u) > sign * threshold``, in single precision or better."""
        _, _, length = projection_onto(resid, direction)
        return (sign * length > sign * threshold).squeeze(-1)

    def scalars(self) -> dict[str, float]:
        """The threshold, and the side as a sign, so that rows with different sides run as one."""
        return {"threshold": float(self.threshold), "sign": 1.0 if self.side == "above" else -1.0}

    def to_json(self) -> dict[str, Any]:
        """``{"kind", "direction": {"dtype", "values"}, "threshold", "side"}``; exact."""
        data = super().to_json()
        del data["sign"]
        return {**data, "side": self.side}

    @classmethod
    def from_json(cls, data: Mapping[str, Any], *, source: str = "condition") -> ProjectionCondition:
        """The inverse of `to_json`; raises FileFormatError naming the field."""
        try:
            threshold, side = number(data, "threshold", int, float), data["side"]
            return cls(vector_from_json(data.get("direction"), source=source), threshold, side)
        except KeyError as error:
            raise FileFormatError(f"{source}: field {error} of the condition is missing") from error
        except InvalidInputError as error:
            raise FileFormatError(f"{source}: condition: {error}") from error


CONDITIONS.register(ProjectionCondition)
