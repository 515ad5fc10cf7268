"""Writing a trained organism as an ordinary checkpoint, with its ground truth and its record beside it.

A folder holds what any Hugging Face code loads (``model.safetensors`` in half precision, config, tokenizer), and files of ours:
``planted/directions.safetensors`` (in a folder of its own: some loaders read every such file beside the weights),
``organism.json`` (recipe and loss curve) and, once validated, ``card.json`` and ``CARD.md``.
"""

from __future__ import annotations

import copy
import dataclasses
import tempfile
from pathlib import Path
from typing import Any

from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor

from persona_interp.errors import FileFormatError
from persona_interp.organisms.recipes import WEIGHTS, OrganismRecipe, recipe_of
from persona_interp.storage import read_json, write_atomically, write_json
from persona_interp.studies.training.train import FORMAT_VERSION, TrainingState, recipe_json

PLANTED = Path("planted", "directions.safetensors")
_PLANTED_BEFORE = "planted.safetensors"
_CURVE_POINTS = 60


@dataclasses.dataclass(frozen=True)
class Planted:
    """Ground truth of a planted organism.

    Attributes:
        layer: 0-based block whose output carries the directions.
        traits: which trait each row of `directions` is of.
        directions: what was added at coefficient +1 in training.
    """

    layer: int
    traits: tuple[str, ...]
    directions: Float[Tensor, "trait d_model"]


def organism_folder(name: str) -> Path:
    """Folder of the shipped organism `name`."""
    return WEIGHTS / recipe_of(name).name


def save_organism(state: TrainingState, recipe: OrganismRecipe, folder: Path) -> Path:
    """Write the trained organism into `folder` (files of an earlier one are replaced), weights in float16."""
    with tempfile.TemporaryDirectory() as scratch:
        copy.deepcopy(state.model).half().save_pretrained(scratch)
        state.tokenizer.save_pretrained(scratch)
        for path in sorted(Path(scratch).iterdir()):
            content = path.read_bytes()
            write_atomically(folder / path.name, lambda target, content=content: _write_bytes(target, content))
    if state.planter is not None:
        tensors = {"directions": state.planter.directions.detach().float().contiguous()}
        write_atomically(folder / PLANTED, lambda path: save_file(tensors, path))
    (folder / _PLANTED_BEFORE).unlink(missing_ok=True)
    write_json(
        folder / "organism.json",
        {
            "format_version": FORMAT_VERSION,
            "recipe": recipe_json(recipe),
            "n_parameters": sum(p.numel() for p in state.model.parameters()),
            "loss_curve": _curve(state.losses),
        },
    )
    return folder


def _write_bytes(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _curve(losses: list[float]) -> list[dict[str, Any]]:
    """Mean training loss over about `_CURVE_POINTS` stretches of steps."""
    width = max(1, len(losses) // _CURVE_POINTS)
    curve: list[dict[str, Any]] = []
    for start in range(0, len(losses), width):
        stretch = losses[start : start + width]
        curve.append({"step": start + len(stretch), "loss": round(sum(stretch) / len(stretch), 4)})
    return curve


def load_planted(name: str) -> Planted | None:
    """The planted layer and directions of the shipped organism `name`, or None where nothing is planted.

    Raises:
        FileFormatError: the organism's folder lacks its ground truth.
    """
    recipe = recipe_of(name)
    if recipe.planted_layer is None:
        return None
    folder = organism_folder(name)
    path = next((folder / place for place in (PLANTED, _PLANTED_BEFORE) if (folder / place).exists()), None)
    if path is None:
        raise FileFormatError(f"{folder / PLANTED} is missing: train the organism with `persona-interp study training {name}`")
    return Planted(recipe.planted_layer, recipe.planted_traits, load_file(path)["directions"])


def training_record(name: str) -> dict[str, Any]:
    """Recipe, parameter count and loss curve of the shipped organism `name`."""
    return read_json(organism_folder(name) / "organism.json", "organism record")
