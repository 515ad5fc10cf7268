"""Schedules: how the coefficient of a `Write` changes while an answer is generated.

Step 0 is the whole prompt, the last prompt token included, which predicts the first token of the answer. Step k, from 1 on, is
the call that holds the k-th answer token and predicts the one after it. Texts that are read whole are counted in the same way, so
a generated answer that is captured again meets the coefficients it was generated under.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, TypeVar, cast

from persona_interp.errors import FileFormatError, InvalidInputError
from persona_interp.interventions.json_fields import finite
from persona_interp.interventions.kinds import Described, Kinds

S = TypeVar("S", bound="Schedule")


class Schedule(Described):
    """A factor for every step, which multiplies the coefficient.

    A new kind is a frozen dataclass derived from this one, passed to ``SCHEDULES.register``.

    Attributes:
        kind: its name in JSON.
    """

    @abstractmethod
    def factor(self, step: int) -> float:
        """The factor at `step`, 0 or more."""

    @property
    @abstractmethod
    def bounds(self) -> tuple[float, float]:
        """No factor is below the first or above the second."""

    def to_json(self) -> dict[str, Any]:
        """``kind`` and its fields; exact."""
        values = {field.name: getattr(self, field.name) for field in fields(cast(Any, self))}
        return {
            "kind": self.kind,
            **{name: list(cast(tuple[Any, ...], v)) if isinstance(v, tuple) else v for name, v in values.items()},
        }

    @classmethod
    def from_json(cls: type[S], data: Mapping[str, Any], *, source: str = "schedule") -> S:
        """The inverse of `to_json`; raises FileFormatError naming the field."""
        try:
            values = {field.name: data[field.name] for field in fields(cast(Any, cls))}
            return cls(**{name: tuple(cast(list[Any], v)) if isinstance(v, list) else v for name, v in values.items()})
        except KeyError as error:
            raise FileFormatError(f"{source}: field {error} of the schedule {cls.kind!r} is missing") from error
        except (TypeError, InvalidInputError) as error:
            raise FileFormatError(f"{source}: schedule {cls.kind!r}: {error}") from error


SCHEDULES: Kinds[Schedule] = Kinds("schedule")
"""Every known schedule by its `kind`."""


@dataclass(frozen=True)
class LinearRamp(Schedule):
    """From `start` at step 0 in a straight line to `end` at step `steps`, where it stays.

    Example:
        >>> graph = vector.graph(1.5, layers=[12], schedule=LinearRamp(start=0, end=1, steps=20))

    Raises:
        InvalidInputError: a factor that is not a finite number, or fewer than one step.
    """

    start: float
    end: float
    steps: int
    kind: ClassVar[str] = "linear_ramp"

    def __post_init__(self) -> None:
        object.__setattr__(self, "start", finite(self.start, "start of a LinearRamp"))
        object.__setattr__(self, "end", finite(self.end, "end of a LinearRamp"))
        if type(self.steps) is not int or self.steps < 1:
            raise InvalidInputError(f"steps of a LinearRamp must be an integer from 1 on, got {self.steps!r}")

    def factor(self, step: int) -> float:
        """The factor at `step`."""
        if step >= self.steps:
            return self.end  # exactly, whatever the sum below is rounded to
        done = step / self.steps
        return self.start * (1 - done) + self.end * done

    @property
    def bounds(self) -> tuple[float, float]:
        """The smaller and the larger end."""
        return min(self.start, self.end), max(self.start, self.end)


@dataclass(frozen=True)
class ExponentialDecay(Schedule):
    """1 at step 0, half of it every `half_life` steps.

    Raises:
        InvalidInputError: the half-life is not a finite number above 0.
    """

    half_life: float
    kind: ClassVar[str] = "exponential_decay"

    def __post_init__(self) -> None:
        object.__setattr__(self, "half_life", finite(self.half_life, "half_life of an ExponentialDecay"))
        if self.half_life <= 0:
            raise InvalidInputError(f"half_life of an ExponentialDecay must be above 0 steps, got {self.half_life}")

    def factor(self, step: int) -> float:
        """The factor at `step`."""
        return 0.5 ** (step / self.half_life)

    @property
    def bounds(self) -> tuple[float, float]:
        """0 and 1."""
        return 0.0, 1.0


@dataclass(frozen=True)
class StepTable(Schedule):
    """One factor a step, written out; the last one stays.

    Raises:
        InvalidInputError: no factor, or one that is not a finite number.
    """

    factors: tuple[float, ...]
    kind: ClassVar[str] = "step_table"

    def __post_init__(self) -> None:
        given = cast(object, self.factors)
        if not isinstance(given, tuple) or not given:
            raise InvalidInputError(f"factors of a StepTable must be a tuple of at least one number, got {given!r}")
        numbers = cast(tuple[object, ...], given)
        object.__setattr__(self, "factors", tuple(finite(value, "a factor of a StepTable") for value in numbers))

    @classmethod
    def until(cls, step: int) -> StepTable:
        """The whole coefficient before `step`, none from it on; ``until(1)`` steers the prompt, and so the first answer token.

        Raises:
            InvalidInputError: `step` is not an integer from 1 on.
        """
        if type(step) is not int or step < 1:
            raise InvalidInputError(f"StepTable.until() needs an integer from 1 on, got {step!r}")
        return cls((1.0,) * step + (0.0,))

    def factor(self, step: int) -> float:
        """The factor at `step`."""
        return self.factors[min(step, len(self.factors) - 1)]

    @property
    def bounds(self) -> tuple[float, float]:
        """The smallest and the largest factor."""
        return min(self.factors), max(self.factors)


for _schedule in (LinearRamp, ExponentialDecay, StepTable):
    SCHEDULES.register(_schedule)
