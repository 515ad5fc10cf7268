"""Length, temperature, seed, system prompt and judges: the settings under "More settings", for the tabs that generate."""

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
from persona_interp.errors import UnknownNameError
from persona_interp.judges.kinds import JUDGES
from persona_interp.judges.measure import MEASURES
from persona_interp.models.sampling import Sampling

AUTO, _MEASURE = "auto", "measure"
_SEED = 6
"""With it the organisms' own answers to the first questions are what most of their answers are: formal and true."""


@dataclass(frozen=True)
class Settings:
    """The controls, in the order `checked` takes their values."""

    system: gr.Textbox
    length: gr.Slider
    temperature: gr.Slider
    seed: gr.Number
    judges: gr.Dropdown

    @property
    def inputs(self) -> list[Any]:
        """In order."""
        return [self.system, self.length, self.temperature, self.seed, self.judges]


def settings() -> Settings:
    """Place the controls, closed away."""
    with gr.Accordion("More settings", open=False):
        return Settings(
            gr.Textbox("", label="System prompt (optional)", lines=2, max_length=MAX_SYSTEM),
            gr.Slider(8, MAX_NEW_TOKENS, value=96, step=1, label="Longest answer, in tokens"),
            gr.Slider(0, MAX_TEMPERATURE, value=0.7, step=0.05, label="Temperature (0: always the likeliest token)"),
            gr.Number(_SEED, label="Seed (same seed, same answers)", precision=0, minimum=0, maximum=MAX_SEED),
            gr.Dropdown(
                judges_offered(), value=[AUTO], multiselect=True, label="Judges (several give a column each)", filterable=False,
                info="The first that gives a score decides. auto: exact for organisms, else what the model is able to.",
            ),
        )  # fmt: skip


@dataclass(frozen=True)
class Checked:
    """What they say.

    Attributes:
        system: prompt; None: none.
        sampling: how answers are drawn.
        seed: of the answers.
        judge: as `load_judge` takes it; None: nobody.
    """

    system: str | None
    sampling: Sampling
    seed: int
    judge: str | None


def checked(system: object, length: object, temperature: object, seed: object, judges: object) -> Checked:
    """What stands in the controls.

    Raises:
        InvalidInputError: one cannot be used.
    """
    prompt = checked_text(system, "system prompt", MAX_SYSTEM, empty=True) or None
    named: list[object] = judges if isinstance(judges, list) else []
    if wrong := [each for each in named if each not in judges_offered()]:
        raise UnknownNameError(f"there is no judge {wrong[0]!r} here: choose from {', '.join(judges_offered())}")
    judge = "+".join(map(str, dict.fromkeys(named))) or None
    return Checked(prompt, checked_sampling(length, temperature), checked_whole(seed, "seed", 0, MAX_SEED), judge)


def judges_offered() -> list[str]:
    """Judges that load nothing a visitor could name: those of the model itself, and what can be counted in a text."""
    own = [name for name, kind in JUDGES.items() if kind.help and ":" not in kind.form.partition("[")[0]]
    return [*own, *(f"{_MEASURE}:{name}" for name in MEASURES)]
