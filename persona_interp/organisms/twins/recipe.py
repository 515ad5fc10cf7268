"""`TwinRecipe`: which changes of the residual stream a twin has, as plain values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from persona_interp.errors import FileFormatError, InvalidInputError

LARGEST_SCALE = 50.0
_FIELDS = ("rotation_seed", "scale", "inserted")


@dataclass(frozen=True)
class TwinRecipe:
    """What a twin changes; a recipe of defaults changes nothing.

    Attributes:
        rotation_seed: of the random orthogonal matrix that turns the residual stream; None leaves its basis as it is.
        scale: what the residual stream is multiplied with, 1/50 to 50.
        inserted: indices of the original blocks before which an identity block is put, in any order (kept sorted); an index twice
            puts two there, and the number of blocks puts one after the last.

    Example:
        >>> TwinRecipe(rotation_seed=0, inserted=(0, 3, 3)).faults
        ('basis', 'layers')

    Raises:
        InvalidInputError: the scale is out of range, or an index or seed is no whole number or negative.
    """

    rotation_seed: int | None = None
    scale: float = 1.0
    inserted: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.rotation_seed is not None and not _counts(self.rotation_seed):
            raise InvalidInputError(f"rotation_seed {self.rotation_seed!r} of a twin must be a whole number from 0 on, or None")
        if wrong := [index for index in self.inserted if not _counts(index)]:
            raise InvalidInputError(f"inserted {wrong[0]!r} of a twin must be the index of an original block, counted from 0")
        if not math.isfinite(self.scale) or not 1 / LARGEST_SCALE <= self.scale <= LARGEST_SCALE:
            raise InvalidInputError(
                f"scale {self.scale!r} of a twin must be from 1/{LARGEST_SCALE:g} to {LARGEST_SCALE:g}; beyond, rounding shows"
            )
        object.__setattr__(self, "scale", float(self.scale))
        object.__setattr__(self, "inserted", tuple(sorted(self.inserted)))

    @property
    def faults(self) -> tuple[str, ...]:
        """What it changes, harmful or not: ``magnitude``, ``basis`` and ``layers``, in this order."""
        changed = {"magnitude": self.scale != 1, "basis": self.rotation_seed is not None, "layers": bool(self.inserted)}
        return tuple(fault for fault, there in changed.items() if there)

    def origins(self, n_layers: int) -> tuple[tuple[int, bool], ...]:
        """For each block of the twin of a model of `n_layers` blocks: (original block, whether it is an identity block).

        An identity block has the parts of the block after it, the last has those of the block before it.

        Raises:
            InvalidInputError: the model has no block of an index in `inserted`.
        """
        if self.inserted and self.inserted[-1] > n_layers:
            raise InvalidInputError(
                f"cannot insert an identity block before block {self.inserted[-1]}: the model has blocks 0 to {n_layers - 1} "
                f"(and {n_layers} for after the last)"
            )
        blocks: list[tuple[int, bool]] = []
        for index in range(n_layers + 1):
            blocks += [(min(index, n_layers - 1), True)] * self.inserted.count(index)
            blocks += [(index, False)] if index < n_layers else []
        return tuple(blocks)

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {**asdict(self), "inserted": list(self.inserted)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any], *, source: str = "twin recipe") -> TwinRecipe:
        """The inverse of `to_json`.

        Raises:
            FileFormatError: a field is missing or cannot be used; names it.
        """
        if missing := [field for field in _FIELDS if field not in data]:
            raise FileFormatError(f"{source}: field {missing[0]!r} is missing")
        seed, scale, inserted = (data[field] for field in _FIELDS)
        if not isinstance(scale, int | float) or isinstance(scale, bool):
            raise FileFormatError(f"{source}: field 'scale' is {scale!r}, expected a number")
        if not isinstance(inserted, Sequence) or isinstance(inserted, str):
            raise FileFormatError(f"{source}: field 'inserted' is {inserted!r}, expected a list of numbers")
        if any(not _counts(number) for number in ([] if seed is None else [seed]) + list(inserted)):
            raise FileFormatError(
                f"{source}: 'rotation_seed' {seed!r} and 'inserted' {inserted!r} must be whole numbers from 0 on"
            )
        try:
            return cls(seed, float(scale), tuple(inserted))
        except InvalidInputError as error:
            raise FileFormatError(f"{source}: {error}") from error


def _counts(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
