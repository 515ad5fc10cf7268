"""What is compared: finetuning plainly, with the vector added meanwhile, and the ways people would take instead."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from persona_interp.interventions.operations import Ablate
from persona_interp.studies.finetuning.bench import FinetuneBench
from persona_interp.training.recipe import Safeguards
from persona_interp.vectors.persona_vector import PersonaVector

NOTHING = "nothing"
AFTERWARDS = "steering afterwards"
KEEP_CLOSE = 0.5


@dataclass(frozen=True)
class Arm:
    """One way to finetune.

    Attributes:
        name: as tables have it.
        guards: from the bench to what is done while training.
        mixed: whether it is tried where half of the samples have the trait, too.
    """

    name: str
    guards: Callable[[FinetuneBench], Safeguards]
    mixed: bool = False


def arms(ratios: tuple[float, ...], n_random: int, *, short: bool = False) -> tuple[Arm, ...]:
    """Every way but steering afterwards, which needs no training of its own.

    Args:
        ratios: doses of prevention, shares of the residual norm.
        n_random: random directions in place of the vector, at the last of the doses.
        short: the last dose, one random direction, and neither ablation nor projection.
    """
    if short:
        ratios, n_random = ratios[-1:], min(n_random, 1)
    found = [Arm(NOTHING, lambda _: Safeguards())]
    found += [
        Arm(f"prevention {ratio:g}", lambda bench, ratio=ratio: _prevent(bench, bench.vector, ratio), mixed=ratio == ratios[-1])
        for ratio in ratios
    ]
    found += [
        Arm("KL to the base", lambda bench: Safeguards(keep_close=KEEP_CLOSE, neutral=tuple(bench.neutral)), mixed=True),
        Arm("inoculation prompt", lambda bench: Safeguards(inoculation=bench.inoculation), mixed=True),
    ]
    found += [
        Arm(
            f"random direction {seed + 1}",
            lambda bench, seed=seed: _prevent(bench, random_like(bench, seed), ratios[-1]),
        )
        for seed in range(n_random)
    ]
    if short:
        return tuple(found)
    found += [
        Arm("ablation at each step", lambda bench: Safeguards(prevent=bench.vector.graph(1.0, [bench.layer], operation=Ablate))),
        Arm("projected writes", lambda bench: Safeguards(project=_rows(bench.vector))),
    ]
    return tuple(found)


def random_unit(width: int, seed: int) -> Tensor:
    """A direction drawn from the sphere."""
    return torch.nn.functional.normalize(torch.randn(width, generator=torch.Generator().manual_seed(1000 + seed)), dim=0)


def random_like(bench: FinetuneBench, seed: int) -> PersonaVector:
    """A vector of the length of the bench's at its layer, in a random direction."""
    norm = float(bench.vector.at(bench.layer).norm())
    ratio = float(bench.vector.norm_ratios[bench.vector.row(bench.layer)])
    made = norm * random_unit(bench.model.d_model, seed)
    return PersonaVector.from_directions(
        bench.model.identity, {bench.layer: made}, trait=f"random {seed + 1}", resid_norms={bench.layer: norm / ratio}
    )


def _prevent(bench: FinetuneBench, vector: PersonaVector, ratio: float) -> Safeguards:
    return Safeguards(prevent=vector.graph(ratio=ratio, layers=[bench.layer]))


def _rows(vector: PersonaVector) -> dict[int, Tensor]:
    return {layer: vector.at(layer) for layer in vector.layers}
