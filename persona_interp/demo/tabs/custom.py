"""Custom trait: described, written or filled in, checked, saved, and made a vector."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr

from persona_interp.demo import notices
from persona_interp.demo.jobs import Job, Stopped
from persona_interp.demo.limits import MAX_SAMPLES
from persona_interp.demo.site import Site
from persona_interp.demo.tabs.handlers import OPTIONS, Updates, followed, in_words, session_of, stop_button
from persona_interp.demo.tabs.trait_fields import TraitFields
from persona_interp.demo.trait_form import template, written
from persona_interp.demo.trait_vectors import first_vector, refine
from persona_interp.models.steerable import SteerableModel
from persona_interp.traits.catalogue import add_trait
from persona_interp.traits.trait import N_PAIRS, Trait
from persona_interp.vectors.persona_vector import PersonaVector

PLACE, DRAFT = "custom", "custom draft"
_INTRO = (
    "Make a vector of **your own trait**: describe it, let the model write contrastive prompts and questions or fill in a "
    "template, edit them, save, extract. Then choose it under Steer."
)


class CustomTab:
    """The tab, placed and wired when it is made."""

    def __init__(self, site: Site, _page: gr.Blocks, _tab: gr.Tab) -> None:
        self.site = site
        gr.Markdown(_INTRO)
        gr.Markdown("### 1. Describe")
        self.fields = TraitFields()
        with gr.Row():
            model = gr.Dropdown(site.shelf.choices, value=site.shelf.names[0], label="Model", filterable=False, min_width=200)
            self.fields.place_name()
        self.fields.place_description()
        with gr.Row():
            write = gr.Button("Write with the model", variant="primary", elem_id="pi-write", min_width=150)
            fill = gr.Button("Fill in a template", elem_id="pi-fill", min_width=150)
            halt = gr.Button("Stop", elem_id="pi-write-stop", min_width=80)
        self.drafting = gr.HTML(notices.silent(), elem_id="pi-draft-status")
        gr.Markdown("### 2. Prompts and questions")
        self.fields.place_texts()
        gr.Markdown("### 3. Save and extract")
        self._place_end(model)
        head = [model, self.fields.name, self.fields.description]
        drafted = [*self.fields.all, self.drafting]
        draft = in_words(self.drafting)
        write.click(draft(self.have_written), head, drafted, **OPTIONS)
        fill.click(draft(self.fill_in), head, drafted, **OPTIONS)
        stop_button(site, (DRAFT,), halt, self.drafting)

    def _place_end(self, model: gr.Dropdown) -> None:
        with gr.Row():
            replace = gr.Checkbox(False, label="Replace a trait of mine with the same name", min_width=240)
            samples = gr.Slider(
                1, MAX_SAMPLES, value=1, step=1, label="Answers per prompt and question", min_width=240,
                info="1 is enough to try; the paper takes 10.",
            )  # fmt: skip
        with gr.Row():
            check = gr.Button("Check", elem_id="pi-check", min_width=100)
            save = gr.Button("Save", elem_id="pi-save", min_width=100)
            extract = gr.Button("Extract the vector", variant="primary", elem_id="pi-extract", min_width=160)
            stop = gr.Button("Cancel", elem_id="pi-custom-stop", min_width=100)
        self.status = gr.HTML(notices.silent(), elem_id="pi-custom-status")
        self.table = gr.HTML("", elem_classes="pi-table")
        told, fields = in_words(self.status), self.fields.all
        check.click(told(self.check), fields, [self.status], **OPTIONS)
        save.click(told(self.save), [replace, *fields], [self.status], **OPTIONS)
        extract.click(told(self.extract), [model, samples, *fields], [self.status, self.table], **OPTIONS)
        stop_button(self.site, (PLACE,), stop, self.status)

    def fill_in(self, model: str, name: str, description: str) -> Updates:
        """Fill the form from a template."""
        trait, note = template(self.site.shelf.model(model), name, description)
        return {**self.fields.filled(trait), self.drafting: notices.done("The form is filled in: edit it, then save.", (note,))}

    def have_written(self, model: str, name: str, description: str, request: gr.Request) -> Iterator[Updates]:
        """Let the model fill the form."""

        def work(job: Job[tuple[Trait, str]]) -> None:
            job.doing(f"loading {model}")
            job.show(written(job, self.site.shelf.model(model), name, description))

        found = yield from followed(session_of(self.site, request).start(DRAFT, work), self.drafting)
        if found is not None:
            trait, note = found
            ending = notices.done("The form is filled in: read it, edit it, then save.", (note,))
            yield {**self.fields.filled(trait), self.drafting: ending}

    def check(self, *values: Any) -> Updates:
        """Say whether the form holds a trait."""
        trait = self.fields.form(values).trait()
        asked, kept = len(trait.extraction_questions), len(trait.evaluation_questions)
        said = f"{trait.name}: {N_PAIRS} pairs, {asked} questions for extraction, {kept} for evaluation."
        return {self.status: notices.done(said)}

    def save(self, again: bool, *values: Any) -> Updates:
        """Put the trait among the user's."""
        trait = self.fields.form(values).trait()
        add_trait(trait, overwrite=bool(again))
        said = f"{trait.name} is saved among your traits: choose it under Steer or in any command."
        return {self.status: notices.done(said)}

    def extract(self, request: gr.Request, model: str, samples: float, *values: Any) -> Iterator[Updates]:
        """Make a vector of the form's trait, saved or not."""
        session = session_of(self.site, request)
        trait = self.fields.form(values).trait()

        def keep(vector: PersonaVector, host: SteerableModel) -> str:
            return session.keep(f"{vector.trait} (custom)", vector, host.name, trait=trait, replace=True)

        def work(job: Job[tuple[PersonaVector, str]]) -> None:
            job.doing(f"loading {model}")
            host = self.site.shelf.model(model)
            job.doing(f"{trait.name}: asking {len(trait.extraction_questions)} questions under {2 * N_PAIRS} prompts")
            first = first_vector(job, host, trait)
            label = keep(first, host)
            job.said(f"A first vector is there as {label!r}: it can be used under Steer while this one is refined.")
            job.show((first, label))
            refined = refine(host, trait, samples)
            job.show((refined, keep(refined, host)))

        try:
            found = yield from followed(session.start(PLACE, work), self.status, once=lambda state: self._table(state[0]))
        except Stopped:
            yield {self.status: notices.told("Cancelled. What was made is kept: extract again, and it goes on from there.")}
            return
        if found is not None:
            vector, label = found
            judge = vector.provenance.get("filter", {}).get("judge") or "nobody, so all are"
            notes = (f"{vector.counts['kept_pairs']} of {vector.counts['pairs']} pairs of answers were kept by {judge}.",)
            said = notices.done(f"The vector is there as {label!r}: choose it under Steer, Chat or Transfer.", notes)
            yield {self.status: said, **self._table(vector)}

    def _table(self, vector: PersonaVector) -> Updates:
        return {self.table: f'<div class="pi-scroll">{vector._repr_html_()}</div>'}
