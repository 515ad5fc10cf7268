"""The gallery as files: a PNG and a page for each figure, one script for all pages, and an index."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import plotly.graph_objects as go

from persona_interp.errors import FileFormatError, PersonaInterpError
from persona_interp.plotting.html import BACK, SCRIPT, drawn, page, paragraphs, write_script
from persona_interp.plotting.png import save_png_folder
from persona_interp.storage import write_text
from persona_interp.studies.gallery.entry import GalleryFigure

TITLE = "Figures of persona_interp"
_NOTE = """Drawn from the JSON files beside them. Those of judges on a real model are of SmolLM2-135M-Instruct; the others
were measured on the model organisms that ship with the package. They are instruments: figures measured on them are not claims
about other models.

persona-interp study figures measures everything again; with --draw-only it draws what is measured, which takes seconds."""


def write_gallery(folder: Path, figures: Sequence[GalleryFigure], known: Sequence[GalleryFigure], *, png: bool = True) -> Path:
    """Draw `figures` from the data in `folder` into it, and list all of `known` that are there.

    Args:
        folder: holds the data.
        figures: to draw.
        known: all there are, in the order of the index.
        png: whether images are drawn too, which needs Chromium.

    Returns:
        The index.

    Raises:
        FileFormatError: data are missing or damaged; nothing was written.
        UnsupportedError: no Chromium was found; the pages are written all the same.
        PersonaInterpError: a file cannot be written.
    """
    made = {each.name: (each, _figure(each, folder)) for each in figures}
    write_script(folder)
    for name, (each, figure) in made.items():
        write_text(folder / f"{name}.html", page(each.title, [*_parts(folder, each, figure)]))
    index = _index(folder, known)
    if png:
        save_images(folder, {name: figure for name, (_, figure) in made.items()})
    return index


def _figure(each: GalleryFigure, folder: Path) -> go.Figure:
    files = each.files(folder)
    try:
        return each.draw(folder)
    except PersonaInterpError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        named = files[0] if len(files) == 1 else f"one of {len(files)} files in {folder}"
        raise FileFormatError(f"{named}: a field is missing or malformed ({error!r})") from error


def save_images(folder: Path, figures: Mapping[str, go.Figure]) -> tuple[Path, ...]:
    """The PNGs, 1100 pixels wide."""
    return save_png_folder(folder, figures, width=1100, scale=1)


def _parts(folder: Path, each: GalleryFigure, figure: go.Figure) -> Iterator[str]:
    yield from paragraphs(each.caption)
    # a figure of several panels cannot be read at the width of a phone: there it is scrolled sideways
    yield '<div class="scroll"><div class="wide">'
    yield from drawn(figure, script=SCRIPT)
    yield "</div></div>"
    yield "<h2>Data</h2>"
    yield f"<p>{_data_links(folder, each)}</p>"
    yield f"<p>Made by these commands, which persona-interp study figures --only {each.name} runs:</p>"
    yield f"<pre>{html.escape(chr(10).join(step.command for step in each.steps))}</pre>"
    yield BACK


def _data_links(folder: Path, each: GalleryFigure) -> str:
    """Links to the files, or to their folders where there are many."""
    files = [path.relative_to(folder).as_posix() for path in each.files(folder)]
    if len(files) > _MANY:
        places = dict.fromkeys(path.rpartition("/")[0] for path in files)
        return f"{len(files)} files in " + ", ".join(f'<a href="{place}/">{place}/</a>' for place in places)
    return ", ".join(f'<a href="{path}">{path}</a>' for path in files)


_MANY = 6
"""Files up to which each has a link of its own."""


def _index(folder: Path, known: Sequence[GalleryFigure]) -> Path:
    parts = list(paragraphs(_NOTE))
    for each in known:
        if (folder / f"{each.name}.html").exists():
            image = f'<img src="{each.name}.png" alt="{html.escape(each.title)}" loading="lazy">'
            parts.append(f'<h2><a href="{each.name}.html">{html.escape(each.title)}</a></h2>')
            parts.append(f'<div><a href="{each.name}.html">{image}</a></div>')
    return write_text(folder / "index.html", page(TITLE, parts))
