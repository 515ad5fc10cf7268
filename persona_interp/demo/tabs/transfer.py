"""Transfer: a vector of one model carried into another, what that rests on, and what it does there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr
from gradio.components import Component

from persona_interp.alignment.methods import EFFECTS, alignment_names
from persona_interp.demo import notices
from persona_interp.demo.carrying import FEWEST, MOST, carry
from persona_interp.demo.explained import CARRIED, what
from persona_interp.demo.jobs import Job
from persona_interp.demo.limits import MAX_DOSE, MAX_PROMPT, checked_number, checked_text
from persona_interp.demo.site import VECTOR, Site
from persona_interp.demo.tabs.answers import Steered, answers, steering
from persona_interp.demo.tabs.handlers import OPTIONS, Updates, followed, in_words, session_of, stop_button, towards
from persona_interp.demo.tabs.picker import choice_controls, dose_slider, wire_choice
from persona_interp.demo.tabs.settings import checked, settings
from persona_interp.demo.tabs.steer import QUESTION
from persona_interp.demo.trait_vectors import known_trait
from persona_interp.demo.wanted import Dial, Wanted, picked
from persona_interp.traits.conversation import Conversation
from persona_interp.transfers.report import TransferReport

PLACE = "transfer"
_ANCHORS = 600
_INTRO = (
    "Carry a vector from one model into **another family** by unlabelled texts that both read, see what that rests on, and steer "
    "the target with it beside its own answer."
)


@dataclass(frozen=True)
class Arrived:
    """How a vector came into the target, and what the session holds it under."""

    report: TransferReport
    label: str


class TransferTab:
    """The tab, placed and wired when it is made."""

    def __init__(self, site: Site, page: gr.Blocks, tab: gr.Tab) -> None:
        self.site = site
        gr.Markdown(_INTRO)
        with gr.Row(elem_classes="pi-columns"):
            with gr.Column(scale=2, min_width=300):
                inputs = self.controls()
                with gr.Row():
                    go = gr.Button("Carry and steer", variant="primary", elem_id="pi-transfer", min_width=150)
                    stop = gr.Button("Stop", elem_id="pi-transfer-stop", min_width=80)
                inputs += settings().inputs
            with gr.Column(scale=3, min_width=300):
                self.status = gr.HTML(notices.silent(), elem_id="pi-transfer-status")
                self.report = gr.HTML("", elem_id="pi-report")
                self.answers = answers()
        wire_choice(site, self.place, self.status, page, tab)
        run = in_words(self.status)(self.carry_and_steer)
        outputs = [self.status, self.report, *self.answers.outputs]
        gr.on([go.click, self.question.submit], run, inputs, outputs, js=towards("pi-transfer-status"), **OPTIONS)
        stop_button(site, (PLACE,), stop, self.status)

    def controls(self) -> list[Component]:
        """Place what says from where to where and how; in the order `carry_and_steer` takes their values."""
        names = self.site.shelf.names
        self.place = choice_controls(self.site, model="From model")
        target = gr.Dropdown(self.site.shelf.choices, value=names[min(1, len(names) - 1)], label="Into model", filterable=False)
        number = gr.Slider(FEWEST, MOST, value=_ANCHORS, step=50, label="Texts both models read")
        method = gr.Dropdown(
            list(alignment_names()), value=EFFECTS, label="Alignment", filterable=False,
            info="effects: by what directions do to the likelihood of the texts. The others map the states of the texts.",
        )  # fmt: skip
        self.question = gr.Textbox(QUESTION, label="Question for the target", max_lines=6, max_length=MAX_PROMPT)
        dose = dose_slider(info="Share of the target's residual stream; negative turns the trait round.")
        return [self.place.model, self.place.choice, target, number, method, self.question, dose]

    def carry_and_steer(self, request: gr.Request, *values: Any) -> Iterator[Updates]:
        """Carry the vector, say what that rests on, and answer a question with it."""
        site, session = self.site, session_of(self.site, request)
        name, choice, into, texts, method, asked, strength, *rest = values
        settled = checked(*rest)
        conversation = Conversation.ask(checked_text(asked, "question", MAX_PROMPT), settled.system)
        dose = checked_number(strength, "dose", -MAX_DOSE, MAX_DOSE)
        arrived: list[Arrived] = []

        def work(job: Job[Steered]) -> None:
            job.doing(f"loading {name} and {into}")
            source, target = site.shelf.model(name), site.shelf.model(into)
            chosen = site.vector(job, session, source, choice)
            origins = (site.shelf.source(name), site.shelf.source(into))
            found = carry(job, chosen.vector, source, target, names=origins, n_anchors=texts, method=method)
            trait = known_trait(target, found.vector) or chosen.trait
            called = f"{chosen.vector.trait[:60]} carried from {name}"
            arrived.append(Arrived(found.report, session.keep(called, found.vector, into, trait=trait, replace=True)))
            wanted = Wanted(into, (Dial(f"{VECTOR}{arrived[0].label}", dose, found.report.target_layer),))
            steering(job, target, picked(site, session, job, target, wanted), conversation, settled)

        yield {self.report: ""}
        job = session.start(PLACE, work)
        found = yield from followed(
            job,
            self.status,
            lambda state: self.answers.updates(state, running=True),
            once=lambda _state: {self.report: report_html(arrived[0].report)},
            cut_short=lambda state: self.answers.updates(state, running=False),
        )
        if found is not None:
            kept = f"{found.ending()} The vector is kept as {arrived[0].label!r}: choose it for {into} under Steer or Chat."
            yield {**self.answers.updates(found, running=False), self.status: notices.done(kept, job.progress.notes)}


def report_html(report: TransferReport) -> str:
    """What a transfer rests on, and what speaks against it."""
    support = report.support
    said = "not known" if support is None else f"{support:.2f} of 1"
    warnings = "".join(f"<li>{escape(warning)}</li>" for warning in report.warnings)
    doubts = f'<div class="pi-warning"><strong>Doubts</strong><ul>{warnings}</ul></div>' if warnings else ""
    facts = (
        f"<p><strong>Layer {report.source_layer} → layer {report.target_layer}</strong>. Support of the texts: "
        f"<strong>{said}</strong> (what they can be expected to carry).</p>"
    )
    table = f'<details><summary>All layers of the target</summary><div class="pi-scroll">{report._repr_html_()}</div></details>'
    reason = f'<p class="pi-caption">{escape(report.reason())}.</p>'
    return f'<div class="pi-card pi-table">{facts}{reason}{doubts}{what(CARRIED)}{table}</div>'
