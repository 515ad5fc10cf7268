"""One figure of the gallery, described."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import plotly.graph_objects as go

from persona_interp.errors import FileFormatError


@dataclass(frozen=True)
class Step:
    """A command that makes data.

    Attributes:
        command: as typed in the folder where the data go; files in it are relative to that.
        minutes: of processor time it takes on one core; long ones are scaled up from a part that was timed.
    """

    command: str
    minutes: float


@dataclass(frozen=True)
class GalleryFigure:
    """A figure, its data and how both come about.

    Attributes:
        name: of its files: ``name.png`` and ``name.html``.
        title: of its page.
        caption: what was measured on what, with which controls; paragraphs are separated by an empty line.
        steps: make the data, in this order; figures may share some.
        data: files it is drawn from, relative to the folder; ``*`` stands for any part of a name.
        draw: the figure, from the folder.
    """

    name: str
    title: str
    caption: str
    steps: tuple[Step, ...]
    data: tuple[str, ...]
    draw: Callable[[Path], go.Figure]

    def files(self, folder: Path) -> tuple[Path, ...]:
        """The files of its data in `folder`.

        Raises:
            FileFormatError: one is missing; says which command makes it.
        """
        found: list[Path] = []
        for pattern in self.data:
            matching = sorted(folder.glob(pattern))
            if not matching:
                raise FileFormatError(
                    f"{folder} has no {pattern}, which the figure {self.name!r} is drawn from: run persona-interp study figures "
                    f"--only {self.name}"
                )
            found += matching
        return tuple(found)
