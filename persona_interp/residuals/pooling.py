"""The three ways to turn the residuals of one text into a row per layer.

They are those of *Persona Vectors* (arXiv 2507.21509), which uses ``response_avg`` throughout.
"""

from __future__ import annotations

from persona_interp.errors import unknown_name
from persona_interp.interventions.graph import Capture

POOLINGS: dict[str, Capture] = {
    "response_avg": Capture(positions="answer", reduction="mean"),
    "prompt_avg": Capture(positions="prompt", reduction="mean"),
    "prompt_last": Capture(positions="prompt_last", reduction="mean"),
}
"""Name -> the node that reads it. ``response_avg`` leaves out the last answer id, which never passes through the model."""

ANSWER_NORM = Capture(positions="answer", reduction="norm")
"""Reads the mean norm of a text's single answer positions (a mean of positions is shorter). Its mean over all texts that were
read, each counting once, is the residual norm of a model: what doses are compared to, of vectors and of anchors alike."""


def pooling(name: str) -> Capture:
    """The capturing node called `name`.

    Raises:
        UnknownNameError: there is no such pooling; the message lists those there are.
    """
    if name not in POOLINGS:
        raise unknown_name("pooling", name, POOLINGS)
    return POOLINGS[name]
