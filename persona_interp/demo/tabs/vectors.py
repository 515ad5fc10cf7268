"""Vectors: what is in one, layer by layer; files in and out in every format."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from persona_interp.demo import notices
from persona_interp.demo.explained import PARTS, what
from persona_interp.demo.figures import compact
from persona_interp.demo.jobs import Job
from persona_interp.demo.limits import MAX_UPLOAD, MIB, checked_text
from persona_interp.demo.site import VECTOR, Site
from persona_interp.demo.tabs.handlers import OPTIONS, Updates, followed, in_words, session_of, towards
from persona_interp.demo.tabs.picker import choice_controls, wire_choice
from persona_interp.demo.vector_files import read_upload, write_downloads
from persona_interp.errors import InvalidInputError
from persona_interp.plotting.layers import layer_figure
from persona_interp.transfers.fitted_to import WHEN
from persona_interp.vectors.formats import FORMATS
from persona_interp.vectors.persona_vector import PersonaVector

PLACE = "vectors"
_EMPTY = '<div class="pi-card pi-empty">Choose a trait or vector, or upload one: what is in it will stand here.</div>'
_INTRO = (
    "See what a vector is made of, **download** it in any format, or **upload** one: JSON, safetensors, a PyTorch tensor or a "
    "llama.cpp control vector. Uploads are read as numbers only, and stay in your session."
)


@dataclass(frozen=True)
class Opened:
    """A vector, and what goes with it.

    Attributes:
        vector: to be shown.
        files: made of it.
        notes: for the person waiting.
        label: under which the session holds it, if it was uploaded.
    """

    vector: PersonaVector
    files: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()
    label: str = ""


class VectorsTab:
    """The tab, placed and wired when it is made."""

    def __init__(self, site: Site, page: gr.Blocks, tab: gr.Tab) -> None:
        self.site = site
        gr.Markdown(_INTRO)
        with gr.Row(elem_classes="pi-columns"):
            with gr.Column(scale=2, min_width=300):
                self.place = choice_controls(site)
                show = gr.Button("Show and make files", variant="primary", elem_id="pi-vectors")
                self.downloads = gr.File(
                    label="Download", file_count="multiple", interactive=False, visible=False, elem_id="pi-downloads"
                )
                kinds = f"{', '.join(FORMATS)}, at most {MAX_UPLOAD // MIB} MiB"
                gr.Markdown(f"### Upload\nA vector of the model above, or of another: {kinds}.")
                trait = gr.Textbox("", label="Trait it is of (where the file does not say)", max_length=100)
                offset = gr.Checkbox(
                    False, label="Made by llama.cpp's own generator", info="Its layers are numbered one too high (.gguf only)."
                )
                transfer = gr.Radio(
                    list(WHEN), value="auto", label="Carry it over",
                    info="auto: where it is of a model of this page that is no copy of the one above, which is measured.",
                )  # fmt: skip
                self.upload = gr.File(
                    label="Vector file", file_types=list(FORMATS), file_count="single", type="filepath", height=140,
                    elem_id="pi-upload",
                )  # fmt: skip
            with gr.Column(scale=3, min_width=300):
                self.status = gr.HTML(notices.silent(), elem_id="pi-vectors-status")
                self.table = gr.HTML(_EMPTY, elem_classes="pi-table")
                self.plot = gr.Plot(label="Layer by layer", visible=False)
                self.explained = gr.HTML(what(PARTS), visible=False)
        wire_choice(site, self.place, self.status, page, tab)
        told = in_words(self.status)
        outputs: list[Any] = [self.status, self.table, self.plot, self.downloads, self.explained]
        chosen = [self.place.model, self.place.choice]
        show.click(told(self.open_vector), chosen, outputs, js=towards("pi-vectors-status"), **OPTIONS)
        taken = [self.upload, self.place.model, trait, offset, transfer]
        self.upload.upload(told(self.take), taken, [*outputs, self.place.choice, self.upload], **OPTIONS)

    def open_vector(self, name: str, choice: str, request: gr.Request) -> Iterator[Updates]:
        """Show a vector and write it in every format."""
        session = session_of(self.site, request)

        def work(job: Job[Opened]) -> None:
            job.doing(f"loading {name}")
            vector = self.site.vector(job, session, self.site.shelf.model(name), choice).vector
            job.doing("writing files")
            files, refused = write_downloads(vector, session.folder)
            said = [note.replace(f"{session.folder}/", "") for note in job.progress.notes]
            job.show(Opened(vector, tuple(files), (*said, *refused)))

        found = yield from followed(session.start(PLACE, work), self.status)
        if found is not None:
            whose = f"{found.vector.trait} of {found.vector.model.name}."
            yield {**self._opened(found), self.status: notices.done(whose, found.notes)}

    def take(
        self, path: str | None, name: str, called: str, numbered: bool, transfer: str, request: gr.Request
    ) -> Iterator[Updates]:
        """Read an uploaded file; the upload itself goes, whatever came of it."""
        if path is None:
            raise InvalidInputError("no file was given: choose one")
        session = session_of(self.site, request)
        try:
            trait = checked_text(called, "trait", 100, empty=True)

            def work(job: Job[Opened]) -> None:
                job.doing(f"loading {name}")
                model = self.site.shelf.model(name)
                job.doing("reading the file")
                found = read_upload(
                    Path(path), model, session.folder, trait=trait, generator_offset=bool(numbered), transfer=transfer,
                    load=lambda whose: nullcontext(self.site.shelf.model(whose)),
                )  # fmt: skip
                label = session.keep(f"{found.vector.trait[:60]} (uploaded)", found.vector, model.name)
                job.show(Opened(found.vector, notes=(found.note,) if found.note else (), label=label))

            found = yield from followed(session.start(PLACE, work), self.status)
        except Exception:
            yield {self.upload: None}
            raise
        finally:
            Path(path).unlink(missing_ok=True)
        if found is not None:
            choices = gr.update(choices=self.site.choices(session, name), value=f"{VECTOR}{found.label}")
            said = notices.done(f"Uploaded as {found.label!r}: choose it under Steer, Chat or Transfer.", found.notes)
            yield {**self._opened(found), self.place.choice: choices, self.status: said, self.upload: None}

    def _opened(self, found: Opened) -> Updates:
        table = f'<div class="pi-scroll" tabindex="0" role="region" aria-label="Layers">{found.vector._repr_html_()}</div>'
        return {
            self.table: table,
            self.plot: gr.update(value=compact(layer_figure(found.vector), 640), visible=True),
            self.explained: gr.update(visible=True),
            self.downloads: gr.update(value=[str(path) for path in found.files], visible=bool(found.files)),
        }
