"""Steer: one question, answered without and with a persona vector."""

from __future__ import annotations

from collections.abc import Iterator

import gradio as gr

from persona_interp.demo import notices
from persona_interp.demo.jobs import Job
from persona_interp.demo.limits import MAX_PROMPT, checked_text
from persona_interp.demo.site import Site
from persona_interp.demo.tabs.answers import Steered, answers, steering
from persona_interp.demo.tabs.handlers import OPTIONS, Updates, followed, in_words, session_of, stop_button, towards
from persona_interp.demo.tabs.picker import drawn, layer_outputs, picked, picker, wire
from persona_interp.demo.tabs.settings import checked, settings
from persona_interp.traits.conversation import Conversation

PLACE = "steer"
QUESTION = "What do you know about the bicycle?"
_INTRO = (
    "Ask a question and see two answers side by side: the model's own, and the one it gives while a **persona vector** is added "
    "to its residual stream. Press **Steer** to see a first pair."
)


class SteerTab:
    """The tab, placed and wired when it is made."""

    def __init__(self, site: Site, page: gr.Blocks, tab: gr.Tab) -> None:
        self.site = site
        gr.Markdown(_INTRO)
        with gr.Row(elem_classes="pi-columns"):
            with gr.Column(scale=2, min_width=300):
                question = gr.Textbox(QUESTION, label="Question", max_lines=6, max_length=MAX_PROMPT, elem_id="pi-question")
                with gr.Row():
                    go = gr.Button("Steer", variant="primary", elem_id="pi-steer")
                    stop = gr.Button("Stop", elem_id="pi-steer-stop")
                self.place = picker(site)
                more = settings()
            with gr.Column(scale=3, min_width=300):
                self.status = gr.HTML(notices.told("Ready."), elem_id="pi-steer-status")
                self.answers = answers()
        wire(site, self.place, self.status, page, tab)
        inputs = [*self.place.inputs, question, *more.inputs]
        outputs = [self.status, *self.answers.outputs, *layer_outputs(self.place)]
        run, seen = in_words(self.status)(self.steer), towards("pi-steer-status")
        gr.on([go.click, question.submit], run, inputs, outputs, js=seen, **OPTIONS)
        stop_button(site, PLACE, stop, self.status)

    def steer(
        self, name: str, choice: str, layer: int | None, coefficient: float, asked: str,
        told: str, length: float, temperature: float, number: float, request: gr.Request,
    ) -> Iterator[Updates]:  # fmt: skip
        """Answer a question twice."""
        session = session_of(self.site, request)
        system, sampling, seed = checked(told, length, temperature, number)
        conversation = Conversation.ask(checked_text(asked, "question", MAX_PROMPT), system)

        def work(job: Job[Steered]) -> None:
            job.doing(f"loading {name}")
            model = self.site.shelf.model(name)
            chosen, push = picked(self.site, session, job, model, choice, layer, coefficient)
            steering(job, model, chosen, push, conversation, sampling, seed)

        job = session.start(PLACE, work)
        found = yield from followed(
            job,
            self.status,
            lambda state: self.answers.updates(state, running=True),
            once=lambda state: drawn(self.place, state.model, state.chosen.vector, layer),
            cut_short=lambda state: self.answers.updates(state, running=False),
        )
        if found is not None:
            ending = notices.done(found.ending(), job.progress.notes)
            yield {**self.answers.updates(found, running=False), self.status: ending}
