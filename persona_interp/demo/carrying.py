"""A vector of one model of the page carried into another."""

from __future__ import annotations

from typing import Any

from persona_interp.alignment.methods import alignment_names
from persona_interp.demo.jobs import Job
from persona_interp.demo.limits import checked_whole
from persona_interp.errors import InvalidInputError, UnknownNameError
from persona_interp.models.steerable import SteerableModel
from persona_interp.organisms.anchors import N_ORGANISM
from persona_interp.transfers.anchors import anchors_for
from persona_interp.transfers.transfer import Transferred, transfer
from persona_interp.vectors.persona_vector import PersonaVector

FEWEST, MOST = 100, N_ORGANISM
"""Anchors that can be asked for."""


def anchors_available(source: str, target: str) -> int:
    """How many texts there are for both models to read."""
    return min(MOST, len(anchors_for([source, target])))


def carry(
    job: Job[Any],
    vector: PersonaVector,
    source: SteerableModel,
    target: SteerableModel,
    *,
    names: tuple[str, str],
    n_anchors: object,
    method: object,
) -> Transferred:
    """Carry `vector` of `source` into `target`, by texts both read.

    Args:
        job: whose thread this runs in.
        vector: of the source.
        source: a model.
        target: another one.
        names: what both were asked for by, which says what texts they can read.
        n_anchors: how many texts; fewer where there are not as many.
        method: one of `alignment_names`.

    Raises:
        InvalidInputError: both models are the same, or a number is out of range.
        UnknownNameError: no such method.
        PersonaInterpError: as `transfer`.
    """
    if source is target:
        raise InvalidInputError(f"source and target are both {source.name}: choose two models")
    if method not in (methods := alignment_names()):
        raise UnknownNameError(f"there is no alignment {method!r}: choose one of {', '.join(methods)}")
    number = checked_whole(n_anchors, "number of texts", FEWEST, MOST)
    job.doing("choosing texts for both models to read")
    anchors = anchors_for(names, n=min(number, anchors_available(*names)))
    return transfer(vector, source, target, anchors=anchors, alignment=str(method))
