"""Custom trait: described, written or filled in, checked, saved, and made a vector."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr

from persona_interp.demo import notices
from persona_interp.demo.jobs import Job, Stopped
from persona_interp.demo.limits import MAX_DESCRIPTION, MAX_SAMPLES
from persona_interp.demo.site import Site
from persona_interp.demo.tabs.handlers import OPTIONS, Updates, followed, in_words, session_of, stop_button
from persona_interp.demo.trait_form import TraitForm, template, written
from persona_interp.demo.trait_vectors import judge_of, trait_vector
from persona_interp.models.steerable import SteerableModel
from persona_interp.traits.catalogue import add_trait
from persona_interp.traits.trait import N_PAIRS, Trait
from persona_interp.vectors.persona_vector import PersonaVector

PLACE, DRAFT = "custom", "custom draft"
_INTRO = (
    "Make a vector of **your own trait**: describe it, let the model write contrastive prompts and questions or fill in a "
    "template, edit them, save, extract. Then choose it under Steer."
)


def custom_tab(site: Site, page: gr.Blocks, tab: gr.Tab) -> None:
    """Place and wire the tab."""
    gr.Markdown(_INTRO)
    gr.Markdown("### 1. Describe")
    with gr.Row():
        model = gr.Dropdown(site.shelf.names, value=site.shelf.names[0], label="Model", filterable=False, min_width=200)
        name = gr.Textbox("", label="Name", max_length=100, placeholder="clownish", elem_id="pi-trait-name", min_width=200)
    description = gr.Textbox(
        "", label="Description, in a sentence or two", lines=2, max_length=MAX_DESCRIPTION, elem_id="pi-trait-description",
        placeholder="Goofy and playful: says things in a clownish way rather than a serious one.",
    )  # fmt: skip
    with gr.Row():
        write = gr.Button("Write with the model", variant="primary", elem_id="pi-write", min_width=150)
        fill = gr.Button("Fill in a template", elem_id="pi-fill", min_width=150)
        halt = gr.Button("Stop", elem_id="pi-write-stop", min_width=80)
    drafting = gr.HTML(notices.told("Begin with a name and a description."), elem_id="pi-draft-status")
    gr.Markdown("### 2. Prompts and questions")
    positives: list[gr.Textbox] = []
    negatives: list[gr.Textbox] = []
    for number in range(1, N_PAIRS + 1):
        with gr.Row():
            positives.append(gr.Textbox("", label=f"System prompt {number} for the trait", max_lines=6, min_width=240))
            negatives.append(
                gr.Textbox("", label=f"System prompt {number} for its opposite", lines=1, max_lines=6, min_width=240)
            )
    with gr.Row():
        extraction = gr.Textbox("", label="Questions for extraction, one a line", lines=4, max_lines=8, min_width=240)
        evaluation = gr.Textbox("", label="Questions for evaluation, one a line (optional)", lines=4, max_lines=8, min_width=240)
    with gr.Accordion("Rubric for a judge (optional)", open=False):
        rubric = gr.Textbox(
            "", label="Rubric", lines=6, max_lines=16,
            info="With {question} and {answer} in it. Empty: one is made from the description.",
        )  # fmt: skip
    gr.Markdown("### 3. Save and extract")
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
    status = gr.HTML(notices.told("Nothing is saved or extracted yet."), elem_id="pi-custom-status")
    table = gr.HTML("", elem_classes="pi-table")

    fields = [name, description, *positives, *negatives, extraction, evaluation, rubric]

    def filled(trait: Trait) -> Updates:
        form = TraitForm.of(trait)
        sides = {**dict(zip(positives, form.positives, strict=True)), **dict(zip(negatives, form.negatives, strict=True))}
        return {
            description: form.description, **sides, extraction: form.extraction, evaluation: form.evaluation,
            rubric: form.rubric,
        }  # fmt: skip

    @in_words(drafting)
    def fill_in(chosen: str, called: str, said: str) -> Updates:
        trait, note = template(site.shelf.model(chosen), called, said)
        return {**filled(trait), drafting: notices.done("The form is filled in: edit it, then save.", (note,))}

    @in_words(drafting)
    def have_written(chosen: str, called: str, said: str, request: gr.Request) -> Iterator[Updates]:
        def work(job: Job[tuple[Trait, str]]) -> None:
            job.doing(f"loading {chosen}")
            job.show(written(job, site.shelf.model(chosen), called, said))

        job = session_of(site, request).start(DRAFT, work)
        found: list[tuple[Trait, str]] = []
        yield from followed(job, drafting, lambda shown: found.append(shown) or {})
        if found:
            trait, note = found[-1]
            yield {**filled(trait), drafting: notices.done("The form is filled in: read it, edit it, then save.", (note,))}

    @in_words(status)
    def check_it(*values: str) -> Updates:
        trait = form_of(values).trait()
        asked, kept = len(trait.extraction_questions), len(trait.evaluation_questions)
        return {status: notices.done(f"{trait.name}: {N_PAIRS} pairs, {asked} questions for extraction, {kept} for evaluation.")}

    @in_words(status)
    def save_it(again: bool, *values: str) -> Updates:
        trait = form_of(values).trait()
        add_trait(trait, overwrite=bool(again))
        return {status: notices.done(f"{trait.name} is saved among your traits: choose it under Steer or in any command.")}

    @in_words(status)
    def extract_it(request: gr.Request, chosen: str, number: float, *values: Any) -> Iterator[Updates]:
        session = session_of(site, request)
        trait = form_of(values).trait()

        def work(job: Job[tuple[SteerableModel, PersonaVector]]) -> None:
            job.doing(f"loading {chosen}")
            host = site.shelf.model(chosen)
            job.doing(f"{trait.name}: asking {len(trait.extraction_questions)} questions under {2 * N_PAIRS} prompts")
            job.show((host, trait_vector(job, host, trait, number)))

        job = session.start(PLACE, work)
        found: list[tuple[SteerableModel, PersonaVector]] = []
        try:
            yield from followed(job, status, lambda shown: found.append(shown) or {})
        except Stopped:
            yield {status: notices.told("Cancelled. What was made is kept: extract again, and it goes on from there.")}
            return
        if found:
            host, vector = found[-1]
            label = session.keep(f"{vector.trait} (custom)", vector, host.name, trait=trait, replace=True)
            kept, pairs = vector.counts["kept_pairs"], vector.counts["pairs"]
            said = f"{kept} of {pairs} pairs of answers were kept by {judge_of(host, trait).name}."
            saved = notices.done(f"The vector is there as {label!r}: choose it under Steer, Chat or Transfer.", (said,))
            yield {status: saved, table: f'<div class="pi-scroll">{vector._repr_html_()}</div>'}

    def form_of(values: Any) -> TraitForm:
        called, said, *texts = values
        prompts, (asked, kept, judged) = texts[: 2 * N_PAIRS], texts[2 * N_PAIRS :]
        return TraitForm(called, said, tuple(prompts[:N_PAIRS]), tuple(prompts[N_PAIRS:]), asked, kept, judged)

    head = [model, name, description]
    fill.click(fill_in, head, [*fields, drafting], **OPTIONS)
    write.click(have_written, head, [*fields, drafting], **OPTIONS)
    check.click(check_it, fields, [status], **OPTIONS)
    save.click(save_it, [replace, *fields], [status], **OPTIONS)
    extract.click(extract_it, [model, samples, *fields], [status, table], **OPTIONS)
    stop_button(site, PLACE, stop, status)
    stop_button(site, DRAFT, halt, drafting)
