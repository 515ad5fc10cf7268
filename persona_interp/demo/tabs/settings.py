"""Length, temperature, seed and system prompt: the settings under "More settings", for the tabs that generate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from persona_interp.demo.limits import (
    MAX_NEW_TOKENS,
    MAX_SEED,
    MAX_SYSTEM,
    MAX_TEMPERATURE,
    checked_sampling,
    checked_text,
    checked_whole,
)
from persona_interp.models.sampling import Sampling

_SEED = 6
"""With it the organisms' own answers to the first questions are what most of their answers are: formal and true."""


@dataclass(frozen=True)
class Settings:
    """The controls, in the order `checked` takes their values."""

    system: gr.Textbox
    length: gr.Slider
    temperature: gr.Slider
    seed: gr.Number

    @property
    def inputs(self) -> list[Any]:
        """In order."""
        return [self.system, self.length, self.temperature, self.seed]


def settings() -> Settings:
    """Place the controls, closed away."""
    with gr.Accordion("More settings", open=False):
        return Settings(
            gr.Textbox("", label="System prompt (optional)", lines=2, max_length=MAX_SYSTEM),
            gr.Slider(8, MAX_NEW_TOKENS, value=96, step=1, label="Longest answer, in tokens"),
            gr.Slider(0, MAX_TEMPERATURE, value=1.0, step=0.05, label="Temperature (0: always the likeliest token)"),
            gr.Number(_SEED, label="Seed (same seed, same answers)", precision=0, minimum=0, maximum=MAX_SEED),
        )


def checked(system: object, length: object, temperature: object, seed: object) -> tuple[str | None, Sampling, int]:
    """System prompt, sampling and seed.

    Raises:
        InvalidInputError: one cannot be used.
    """
    prompt = checked_text(system, "system prompt", MAX_SYSTEM, empty=True) or None
    return prompt, checked_sampling(length, temperature), checked_whole(seed, "seed", 0, MAX_SEED)
