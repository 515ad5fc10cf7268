"""Chat: a conversation with the steered model, and how far its persona drifts turn by turn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import gradio as gr
import plotly.graph_objects as go

from persona_interp.demo import notices
from persona_interp.demo.figures import compact
from persona_interp.demo.jobs import Job
from persona_interp.demo.limits import MAX_PROMPT, MAX_TURNS, checked_text
from persona_interp.demo.site import Site
from persona_interp.demo.tabs.handlers import OPTIONS, Updates, followed, in_words, session_of, stop_button
from persona_interp.demo.tabs.picker import drawn, layer_outputs, picked, picker, wire
from persona_interp.demo.tabs.settings import checked, settings
from persona_interp.demo.talk import Talk, answer, drift
from persona_interp.demo.talk_shown import talk_html
from persona_interp.demo.trait_vectors import judge_of
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


def chat_tab(site: Site, page: gr.Blocks, tab: gr.Tab) -> None:
    """Place and wire the tab."""
    gr.Markdown(_INTRO)
    with gr.Row(elem_classes="pi-columns"):
        with gr.Column(scale=2, min_width=300):
            message = gr.Textbox(
                MESSAGE, label="Your message", lines=1, max_lines=6, max_length=MAX_PROMPT, elem_id="pi-chat-message"
            )
            with gr.Row():
                go_on = gr.Button("Send", variant="primary", elem_id="pi-chat")
                stop = gr.Button("Stop", elem_id="pi-chat-stop")
            anew = gr.Button("New conversation", elem_id="pi-chat-new")
            place = picker(site)
            more = settings()
        with gr.Column(scale=3, min_width=300):
            status = gr.HTML(notices.told("Say something."), elem_id="pi-chat-status")
            shown = gr.HTML(talk_html(Talk(), ""), elem_id="pi-talk")
            plot = gr.Plot(label="Persona drift: projection of each answer, turn by turn", visible=False, elem_id="pi-drift")
    wire(site, place, status, page, tab)

    @in_words(status)
    def send(
        name: str, choice: str, layer: int | None, coefficient: float, said: str,
        told: str, length: float, temperature: float, number: float, request: gr.Request,
    ) -> Iterator[Updates]:  # fmt: skip
        session = session_of(site, request)
        system, sampling, seed = checked(told, length, temperature, number)
        question = checked_text(said, "message", MAX_PROMPT)

        def work(job: Job[Spoken]) -> None:
            job.doing(f"loading {name}")
            model = site.shelf.model(name)
            chosen, push = picked(site, session, job, model, choice, layer, coefficient)
            before = session.talk
            if before.model != model.name or before.system != system:
                if before.turns:
                    job.said("a new conversation: the model or the system prompt is another one")
                before = Talk(model.name, system)

            def show(talk: Talk) -> None:
                job.show(Spoken(model, chosen.vector, talk))

            judge = None if chosen.trait is None else judge_of(model, chosen.trait)
            talk = answer(
                job, model, push, before, question, sampling, seed, trait=chosen.trait, judge=judge, show=show
            )  # fmt: skip
            session.talk = talk
            job.doing("reading the conversation along the vector")
            figure = compact(drift_figure(drift(model, push, talk), push.layer))
            job.show(Spoken(model, chosen.vector, talk, figure))

        job = session.start(PLACE, work)
        found: Spoken | None = None

        def follow(state: Spoken) -> Updates:
            nonlocal found
            first = found is None
            found = state
            layers = drawn(place, state.model, state.vector, layer) if first else {}
            return {shown: talk_html(state.talk, state.vector.trait, running=True), **layers}

        try:
            yield from followed(job, status, follow)
        except Exception:
            yield {shown: talk_html(session.talk, "" if found is None else found.vector.trait)}
            raise
        if found is not None:
            left = MAX_TURNS - len(found.talk.turns)
            ending = notices.done(f"Turn {len(found.talk.turns)}; {left} more can follow.", job.progress.notes)
            figure = gr.update(value=found.figure, visible=True)
            yield {shown: talk_html(found.talk, found.vector.trait), plot: figure, status: ending, message: ""}

    @in_words(status)
    def begin_anew(request: gr.Request) -> Updates:
        session = session_of(site, request)
        session.stop(PLACE)
        session.talk = Talk()
        return {shown: talk_html(Talk(), ""), plot: gr.update(value=None, visible=False), status: notices.told("Say something.")}

    inputs = [*place.inputs, message, *more.inputs]
    gr.on([go_on.click, message.submit], send, inputs, [status, shown, plot, message, *layer_outputs(place)], **OPTIONS)
    anew.click(begin_anew, None, [shown, plot, status], **OPTIONS)
    stop_button(site, PLACE, stop, status)
