"""The figures of the documentation: what each shows, the commands that make its data, and how it is drawn from them.

Nothing is measured here: the commands are the ordinary ones, which ``persona-interp study figures`` runs. To add a figure, write
a `GalleryFigure` beside those of its kind and name it in `registry.FIGURES`.
"""

from __future__ import annotations

from persona_interp.studies.gallery.entry import GalleryFigure, Step
from persona_interp.studies.gallery.registry import FIGURES, figure_named

__all__ = ["FIGURES", "GalleryFigure", "Step", "figure_named"]
