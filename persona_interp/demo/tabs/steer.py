"""Steer: one question, answered without and with persona vectors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr

from persona_interp.demo import notices
from persona_interp.demo.jobs import Job
from persona_interp.demo.limits import MAX_PROMPT, checked_text
from persona_interp.demo.reproduced import reproduced
from persona_interp.demo.sessions import Session
from persona_interp.demo.site import REFINING, Site
from persona_interp.demo.tabs.answers import Steered, answers, steering
from persona_interp.demo.tabs.handlers import OPTIONS, Updates, followed, in_words, session_of, stop_button, towards
from persona_interp.demo.tabs.picker import drawn, layer_outputs, picker, shown_dials, wire
from persona_interp.demo.tabs.refining import Refining
from persona_interp.demo.tabs.settings import checked, settings
from persona_interp.demo.wanted import picked
from persona_interp.traits.conversation import Conversation

PLACE = "steer"
QUESTION = "What do you know about the bicycle?"
_INTRO = (
    "Ask a question and see two answers side by side: the model's own, and the one it gives while a **persona vector** is added "
    "to its residual stream. Press **Steer** to see a first pair."
)
_HERE = "On the machine this page comes from, these give the same answers."
_ELSEWHERE = f"{_HERE} Their vector files lie there, under PERSONA_INTERP_HOME/demo/shown."


class SteerTab:
    """The tab, placed and wired when it is made."""

    def __init__(self, site: Site, page: gr.Blocks, tab: gr.Tab) -> None:
        self.site = site
        gr.Markdown(_INTRO)
        with gr.Row(elem_classes="pi-columns"):
            with gr.Column(scale=2, min_width=300):
                question = gr.Textbox(QUESTION, label="Question", max_lines=6, max_length=MAX_PROMPT, elem_id="pi-question")
                with gr.Row():
                    go = gr.Button("Steer", variant="primary", elem_id="pi-steer", min_width=110)
                    stop = gr.Button("Stop", elem_id="pi-steer-stop", min_width=80)
                    undo = gr.Button("Undo", elem_id="pi-undo", min_width=80)
                self.place = picker(site, compares=True)
                more = settings()
            with gr.Column(scale=3, min_width=300):
                self.status = gr.HTML(notices.silent(), elem_id="pi-steer-status")
                self.refining = Refining(site, self.place, "steer")
                self.answers = answers()
                self._place_reproduced()
        wire(site, self.place, self.status, page, tab)
        self.inputs = [*self.place.inputs, question, *more.inputs]
        outputs = [self.status, *self.answers.outputs, *layer_outputs(self.place), *self.shown, *self.refining.outputs]
        told = in_words(self.status)
        gr.on([go.click, question.submit], told(self.steer), self.inputs, outputs, js=towards("pi-steer-status"), **OPTIONS)
        rows = [self.place.remove, *(each.row for each in self.place.more)]
        everything = list(dict.fromkeys([*outputs, *self.inputs, *rows]))
        undo.click(told(self.undo), None, everything, **OPTIONS)
        stop_button(site, (PLACE, REFINING), stop, self.status)

    def _place_reproduced(self) -> None:
        with gr.Accordion("Do the same without this page", open=False, visible=False, elem_id="pi-reproduced") as box:
            gr.Markdown(_HERE if self.site.shows_paths else _ELSEWHERE)
            looks: dict[str, Any] = {"interactive": False, "buttons": ["copy"], "lines": 3, "elem_classes": "pi-code"}
            command = gr.Textbox("", label="Command", max_lines=12, elem_id="pi-command", **looks)
            python = gr.Textbox("", label="Python", max_lines=24, elem_id="pi-python", **looks)
        self.shown = [box, command, python]

    def steer(self, request: gr.Request, *values: Any) -> Iterator[Updates]:
        """Answer a question without and with steering."""
        session, n = session_of(self.site, request), len(self.place.inputs)
        wanted, settled = self.place.wanted(values[:n]), checked(*values[n + 1 :])
        conversation = Conversation.ask(checked_text(values[n], "question", MAX_PROMPT), settled.system)

        def work(job: Job[Steered]) -> None:
            job.doing(f"loading {wanted.model}")
            model = self.site.shelf.model(wanted.model)
            steering(job, model, picked(self.site, session, job, model, wanted), conversation, settled)

        job = session.start(PLACE, work)
        found = yield from followed(
            job,
            self.status,
            lambda state: self.answers.updates(state, running=True),
            once=lambda state: drawn(self.place, state.model, state.picked.chosen.vector, wanted.dials[0].layer),
            cut_short=lambda state: self.answers.updates(state, running=False),
        )
        if found is not None:
            session.steered.append((values, found))
            ending = notices.done(found.ending(), job.progress.notes)
            begun = self.refining.begun(session, found.model, wanted.dials[0].choice)
            yield {**self._seen(found, conversation, settled), **begun, self.status: ending}

    def undo(self, request: gr.Request) -> Updates:
        """Back to the steering before the last: its controls and its answers."""
        session = session_of(self.site, request)
        if len(session.steered) < 2:
            return {self.status: notices.told("There is nothing to undo: a steering can be undone once there are two.")}
        session.stop(PLACE)
        session.steered.pop()
        return self._restored(session)

    def _restored(self, session: Session) -> Updates:
        values, found = session.steered[-1]
        n = len(self.place.inputs)
        settled = checked(*values[n + 1 :])
        controls = dict(zip(self.inputs, values, strict=True))
        seen = self._seen(found, Conversation.ask(values[n].strip(), settled.system), settled)
        layers = drawn(self.place, found.model, found.picked.chosen.vector, controls[self.place.layer])
        dials = shown_dials(self.place, controls[self.place.n_more])
        choices = gr.update(choices=self.site.choices(session, found.model.name), value=controls[self.place.choice])
        said = notices.done("Undone: controls and answers are those of the steering before.")
        return {**controls, self.place.choice: choices, **seen, **layers, **dials, self.status: said}

    def _seen(self, found: Steered, conversation: Conversation, settled: Any) -> Updates:
        box, command, python = self.shown
        shown = reproduced(self.site, found.picked, conversation, settled.sampling, settled.seed)
        return {
            **self.answers.updates(found, running=False),
            box: gr.update(visible=True), command: shown.command, python: shown.python,
        }  # fmt: skip
