"""Transfer: a vector of one model carried into another, what that rests on, and what it does there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

import gradio as gr

from persona_interp.demo import notices
from persona_interp.demo.carrying import FEWEST, MOST, carry
from persona_interp.demo.comparison import Push
from persona_interp.demo.jobs import Job
from persona_interp.demo.limits import MAX_COEFFICIENT, MAX_PROMPT, checked_number, checked_text
from persona_interp.demo.site import Chosen, Site
from persona_interp.demo.tabs.answers import Steered, answers, steering
from persona_interp.demo.tabs.handlers import OPTIONS, Updates, followed, in_words, session_of, stop_button
from persona_interp.demo.tabs.picker import choice_controls, wire_choice
from persona_interp.demo.tabs.settings import checked, settings
from persona_interp.demo.tabs.steer import QUESTION
from persona_interp.demo.trait_vectors import known_trait
from persona_interp.models.steerable import SteerableModel
from persona_interp.traits.conversation import Conversation
from persona_interp.transfers.carry import METHODS
from persona_interp.transfers.report import TransferReport
from persona_interp.vectors.persona_vector import PersonaVector

PLACE = "transfer"
_ANCHORS = 600
_INTRO = (
    "Carry a vector from one model into **another family** by unlabelled texts that both read, see what that rests on, and steer "
    "the target with it beside its own answer."
)


@dataclass(frozen=True)
class Arrived:
    """A carried vector in the target.

    Attributes:
        target: model of the page.
        vector: in its basis.
        report: how it came there.
        label: what the session holds it under.
    """

    target: SteerableModel
    vector: PersonaVector
    report: TransferReport
    label: str


def transfer_tab(site: Site, page: gr.Blocks, tab: gr.Tab) -> None:
    """Place and wire the tab."""
    names = site.shelf.names
    gr.Markdown(_INTRO)
    with gr.Row(elem_classes="pi-columns"):
        with gr.Column(scale=2, min_width=300):
            place = choice_controls(site, model="From model")
            target = gr.Dropdown(names, value=names[-1 if len(names) < 3 else 2], label="Into model", filterable=False)
            number = gr.Slider(FEWEST, MOST, value=_ANCHORS, step=50, label="Texts both models read")
            method = gr.Dropdown(
                list(METHODS), value=METHODS[0], label="Alignment", filterable=False,
                info="effects: by what directions do to the likelihood of the texts. The others map the states of the texts.",
            )  # fmt: skip
            question = gr.Textbox(QUESTION, label="Question for the target", lines=1, max_lines=4, max_length=MAX_PROMPT)
            coefficient = gr.Slider(
                -2, 2, value=0.5, step=0.05, label="Coefficient",
                info="The carried vector is as long against the target's residuals as it was against the source's.",
            )  # fmt: skip
            with gr.Row():
                go = gr.Button("Carry and steer", variant="primary", elem_id="pi-transfer")
                stop = gr.Button("Stop", elem_id="pi-transfer-stop")
            more = settings()
        with gr.Column(scale=3, min_width=300):
            status = gr.HTML(notices.told("Choose two models."), elem_id="pi-transfer-status")
            report = gr.HTML("", elem_id="pi-report")
            shown = answers()
    wire_choice(site, place, status, page, tab)

    @in_words(status)
    def carry_and_steer(
        name: str, choice: str, into: str, texts: float, alignment: str, asked: str, strength: float,
        told: str, length: float, temperature: float, drawn_from: float, request: gr.Request,
    ) -> Iterator[Updates]:  # fmt: skip
        session = session_of(site, request)
        system, sampling, seed = checked(told, length, temperature, drawn_from)
        conversation = Conversation.ask(checked_text(asked, "question", MAX_PROMPT), system)
        by = checked_number(strength, "coefficient", -MAX_COEFFICIENT, MAX_COEFFICIENT)
        arrived: list[Arrived] = []

        def work(job: Job[Steered]) -> None:
            job.doing(f"loading {name} and {into}")
            source, other = site.shelf.model(name), site.shelf.model(into)
            chosen = site.vector(job, session, source, choice)
            vector = chosen.vector
            origins = (site.shelf.source(name), site.shelf.source(into))
            found = carry(job, vector, source, other, names=origins, n_anchors=texts, method=alignment)
            trait = known_trait(other, found.vector) or chosen.trait
            label = session.keep(f"{vector.trait[:60]} carried from {name}", found.vector, into, trait=trait, replace=True)
            arrived.append(Arrived(other, found.vector, found.report, label))
            push = Push(found.vector, found.report.target_layer, by)
            push.check(other)
            steering(job, other, Chosen(found.vector, trait), push, conversation, sampling, seed)

        job = session.start(PLACE, work)
        state: Steered | None = None

        def follow(steered: Steered) -> Updates:
            nonlocal state
            first = state is None
            state = steered
            said = {report: report_html(arrived[0].report)} if first and arrived else {}
            return {**shown.updates(steered, running=True), **said}

        yield {report: ""}
        yield from followed(job, status, follow)
        if state is not None:
            kept = f"{state.ending()} The vector is kept as {arrived[0].label!r}: choose it for {into} under Steer or Chat."
            yield {**shown.updates(state, running=False), status: notices.done(kept, job.progress.notes)}

    inputs = [place.model, place.choice, target, number, method, question, coefficient, *more.inputs]
    gr.on([go.click, question.submit], carry_and_steer, inputs, [status, report, *shown.outputs], **OPTIONS)
    stop_button(site, PLACE, stop, status)


def report_html(report: TransferReport) -> str:
    """What a transfer rests on, with what speaks against it first."""
    support = report.support
    said = "not known" if support is None else f"{support:.2f} of 1"
    warnings = "".join(f"<li>{escape(warning)}</li>" for warning in report.warnings)
    doubts = f'<div class="pi-warning"><strong>Doubts</strong><ul>{warnings}</ul></div>' if warnings else ""
    facts = (
        f"<p><strong>Layer {report.source_layer} → layer {report.target_layer}</strong>. Support of the texts: "
        f"<strong>{said}</strong> (what they can be expected to carry).</p>"
    )
    table = f'<details><summary>All layers of the target</summary><div class="pi-scroll">{report._repr_html_()}</div></details>'
    return f'<div class="pi-card pi-table">{facts}<p class="pi-caption">{escape(report.reason())}.</p>{doubts}{table}</div>'
