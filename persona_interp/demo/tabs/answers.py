"""Baseline and steered answers beside each other with the strips of their tokens, and the job that writes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from persona_interp.demo.comparison import Answer, Comparison, Scoring, compare
from persona_interp.demo.jobs import Job
from persona_interp.demo.tabs.handlers import Updates
from persona_interp.demo.tabs.settings import Checked
from persona_interp.demo.token_strip import card, columns, strips
from persona_interp.demo.wanted import ADD, Picked
from persona_interp.judges.registry import load_judge
from persona_interp.models.steerable import SteerableModel
from persona_interp.traits.conversation import Conversation

_OWN = "The model's own answer will stand here."
_STEERED = "And here the one it gives while the vector is added. The first time takes a minute or two on a small model."


@dataclass(frozen=True)
class Steered:
    """What there is to see of one steering."""

    model: SteerableModel
    picked: Picked
    comparison: Comparison

    def ending(self) -> str:
        """The last line, once the answers are there."""
        judge = self.comparison.judge
        return f"Scored by {judge}, 0 to 100." if judge else f"Done; {self.comparison.note or 'no score'}."

    @property
    def titles(self) -> list[str]:
        """Of baseline and steered answers."""
        vectors = [part.vector.trait for part in self.picked.pushes[0].parts]
        how = "" if (operation := self.picked.wanted.manner.operation) == ADD else f"{operation.replace('_', ' ')} "
        doses = self.picked.wanted.doses
        said = (" ".join(f"{dose:+g} {trait}" for dose, trait in zip(each, vectors, strict=True)) for each in doses)
        return ["Baseline", *(f"Steered: {how}{each}" for each in said)]


@dataclass(frozen=True)
class Answers:
    """Where they are shown."""

    baseline: gr.HTML
    steered: gr.HTML
    second: gr.HTML
    scores: gr.HTML
    strip: gr.HTML

    @property
    def outputs(self) -> list[Any]:
        """What `updates` changes."""
        return [self.baseline, self.steered, self.second, self.scores, self.strip]

    def updates(self, found: Steered, *, running: bool) -> Updates:
        """The answers as far as they are written."""
        first, comparison, titles = found.picked.first, found.comparison, found.titles
        trait = first.vector.trait
        notes = ["", *(dose(found.picked, number) for number in range(len(found.picked.pushes)))]

        def shown(number: int, answer: Answer) -> str:
            return card(answer, title=titles[number], trait=trait, note=notes[number], running=running)

        third = comparison.second
        before = found.picked.wanted.manner.operation == ADD
        return {
            self.baseline: shown(0, comparison.baseline),
            self.steered: shown(1, comparison.steered),
            self.second: gr.update(value="" if third is None else shown(2, third), visible=third is not None),
            self.scores: columns(comparison, titles=titles, trait=trait),
            self.strip: strips(comparison, titles=titles, trait=trait, layer=first.layers[0], before=before),
        }


def answers() -> Answers:
    """Place them."""
    with gr.Row(elem_classes="pi-cards"):
        baseline = gr.HTML(card(Answer(), title="Baseline", trait="", empty=_OWN), min_width=240)
        steered = gr.HTML(card(Answer(), title="Steered", trait="", empty=_STEERED), min_width=240)
        second = gr.HTML("", min_width=240, visible=False)
    return Answers(baseline, steered, second, gr.HTML(""), gr.HTML(""))


def scoring(model: SteerableModel, picked: Picked, judge: str | None) -> Scoring:
    """What answers are scored for, and by whom: a judge as `load_judge` names it, or nobody."""
    trait = picked.chosen.trait
    return Scoring(trait, None if trait is None or judge is None else lambda: load_judge(judge, model, trait=trait))


def steering(job: Job[Steered], model: SteerableModel, picked: Picked, conversation: Conversation, wanted: Checked) -> None:
    """Write all answers to one conversation, showing them as they grow, and score them."""

    def show(comparison: Comparison) -> None:
        job.show(Steered(model, picked, comparison))

    empty = Comparison(second=Answer() if len(picked.pushes) > 1 else None)
    show(empty)
    asked = [conversation] * (1 + len(picked.pushes))
    compare(job, model, picked.pushes, asked, wanted.sampling, wanted.seed, scoring(model, picked, wanted.judge), show)


def dose(picked: Picked, number: int = 0) -> str:
    """Where and how strong a push is, in words."""
    manner, parts = picked.wanted.manner, picked.pushes[number].parts
    layers = ", ".join(f"{part.vector.trait} at layer {part.layers[0]}" for part in parts)
    if manner.operation == ADD:
        said = f"Added {'at layer ' + str(parts[0].layers[0]) if len(parts) == 1 else layers}"
        ratios = " and ".join(f"{part.perturbation_ratio or 0:.2f}" for part in parts)
        return f"{said}: {ratios} of the mean residual norm ({manner.positions} tokens)."
    return f"{manner.operation.replace('_', ' ').capitalize()}: {layers} ({manner.positions} tokens)."
