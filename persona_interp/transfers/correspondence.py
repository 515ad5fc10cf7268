"""How alike the layers of two models are, by what they make of the same anchors."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from persona_interp.alignment.linear_alignment import N_FOLDS
from persona_interp.alignment.paired_moments import PairedMoments, folds, merged
from persona_interp.alignment.ridge import Ridge
from persona_interp.alignment.similarity import cka_matrix, svcca
from persona_interp.errors import unknown_name
from persona_interp.transfers.anchor_rows import AnchorRows

MEASURES = ("quality", "cka", "cca")
_STRENGTH = 0.1


def correspondence(
    source: AnchorRows, target: AnchorRows, measure: str = "quality"
) -> Float[Tensor, "source_layer target_layer"]:
    """Similarity of all pairs of layers, from the anchors' states.

    Args:
        source: rows of the one model.
        target: of the other, of the same anchors.
        measure: ``quality``: held-out R2 of a ridge map from the source's layer to the target's; ``cka``: debiased linear CKA;
            ``cca``: SVCCA.

    Raises:
        UnknownNameError: no such measure.
    """
    if measure not in MEASURES:
        raise unknown_name("measure of layers", measure, MEASURES)
    if measure == "cka":
        states = [lambda layer, rows=rows: rows.rows("states", layer) for rows in (source, target)]
        return cka_matrix(states[0], source.n_layers, states[1], target.n_layers)
    found = torch.zeros(source.n_layers, target.n_layers, dtype=torch.float64)
    others = [target.rows("states", column) for column in range(target.n_layers)]
    for row in range(source.n_layers):
        own = source.rows("states", row)
        for column, other in enumerate(others):
            found[row, column] = svcca(own, other) if measure == "cca" else _quality(folds(own, other, N_FOLDS))
    return found


def _quality(parts: tuple[PairedMoments, ...]) -> float:
    """Held-out R2 of a ridge map of fixed strength: layers are compared on equal terms."""
    return Ridge(_STRENGTH).fit(merged(parts[:-1])).score(parts[-1]).r2
