"""All figures of the gallery, in the order a reader meets them."""

from __future__ import annotations

from persona_interp.errors import unknown_name
from persona_interp.studies.gallery.attribution import ABLATIONS, ATTRIBUTION
from persona_interp.studies.gallery.diagnosis import CONTRIBUTIONS, TWINS
from persona_interp.studies.gallery.entry import GalleryFigure
from persona_interp.studies.gallery.finetuning import FINETUNING
from persona_interp.studies.gallery.judges import JUDGES, REAL_JUDGES
from persona_interp.studies.gallery.layers import LAYER_CHOICES, NORMS, SCAN, SEPARATION
from persona_interp.studies.gallery.modulation import MODULATION, QUANTIZATION
from persona_interp.studies.gallery.steering import DOSES, TOKENS
from persona_interp.studies.gallery.transfer import SUPPORT, TRANSFER

FIGURES: tuple[GalleryFigure, ...] = (
    DOSES,
    TOKENS,
    SCAN,
    LAYER_CHOICES,
    SEPARATION,
    NORMS,
    TRANSFER,
    SUPPORT,
    CONTRIBUTIONS,
    TWINS,
    MODULATION,
    QUANTIZATION,
    ATTRIBUTION,
    ABLATIONS,
    JUDGES,
    REAL_JUDGES,
    FINETUNING,
)


def figure_named(name: str) -> GalleryFigure:
    """The figure of that name.

    Raises:
        UnknownNameError: there is none; lists those there are.
    """
    for each in FIGURES:
        if each.name == name:
            return each
    raise unknown_name("figure", name, [each.name for each in FIGURES])
