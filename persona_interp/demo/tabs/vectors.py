"""Vectors: what is in one, layer by layer; files in and out in every format."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gradio as gr
import plotly.graph_objects as go

from persona_interp.demo import notices
from persona_interp.demo.figures import compact
from persona_interp.demo.jobs import Job
from persona_interp.demo.limits import MAX_UPLOAD, MIB, checked_text
from persona_interp.demo.site import VECTOR, Site
from persona_interp.demo.tabs.handlers import OPTIONS, Updates, followed, in_words, session_of
from persona_interp.demo.tabs.picker import choice_controls, wire_choice
from persona_interp.demo.vector_files import Upload, read_upload, write_downloads
from persona_interp.errors import InvalidInputError
from persona_interp.plotting.layers import layer_figure
from persona_interp.vectors.formats import FORMATS
from persona_interp.vectors.persona_vector import PersonaVector

PLACE = "vectors"
_INTRO = (
    "See what a vector is made of, **download** it in any format, or **upload** one: JSON, safetensors, a PyTorch tensor or a "
    "llama.cpp control vector. Uploads are read as numbers only, and stay in your session."
)


@dataclass(frozen=True)
class Opened:
    """A vector, and the files made of it."""

    vector: PersonaVector
    figure: go.Figure
    files: list[Path] = field(default_factory=list[Path])
    refused: list[str] = field(default_factory=list[str])


def vectors_tab(site: Site, page: gr.Blocks, tab: gr.Tab) -> None:
    """Place and wire the tab."""
    gr.Markdown(_INTRO)
    with gr.Row(elem_classes="pi-columns"):
        with gr.Column(scale=2, min_width=300):
            place = choice_controls(site)
            show = gr.Button("Show and make files", variant="primary", elem_id="pi-vectors")
            downloads = gr.File(label="Download", file_count="multiple", interactive=False, visible=False, elem_id="pi-downloads")
            gr.Markdown("### Upload")
            upload = gr.File(
                label=f"Vector file of the model above ({', '.join(FORMATS)}; at most {MAX_UPLOAD // MIB} MiB)",
                file_types=list(FORMATS), file_count="single", type="filepath", height=150, elem_id="pi-upload",
            )  # fmt: skip
            trait = gr.Textbox("", label="Trait it is of (where the file does not say)", max_length=100)
            offset = gr.Checkbox(
                False, label="Made by llama.cpp's own generator", info="Its layers are numbered one too high (.gguf only)."
            )
        with gr.Column(scale=3, min_width=300):
            status = gr.HTML(notices.told("Choose a trait or vector, or upload one."), elem_id="pi-vectors-status")
            table = gr.HTML("", elem_classes="pi-table")
            plot = gr.Plot(label="Layer by layer", visible=False)
    wire_choice(site, place, status, page, tab)

    def opened(found: Opened) -> Updates:
        files = gr.update(value=[str(path) for path in found.files], visible=bool(found.files))
        return {
            table: f'<div class="pi-scroll" tabindex="0" role="region" aria-label="Layers">{found.vector._repr_html_()}</div>',
            plot: gr.update(value=found.figure, visible=True),
            downloads: files,
        }

    @in_words(status)
    def open_vector(name: str, choice: str, request: gr.Request) -> Iterator[Updates]:
        session = session_of(site, request)

        def work(job: Job[Opened]) -> None:
            job.doing(f"loading {name}")
            model = site.shelf.model(name)
            vector = site.vector(job, session, model, choice).vector
            job.doing("writing files")
            files, refused = write_downloads(vector, session.folder)
            job.show(Opened(vector, compact(layer_figure(vector), 640), files, refused))

        job = session.start(PLACE, work)
        found: Opened | None = None

        def follow(state: Opened) -> Updates:
            nonlocal found
            found = state
            return {}

        yield from followed(job, status, follow)
        if found is not None:
            notes = (*(note.replace(f"{session_of(site, request).folder}/", "") for note in job.progress.notes), *found.refused)
            yield {**opened(found), status: notices.done(f"{found.vector.trait} of {found.vector.model.name}.", notes)}

    @in_words(status)
    def take(path: str | None, name: str, called: str, numbered: bool, request: gr.Request) -> Iterator[Updates]:
        if path is None:
            raise InvalidInputError("no file was given: choose one")
        session = session_of(site, request)
        trait_name = checked_text(called, "trait", 100, empty=True)

        def work(job: Job[tuple[Upload, str]]) -> None:
            job.doing(f"loading {name}")
            model = site.shelf.model(name)
            job.doing("reading the file")
            found = read_upload(Path(path), model, session.folder, trait=trait_name, generator_offset=bool(numbered))
            job.show((found, session.keep(f"{found.vector.trait[:60]} (uploaded)", found.vector, model.name)))

        job = session.start(PLACE, work)
        found: tuple[Upload, str] | None = None
        try:
            for state in job.updates():
                found = state or found
                yield {status: notices.working(job.progress)}
        finally:
            Path(path).unlink(missing_ok=True)
        if found is not None:
            uploaded, label = found
            said = f"Uploaded as {label!r}: choose it under Steer, Chat or Transfer."
            state = Opened(uploaded.vector, compact(layer_figure(uploaded.vector), 640))
            choices = gr.update(choices=site.choices(session, name), value=f"{VECTOR}{label}")
            notes = (uploaded.note,) if uploaded.note else ()
            yield {**opened(state), place.choice: choices, status: notices.done(said, notes), upload: None}

    outputs: list[Any] = [status, table, plot, downloads]
    show.click(open_vector, [place.model, place.choice], outputs, **OPTIONS)
    taken = [upload, place.model, trait, offset]
    upload.upload(take, taken, [*outputs, place.choice, upload], **OPTIONS)
