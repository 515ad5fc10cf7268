"""Baseline and steered answer beside each other with the strips of their tokens, and the job that writes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from persona_interp.demo.comparison import Comparison, compare
from persona_interp.demo.jobs import Job
from persona_interp.demo.sessions import Held
from persona_interp.demo.tabs.handlers import Updates
from persona_interp.demo.token_strip import card, strips
from persona_interp.demo.trait_vectors import judge_of
from persona_interp.models.sampling import Sampling
from persona_interp.models.steerable import SteerableModel
from persona_interp.traits.conversation import Conversation
from persona_interp.vectors.steering import Steering


@dataclass(frozen=True)
class Steered:
    """What there is to see of one steering."""

    model: SteerableModel
    chosen: Held
    push: Steering
    comparison: Comparison

    def ending(self) -> str:
        """The last line, once the answers are there."""
        judge = self.comparison.judge
        return f"Scored by {judge}, 0 to 100." if judge else f"Done; {self.comparison.note or 'no score'}."


@dataclass(frozen=True)
class Answers:
    """Where both are shown."""

    baseline: gr.HTML
    steered: gr.HTML
    strip: gr.HTML

    @property
    def outputs(self) -> list[Any]:
        """What `updates` changes."""
        return [self.baseline, self.steered, self.strip]

    def updates(self, found: Steered, *, running: bool) -> Updates:
        """The answers as far as they are written."""
        trait, comparison, push = found.chosen.vector.trait, found.comparison, found.push
        heading = f"Steered, {push.coefficient:+g} × {trait}"
        return {
            self.baseline: card(comparison.baseline, title="Baseline", trait=trait, running=running),
            self.steered: card(comparison.steered, title=heading, trait=trait, note=dose(push), running=running),
            self.strip: strips(comparison, trait=trait, layer=push.layers[0]),
        }


def answers() -> Answers:
    """Place them."""
    with gr.Row(elem_classes="pi-cards"):
        baseline = gr.HTML(card(Comparison().baseline, title="Baseline", trait=""), min_width=240)
        steered = gr.HTML(card(Comparison().steered, title="Steered", trait=""), min_width=240)
    return Answers(baseline, steered, gr.HTML(""))


def steering(
    job: Job[Steered],
    model: SteerableModel,
    chosen: Held,
    push: Steering,
    conversation: Conversation,
    sampling: Sampling,
    seed: int,
) -> None:
    """Write both answers to one conversation, showing them as they grow, and score them."""

    def show(comparison: Comparison) -> None:
        job.show(Steered(model, chosen, push, comparison))

    show(Comparison())
    judge = None if chosen.trait is None else judge_of(model, chosen.trait)
    compare(job, model, push, (conversation, conversation), sampling, seed, trait=chosen.trait, judge=judge, show=show)


def dose(push: Steering) -> str:
    """How strong a push is, in words."""
    ratio, at = push.perturbation_ratio, f"at layer {push.layers[0]}"
    if ratio is None:
        return f"Added {at}; the vector does not record how long residuals are there."
    warning = " Above 1, answers usually fall apart." if ratio > 1 else ""
    return f"Added {at}: {ratio:.2f} of the mean residual norm.{warning}"
