"""Chat: a conversation with the steered model, and how far its persona drifts turn by turn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr
import plotly.graph_objects as go

from persona_interp.demo import notices
from persona_interp.demo.explained import DRIFT, what
from persona_interp.demo.figures import compact
from persona_interp.demo.jobs import Job
from persona_interp.demo.limits import MAX_PROMPT, MAX_TURNS, checked_text
from persona_interp.demo.site import REFINING, Site
from persona_interp.demo.tabs.answers import scoring
from persona_interp.demo.tabs.handlers import OPTIONS, Updates, followed, in_words, session_of, stop_button, towards
from persona_interp.demo.tabs.picker import drawn, layer_outputs, picker, wire
from persona_interp.demo.tabs.refining import Refining
from persona_interp.demo.tabs.settings import checked, settings
from persona_interp.demo.talk import Talk, answer, begun, drift, exported
from persona_interp.demo.talk_shown import talk_html
from persona_interp.demo.wanted import picked
from persona_interp.models.steerable import SteerableModel
from persona_interp.plotting.strip import drift_figure
from persona_interp.vectors.persona_vector import PersonaVector

PLACE = "chat"
MESSAGE = "Hello, what can you say about the whale?"
_INTRO = (
    "Talk to the **steered** model over several turns. The plot shows after each turn how far its answers point along the "
    "vector, beside the same conversation held without steering."
)


@dataclass(frozen=True)
class Spoken:
    """What there is to see of a conversation."""

    model: SteerableModel
    vector: PersonaVector
    talk: Talk
    figure: go.Figure | None = None


class ChatTab:
    """The tab, placed and wired when it is made."""

    def __init__(self, site: Site, page: gr.Blocks, tab: gr.Tab) -> None:
        self.site = site
        gr.Markdown(_INTRO)
        with gr.Row(elem_classes="pi-columns"):
            with gr.Column(scale=2, min_width=300):
                self.message = gr.Textbox(
                    MESSAGE, label="Your message", max_lines=6, max_length=MAX_PROMPT, elem_id="pi-chat-message"
                )
                with gr.Row():
                    send = gr.Button("Send", variant="primary", elem_id="pi-chat", min_width=110)
                    stop = gr.Button("Stop", elem_id="pi-chat-stop", min_width=80)
                with gr.Row():
                    anew = gr.Button("New conversation", elem_id="pi-chat-new", min_width=140)
                    self.export = gr.DownloadButton("Export", visible=False, elem_id="pi-export", min_width=100)
                self.place = picker(site)
                more = settings()
            with gr.Column(scale=3, min_width=300):
                self.status = gr.HTML(notices.silent(), elem_id="pi-chat-status")
                self.refining = Refining(site, self.place, "chat")
                self.shown = gr.HTML(talk_html(Talk(), ""), elem_id="pi-talk")
                self.plot = gr.Plot(label="Drift: projection of each answer, turn by turn", visible=False, elem_id="pi-drift")
                self.explained = gr.HTML(what(DRIFT), visible=False)
        wire(site, self.place, self.status, page, tab)
        told = in_words(self.status)
        inputs = [*self.place.inputs, self.message, *more.inputs]
        outputs: list[Any] = [self.status, self.shown, self.plot, self.message, *layer_outputs(self.place)]
        outputs += [self.export, self.explained, *self.refining.outputs]
        seen = towards("pi-chat-status")
        gr.on([send.click, self.message.submit], told(self.send), inputs, outputs, js=seen, **OPTIONS)
        anew.click(told(self.begin_anew), None, [self.shown, self.plot, self.status, self.export, self.explained], **OPTIONS)
        stop_button(site, (PLACE, REFINING), stop, self.status)

    def send(self, request: gr.Request, *values: Any) -> Iterator[Updates]:
        """Take one more turn. A turn that fails or is stopped is not kept."""
        session, n = session_of(self.site, request), len(self.place.inputs)
        wanted, settled = self.place.wanted(values[:n]), checked(*values[n + 1 :])
        question = checked_text(values[n], "message", MAX_PROMPT)

        def work(job: Job[Spoken]) -> None:
            job.doing(f"loading {wanted.model}")
            model = self.site.shelf.model(wanted.model)
            found = picked(self.site, session, job, model, wanted)
            before = begun(session.talk, model.name, settled.system, job.said)
            vector = found.chosen.vector

            def show(talk: Talk) -> None:
                job.show(Spoken(model, vector, talk))

            judge, push = scoring(model, found, settled.judge), found.pushes[0]
            talk = answer(job, model, push, before, question, settled.sampling, settled.seed, scoring=judge, show=show)
            job.doing("reading the conversation along the vector")
            figure = compact(drift_figure(drift(model, found.first, talk), found.first.layers[0]))
            session.talk = talk
            job.show(Spoken(model, vector, talk, figure))

        job = session.start(PLACE, work)
        try:
            found = yield from followed(
                job,
                self.status,
                lambda state: {self.shown: talk_html(state.talk, state.vector.trait, running=True)},
                once=lambda state: drawn(self.place, state.model, state.vector, wanted.dials[0].layer),
            )
        except Exception:
            yield {self.shown: talk_html(session.talk, "")}
            raise
        if found is not None:
            turns = len(found.talk.turns)
            yield {
                **self.refining.begun(session, found.model, wanted.dials[0].choice),
                self.export: gr.update(value=str(exported(found.talk, session.folder)), visible=True),
                self.explained: gr.update(visible=True),
                self.shown: talk_html(found.talk, found.vector.trait),
                self.plot: gr.update(value=found.figure, visible=True),
                self.status: notices.done(f"Turn {turns}; {MAX_TURNS - turns} more can follow.", job.progress.notes),
                self.message: "",
            }

    def begin_anew(self, request: gr.Request) -> Updates:
        """Forget the conversation."""
        session = session_of(self.site, request)
        session.stop(PLACE)
        session.talk = Talk()
        gone = gr.update(visible=False)
        nothing = gr.update(value=None, visible=False)
        shown = {self.shown: talk_html(Talk(), ""), self.plot: nothing, self.export: gone, self.explained: gone}
        return {**shown, self.status: notices.silent()}
