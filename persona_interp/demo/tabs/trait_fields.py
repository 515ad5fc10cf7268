"""The fields of a trait: placed in three steps, read as a form, filled in with a trait."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from persona_interp.demo.limits import MAX_DESCRIPTION
from persona_interp.demo.tabs.handlers import Updates
from persona_interp.demo.trait_form import TraitForm
from persona_interp.traits.trait import N_PAIRS, Trait


class TraitFields:
    """Text boxes for everything a trait has."""

    name: gr.Textbox
    description: gr.Textbox
    extraction: gr.Textbox
    evaluation: gr.Textbox
    rubric: gr.Textbox

    def __init__(self) -> None:
        self.positives: list[gr.Textbox] = []
        self.negatives: list[gr.Textbox] = []

    def place_name(self) -> None:
        """The name, in whatever row it is to stand."""
        self.name = gr.Textbox("", label="Name", max_length=100, placeholder="clownish", elem_id="pi-trait-name", min_width=200)

    def place_description(self) -> None:
        """The description."""
        self.description = gr.Textbox(
            "", label="Description, in a sentence or two", lines=2, max_length=MAX_DESCRIPTION, elem_id="pi-trait-description",
            placeholder="Goofy and playful: says things in a clownish way rather than a serious one.",
        )  # fmt: skip

    def place_texts(self) -> None:
        """Prompts, questions and rubric."""
        for number in range(1, N_PAIRS + 1):
            with gr.Row():
                for side, boxes in (("for the trait", self.positives), ("for its opposite", self.negatives)):
                    boxes.append(gr.Textbox("", label=f"System prompt {number} {side}", max_lines=6, min_width=240))
        with gr.Row():
            several: dict[str, Any] = {"lines": 4, "max_lines": 8, "min_width": 240}
            self.extraction = gr.Textbox("", label="Questions for extraction, one a line", **several)
            self.evaluation = gr.Textbox("", label="Questions for evaluation, one a line (optional)", **several)
        with gr.Accordion("Rubric for a judge (optional)", open=False):
            self.rubric = gr.Textbox(
                "", label="Rubric", lines=6, max_lines=16,
                info="With {question} and {answer} in it. Empty: one is made from the description.",
            )  # fmt: skip

    @property
    def all(self) -> list[gr.Textbox]:
        """In the order `form` takes their values."""
        return [
            self.name, self.description, *self.positives, *self.negatives, self.extraction, self.evaluation, self.rubric,
        ]  # fmt: skip

    def form(self, values: Sequence[Any]) -> TraitForm:
        """What stands in them."""
        name, description, *texts = values
        prompts, (extraction, evaluation, rubric) = texts[: 2 * N_PAIRS], texts[2 * N_PAIRS :]
        positives, negatives = tuple(prompts[:N_PAIRS]), tuple(prompts[N_PAIRS:])
        return TraitForm(name, description, positives, negatives, extraction, evaluation, rubric)

    def filled(self, trait: Trait) -> Updates:
        """A trait put into them; its name stays as typed."""
        form = TraitForm.of(trait)
        texts = [form.description, *form.positives, *form.negatives, form.extraction, form.evaluation, form.rubric]
        return dict(zip(self.all[1:], texts, strict=True))
