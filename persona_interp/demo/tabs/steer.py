"""Steer: one question, answered without and with a persona vector."""

from __future__ import annotations

from collections.abc import Iterator

import gradio as gr

from persona_interp.demo import notices
from persona_interp.demo.jobs import Job
from persona_interp.demo.limits import MAX_PROMPT, checked_text
from persona_interp.demo.site import Site
from persona_interp.demo.tabs.answers import Steered, answers, steering
from persona_interp.demo.tabs.handlers import OPTIONS, Updates, followed, in_words, session_of, stop_button
from persona_interp.demo.tabs.picker import drawn, layer_outputs, picked, picker, wire
from persona_interp.demo.tabs.settings import checked, settings
from persona_interp.traits.conversation import Conversation

PLACE = "steer"
QUESTION = "What do you know about the bicycle?"
_INTRO = (
    "Ask a question and see two answers side by side: the model's own, and the one it gives while a **persona vector** is added "
    "to its residual stream. Press **Steer** to see a first pair."
)


def steer_tab(site: Site, page: gr.Blocks, tab: gr.Tab) -> None:
    """Place and wire the tab."""
    gr.Markdown(_INTRO)
    with gr.Row(elem_classes="pi-columns"):
        with gr.Column(scale=2, min_width=300):
            question = gr.Textbox(
                QUESTION, label="Question", lines=1, max_lines=6, max_length=MAX_PROMPT, elem_id="pi-steer-question"
            )
            with gr.Row():
                go = gr.Button("Steer", variant="primary", elem_id="pi-steer")
                stop = gr.Button("Stop", elem_id="pi-steer-stop")
            place = picker(site)
            more = settings()
        with gr.Column(scale=3, min_width=300):
            status = gr.HTML(notices.told("Ready."), elem_id="pi-steer-status")
            shown = answers()
    wire(site, place, status, page, tab)

    @in_words(status)
    def steer(
        name: str, choice: str, layer: int | None, coefficient: float, asked: str,
        told: str, length: float, temperature: float, number: float, request: gr.Request,
    ) -> Iterator[Updates]:  # fmt: skip
        session = session_of(site, request)
        system, sampling, seed = checked(told, length, temperature, number)
        conversation = Conversation.ask(checked_text(asked, "question", MAX_PROMPT), system)

        def work(job: Job[Steered]) -> None:
            job.doing(f"loading {name}")
            model = site.shelf.model(name)
            chosen, push = picked(site, session, job, model, choice, layer, coefficient)
            steering(job, model, chosen, push, conversation, sampling, seed)

        job = session.start(PLACE, work)
        found: Steered | None = None

        def follow(state: Steered) -> Updates:
            nonlocal found
            first = found is None
            found = state
            layers = drawn(place, state.model, state.chosen.vector, layer) if first else {}
            return {**shown.updates(state, running=True), **layers}

        yield from followed(job, status, follow)
        if found is not None:
            yield {**shown.updates(found, running=False), status: notices.done(found.ending(), job.progress.notes)}

    outputs = [status, *shown.outputs, *layer_outputs(place)]
    inputs = [*place.inputs, question, *more.inputs]
    gr.on([go.click, question.submit], steer, inputs, outputs, **OPTIONS)
    stop_button(site, PLACE, stop, status)
