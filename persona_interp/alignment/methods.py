"""The alignments by name."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from persona_interp.alignment.anchors import AnchorProjection
from persona_interp.alignment.cca import CCA
from persona_interp.alignment.linear_alignment import LinearAlignment
from persona_interp.alignment.naive import NaiveTruncate
from persona_interp.alignment.procrustes import Procrustes
from persona_interp.alignment.reduced_rank import ReducedRank
from persona_interp.alignment.ridge import Ridge
from persona_interp.errors import unknown_name

ALIGNMENTS: dict[str, type[LinearAlignment]] = {
    "procrustes": Procrustes,
    "cca": CCA,
    "ridge": Ridge,
    "reduced-rank": ReducedRank,
    "anchors": AnchorProjection,
    "naive": NaiveTruncate,
}
"""Name -> class. All map states; see `alignment.effects` for the one that matches effects."""


def alignment_method(name: str, **options: Any) -> LinearAlignment:
    """The alignment of that name, not fitted yet.

    Raises:
        UnknownNameError: there is none, or it has no such option; lists those there are.
    """
    if name not in ALIGNMENTS:
        raise unknown_name("alignment method", name, ALIGNMENTS)
    known = [each.name for each in fields(ALIGNMENTS[name])]
    for option in options:
        if option not in known:
            raise unknown_name(f"option of {name}", option, known)
    return ALIGNMENTS[name](**options)
