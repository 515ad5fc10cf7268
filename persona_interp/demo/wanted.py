"""What the controls say to steer with: which vectors, how strongly, where and how. The controls themselves are not known here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast, get_args

from torch import Tensor

from persona_interp.demo.jobs import Job
from persona_interp.demo.layer_heat import best_layer
from persona_interp.demo.limits import MAX_DOSE, MAX_TOGETHER, checked_number, checked_whole
from persona_interp.demo.sessions import Held, Session
from persona_interp.demo.site import Site
from persona_interp.errors import InvalidInputError
from persona_interp.interventions.graph import WritePositions
from persona_interp.interventions.operations import OPERATIONS, Operation
from persona_interp.models.steerable import SteerableModel
from persona_interp.vectors.steering import Steering, Together

ADD = "add"
POSITIONS = get_args(WritePositions)
_LARGEST_VALUE = 1e6


@dataclass(frozen=True)
class Dial:
    """One vector and its dose, as they came from the page: `Wanted` and `picked` check them.

    Attributes:
        choice: of `Site.choices`.
        dose: what is added, as a share of the mean residual norm; of an operation that takes one, a share of the change.
        layer: 0-based; None: the best.
    """

    choice: object
    dose: Any
    layer: Any = None


@dataclass(frozen=True)
class Manner:
    """What is done along each vector.

    Attributes:
        operation: a kind in `OPERATIONS`.
        value: the number it takes beside the direction, if it takes one: a projection, in activation units.
        positions: tokens that are written to.
    """

    operation: str = ADD
    value: float = 0.0
    positions: WritePositions = "all"

    @classmethod
    def checked(cls, operation: object, value: object, positions: object) -> Manner:
        """From what stands in the controls.

        Raises:
            InvalidInputError: one cannot be used.
        """
        if not isinstance(operation, str) or operation not in OPERATIONS:
            raise InvalidInputError(f"there is no operation {operation!r}: choose one of {', '.join(OPERATIONS)}")
        if positions not in POSITIONS:
            raise InvalidInputError(f"positions are {positions!r}: choose one of {', '.join(POSITIONS)}")
        number = checked_number(value, "value of the projection", -_LARGEST_VALUE, _LARGEST_VALUE)
        return cls(operation, number, cast(WritePositions, positions))

    @property
    def kind(self) -> type[Operation]:
        """The class."""
        return OPERATIONS[self.operation]

    @property
    def takes_share(self) -> bool:
        """Whether its dose is a share of the change, from 0 to 1, rather than of the residual."""
        return self.kind.coefficient_range is not None

    def made(self) -> Callable[[Tensor], Operation]:
        """What makes the operation of a direction."""
        numbers = dict.fromkeys(self.kind.needs(), self.value)
        kind: Any = self.kind
        return (lambda direction: kind(direction, **numbers)) if numbers else kind

    def steering(self, vector: Any, layer: int, dose: float) -> Steering:
        """A vector at a layer and a dose.

        Raises:
            InvalidInputError: a dose that the operation does not take, or the vector lacks the layer.
        """
        if self.takes_share and dose < 0:
            raise InvalidInputError(f"the dose is {dose:g}, but {self.operation} takes a share from 0 to 1: choose such a one")
        by_ratio = not self.takes_share and dose != 0
        coefficient = vector.coefficients(dose, (layer,))[0] if by_ratio else dose
        return Steering(vector, (layer,), coefficient, self.positions, self.made())


@dataclass(frozen=True)
class Wanted:
    """What to steer with.

    Attributes:
        model: of the page.
        dials: one to `MAX_TOGETHER`.
        manner: the same for all.
        second: another dose of the first, to compare with; None: there is none.
    """

    model: Any
    dials: tuple[Dial, ...]
    manner: Manner = Manner()
    second: Any = None

    def __post_init__(self) -> None:
        if not 1 <= len(self.dials) <= MAX_TOGETHER:
            raise InvalidInputError(f"{len(self.dials)} vectors are chosen: choose from 1 to {MAX_TOGETHER}")
        doses = [dial.dose for dial in self.dials] + ([] if self.second is None else [self.second])
        for dose in doses:
            checked_number(dose, "dose", -MAX_DOSE, MAX_DOSE)

    @property
    def doses(self) -> list[tuple[float, ...]]:
        """The dose of each vector, for each steered answer."""
        first = tuple(dial.dose for dial in self.dials)
        return [first] if self.second is None else [first, (self.second, *first[1:])]


@dataclass(frozen=True)
class Picked:
    """What was wanted, with the vectors.

    Attributes:
        wanted: as said.
        chosen: the first vector, with its trait.
        pushes: one for each steered answer.
    """

    wanted: Wanted
    chosen: Held
    pushes: tuple[Together, ...]

    @property
    def first(self) -> Steering:
        """Of the first vector in the first steered answer."""
        return self.pushes[0].parts[0]


def picked(site: Site, session: Session, job: Job[Any], model: SteerableModel, wanted: Wanted) -> Picked:
    """What was chosen, extracted if need be.

    Raises:
        InvalidInputError: a value that cannot be used.
        PersonaInterpError: as `Site.vector`.
    """
    found: list[tuple[Held, int]] = []
    for dial in wanted.dials:
        layer = None if dial.layer is None else checked_whole(dial.layer, "layer", 0, model.n_layers - 1)
        held = site.vector(job, session, model, dial.choice)
        found.append((held, best_layer(model, held.vector) if layer is None else layer))
    pushes = tuple(
        Together(
            tuple(wanted.manner.steering(held.vector, layer, dose) for (held, layer), dose in zip(found, doses, strict=True))
        )
        for doses in wanted.doses
    )
    for push in pushes:
        push.check(model)
    return Picked(wanted, found[0][0], pushes)
