"""Vector files named on the command line, each with the layers it is used at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from persona_interp.cli import arguments
from persona_interp.errors import InvalidInputError

if TYPE_CHECKING:
    from persona_interp.models.steerable import SteerableModel
    from persona_interp.vectors.persona_vector import PersonaVector


@dataclass(frozen=True)
class Read:
    """One vector and the layers it is read at; `reason` says why where nobody asked for them."""

    file: Path
    vector: PersonaVector
    layers: tuple[int, ...]
    reason: str | None


def choose(files: Sequence[Path], layers: arguments.LayersOrAll) -> list[Read]:
    """Load the vectors and settle the layers of each.

    Raises:
        FileFormatError: a file cannot be read.
        InvalidInputError: a vector lacks a layer asked for; names those it has.
    """
    from persona_interp.vectors.layer_choice import choose_layer
    from persona_interp.vectors.persona_vector import PersonaVector

    found: list[Read] = []
    for file in files:
        vector = PersonaVector.load(file)
        if layers == "auto":
            choice = choose_layer(vector)
            found.append(Read(file, vector, (choice.layer,), choice.reason))
        else:
            chosen = vector if layers == "all" else vector.select(layers)
            found.append(Read(file, vector, chosen.layers, None))
    return found


def choose_one(file: Path, layers: arguments.Layers) -> Read:
    """One vector at one layer.

    Raises:
        InvalidInputError: several layers were asked for; also as `choose`.
    """
    (read,) = choose([file], layers)
    if len(read.layers) != 1:
        raise InvalidInputError(f"--layer names {len(read.layers)} layers: this command reads one, for example {read.layers[0]}")
    return read


def fitted(chosen: Sequence[Read], model: SteerableModel) -> None:
    """Refuse vectors that do not fit the model, and say what should be known about the others.

    Raises:
        IncompatibleError: a vector is of a model of another shape.
    """
    from persona_interp.progress import say

    for item in chosen:
        item.vector.check_fits(model.identity)
        if not item.vector.same_basis(model.identity):
            whose = item.vector.model.name
            origin = "does not say whose it is" if whose == "unknown" else f"was made in {whose}, not in these weights"
            say(f"note: {item.file} {origin}; it fits by shape only")
        if item.reason:
            say(f"{item.vector.trait}: {item.reason}")
