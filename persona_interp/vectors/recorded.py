"""What is recorded of each layer of a vector: statistics as tensors, and the layer they make the first choice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias, cast

import torch
from jaxtyping import Float
from torch import Tensor

from persona_interp.errors import InvalidInputError

DERIVED = ("norm", "norm_ratio")
"""What files hold beside the statistics for other programs to read; made of the directions here."""

Values: TypeAlias = tuple[float | None, ...]
"""One value a layer, None where it could not be had."""


@dataclass(frozen=True)
class Placement:
    """Where the directions of a vector lie, and in what dtype; files and new vectors hold float32 on the CPU."""

    device: str = "cpu"
    dtype: torch.dtype = torch.float32


class Statistics(Mapping[str, Tensor]):
    """Name -> one value per layer, as a float64 tensor ``[layer]`` that is NaN where the value could not be had.

    Example:
        >>> vector.statistics["auroc"].nan_to_num().argmax()
        >>> vector.statistics.listed("auroc")  # the same with None in place of NaN, as JSON has it
    """

    def __init__(self, values: Mapping[str, Sequence[float | None] | Tensor], n_layers: int) -> None:
        self._values: dict[str, Float[Tensor, " layer"]] = {}
        for name, given in values.items():
            if len(given) != n_layers:
                raise InvalidInputError(f"statistic {name!r} has {len(given)} values for {n_layers} layers: give one each")
            if isinstance(given, Tensor):
                self._values[name] = given.detach().to(device="cpu", dtype=torch.float64)
            else:
                self._values[name] = torch.tensor([torch.nan if each is None else each for each in given], dtype=torch.float64)

    def __getitem__(self, name: str) -> Float[Tensor, " layer"]:
        return self._values[name].clone()

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mapping):
            return NotImplemented
        given = cast(Mapping[str, Sequence[float | None] | Tensor], other)
        mine, theirs = self.to_json(), {name: given[name] for name in given}
        return mine == {name: list(listed(v) if isinstance(v, Tensor) else v) for name, v in theirs.items()}

    __hash__ = None  # pyright: ignore[reportAssignmentType]  (a mapping has none)

    def __repr__(self) -> str:
        return repr({name: self.listed(name) for name in self})

    def listed(self, name: str) -> Values:
        """The values of one statistic with None where it could not be had; nothing at all where it is not recorded."""
        return listed(self._values[name]) if name in self._values else ()

    def to_json(self) -> dict[str, list[float | None]]:
        """JSON values."""
        return {name: list(self.listed(name)) for name in self}

    def rows(self, rows: Sequence[int]) -> Statistics:
        """The statistics of some layers only, by their place."""
        return Statistics({name: values[list(rows)] for name, values in self._values.items()}, len(rows))


def listed(values: Float[Tensor, " layer"]) -> Values:
    """Numbers with None in place of NaN."""
    return tuple(None if value != value else value for value in values.tolist())


def recorded_best(layers: Sequence[int], effectiveness: Sequence[float | None]) -> int | None:
    """The layer with the highest recorded effectiveness; the only one of a vector that has no other; else None."""
    if len(layers) == 1:
        return layers[0]
    measured = {layer: score for layer, score in zip(layers, effectiveness, strict=False) if score is not None}
    return max(measured, key=lambda layer: measured[layer]) if measured else None
