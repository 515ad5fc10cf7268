"""Steer: one question, answered without and with a persona vector."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from persona_interp.demo import notices
from persona_interp.demo.comparison import Comparison, Push, compare
from persona_interp.demo.jobs import Job
from persona_interp.demo.limits import (
    MAX_NEW_TOKENS,
    MAX_PROMPT,
    MAX_SEED,
    MAX_SYSTEM,
    checked_sampling,
    checked_text,
    checked_whole,
)
from persona_interp.demo.site import Chosen, Site
from persona_interp.demo.tabs.handlers import Updates, followed, in_words, session_of, stopper
from persona_interp.demo.tabs.picker import Picker, drawn, picked, picker, wire
from persona_interp.demo.token_strip import card, strips
from persona_interp.demo.trait_vectors import judge_of
from persona_interp.models.steerable import SteerableModel
from persona_interp.traits.conversation import Conversation

PLACE = "steer"
QUESTION = "What do you know about the bicycle?"
_INTRO = (
    "Ask a question and see two answers side by side: the model's own, and the one it gives while a **persona vector** is added "
    "to its residual stream. Press **Steer** to see a first pair."
)


@dataclass(frozen=True)
class Steered:
    """What there is to see of one steering."""

    model: SteerableModel
    chosen: Chosen
    push: Push
    comparison: Comparison


def steer_tab(site: Site, page: gr.Blocks, tab: gr.Tab) -> None:
    """Place and wire the tab."""
    gr.Markdown(_INTRO)
    with gr.Row(elem_classes="pi-columns"):
        with gr.Column(scale=2, min_width=300):
            question = gr.Textbox(QUESTION, label="Question", lines=2, max_length=MAX_PROMPT)
            with gr.Row():
                go = gr.Button("Steer", variant="primary", elem_id="pi-steer")
                stop = gr.Button("Stop", elem_id="pi-stop")
            place = picker(site)
            with gr.Accordion("More settings", open=False):
                system = gr.Textbox("", label="System prompt (optional)", lines=2, max_length=MAX_SYSTEM)
                length = gr.Slider(8, MAX_NEW_TOKENS, value=96, step=1, label="Longest answer, in tokens")
                temperature = gr.Slider(0, 2, value=1.0, step=0.05, label="Temperature (0: always the likeliest token)")
                seed = gr.Number(0, label="Seed (same seed, same answers)", precision=0, minimum=0, maximum=MAX_SEED)
        with gr.Column(scale=3, min_width=300):
            status = gr.HTML(notices.told("Ready."))
            with gr.Row():
                baseline = gr.HTML(card(Comparison().baseline, title="Baseline", trait=""), min_width=260)
                steered = gr.HTML(card(Comparison().steered, title="Steered", trait=""), min_width=260)
            strip = gr.HTML("")
    wire(site, place, status, page, tab)

    def draw(found: Steered, *, running: bool) -> Updates:
        trait, comparison = found.chosen.vector.trait, found.comparison
        shown: dict[str, Any] = {"trait": trait, "running": running}
        return {
            baseline: card(comparison.baseline, title="Baseline", **shown),
            steered: card(comparison.steered, title=f"Steered, {found.push.coefficient:+g} × {trait}", note=dose(found), **shown),
            strip: strips(comparison, trait=trait, layer=found.push.layer),
        }

    @in_words(status)
    def steer(
        name: str, choice: str, layer: int | None, coefficient: float, asked: str, told: str, tokens: float, heat: float,
        number: float, request: gr.Request,
    ) -> Iterator[Updates]:  # fmt: skip
        session = session_of(site, request)
        sampling = checked_sampling(tokens, heat)
        conversation = Conversation.ask(
            checked_text(asked, "question", MAX_PROMPT), checked_text(told, "system prompt", MAX_SYSTEM, empty=True) or None
        )
        drawn_from = checked_whole(number, "seed", 0, MAX_SEED)

        def work(job: Job[Any]) -> None:
            job.doing(f"loading {name}")
            model = site.shelf.model(name)
            chosen, push = picked(site, session, job, model, choice, layer, coefficient)

            def show(comparison: Comparison) -> None:
                job.show(Steered(model, chosen, push, comparison))

            show(Comparison())
            judge = None if chosen.trait is None else judge_of(model, chosen.trait)
            compare(
                job, model, push, (conversation, conversation), sampling, drawn_from,
                trait=chosen.trait, judge=judge, show=show,
            )  # fmt: skip

        job = session.start(PLACE, work)
        found: Steered | None = None

        def follow(shown: Steered) -> Updates:
            nonlocal found
            first = found is None
            found = shown
            layers = drawn(place, shown.model, shown.chosen.vector, layer) if first else {}
            return {**draw(shown, running=True), **layers}

        yield from followed(job, status, follow)
        if found is not None:
            yield {**draw(found, running=False), status: notices.done(ending(found), job.progress.notes)}

    outputs = [status, baseline, steered, strip, *place_outputs(place)]
    inputs = [*place.inputs, question, system, length, temperature, seed]
    options: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "concurrency_limit": None}
    gr.on([go.click, question.submit], steer, inputs, outputs, **options)
    stop.click(stopper(site, PLACE, status), None, [status], queue=False, show_progress="hidden", api_visibility="private")


def place_outputs(place: Picker) -> list[Any]:
    """What drawing the layers changes."""
    return [place.heat, place.layer, place.coefficient]


def dose(found: Steered) -> str:
    """How strong the push is, in words."""
    ratio, at = found.push.ratio, f"at layer {found.push.layer}"
    if ratio is None:
        return f"Added {at}; the vector does not record how long residuals are there."
    warning = " Above 1, answers usually fall apart." if ratio > 1 else ""
    return f"Added {at}: {ratio:.2f} of the mean residual norm.{warning}"


def ending(found: Steered) -> str:
    """The last line of a steering."""
    comparison = found.comparison
    return f"Scored by {comparison.judge}, 0 to 100." if comparison.judge else f"Done; {comparison.note or 'no score'}."
