"""Operation, positions and a second dose: the controls under "How it is steered"."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from persona_interp.demo.limits import MAX_DOSE
from persona_interp.demo.tabs.handlers import OPTIONS, Updates
from persona_interp.demo.wanted import ADD, POSITIONS, Manner
from persona_interp.interventions.operations import OPERATIONS

_SHARE = 1.0
_WHERE = (
    "all: everything the model reads and writes; prompt: what it was asked; response: what it writes, from the last token of the "
    "prompt on."
)


@dataclass(frozen=True)
class MannerControls:
    """The controls, in the order `checked` takes their values."""

    operation: gr.Dropdown
    value: gr.Number
    positions: gr.Radio
    compares: gr.Checkbox
    second: gr.Slider

    @property
    def inputs(self) -> list[Any]:
        """In order."""
        return [self.operation, self.value, self.positions, self.compares, self.second]

    def checked(self, values: Sequence[Any]) -> tuple[Manner, float | None]:
        """What they say: the manner, and a second dose if one is asked for.

        Raises:
            InvalidInputError: a value that cannot be used.
        """
        operation, value, positions, compares, second = values
        return Manner.checked(operation, value, positions), second if compares else None

    def wire(self, doses: Sequence[gr.Slider]) -> None:
        """Let value and doses follow the operation: some take a projection, some a share from 0 to 1."""
        outputs: list[Any] = [self.operation, self.value, self.second, *doses]

        def chosen(operation: str, *values: float) -> Updates:
            manner = Manner.checked(operation, 0.0, POSITIONS[0])
            needed = manner.kind.needs()
            low = 0.0 if manner.takes_share else -MAX_DOSE
            sliders = zip([self.second, *doses], values, strict=True)
            moved = {
                slider: gr.update(minimum=low, value=_SHARE if manner.takes_share and value < 0 else value)
                for slider, value in sliders
            }
            label = f"{needed[0].capitalize()}, in the units under the tokens" if needed else ""
            return {
                self.operation: gr.update(info=_said(operation)),
                self.value: gr.update(visible=bool(needed), label=label or "Value"),
                **moved,
            }

        self.operation.change(chosen, [self.operation, self.second, *doses], outputs, **{**OPTIONS, "queue": False})
        self.compares.change(
            lambda on: gr.update(visible=bool(on)), [self.compares], [self.second], **{**OPTIONS, "queue": False}
        )


def manner_controls(*, compares: bool) -> MannerControls:
    """Place them, closed away; a second dose only where `compares`."""
    with gr.Accordion("How it is steered", open=False):
        return MannerControls(
            gr.Dropdown(
                [(kind.replace("_", " "), kind) for kind in OPERATIONS], value=ADD, label="Operation", filterable=False,
                interactive=True, info=_said(ADD),
            ),
            gr.Number(0.0, label="Value", visible=False),
            gr.Radio(list(POSITIONS), value=POSITIONS[0], label="Tokens that are steered", info=_WHERE),
            gr.Checkbox(False, label="Compare with a second dose", visible=compares),
            gr.Slider(-MAX_DOSE, MAX_DOSE, value=-0.3, step=0.05, label="Second dose", visible=False),
        )  # fmt: skip


def _said(operation: str) -> str:
    """The first sentence of the operation's own words; of those that take one, that the dose is a share."""
    kind = OPERATIONS[operation]
    words = (inspect.getdoc(kind) or "").split("\n\n")[0].replace("``", "").replace("\n", " ")
    return f"{words} The dose is how much of that is done, 0 to 1." if kind.coefficient_range is not None else words
