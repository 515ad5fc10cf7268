"""What a figure shows on hover: numbers with their intervals, and what a model said, escaped and wrapped."""

from __future__ import annotations

import html
import textwrap

from persona_interp.measure.point import DosePoint
from persona_interp.measure.statistics import Estimate


def wrapped(text: str, width: int = 70, lines: int = 5) -> str:
    """The first lines of `text`; what a model wrote is shown as written, never read as HTML."""
    return "<br>".join(html.escape(line) for line in textwrap.wrap(text, width)[:lines])


def with_interval(estimate: Estimate, digits: int = 1) -> str:
    """``89.2 [80.1, 95.0]``; a dash where there is no value, the value alone where there is no interval."""
    if estimate.value is None:
        return "–"
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.{digits}f}"
    return f"{estimate.value:.{digits}f} [{estimate.low:.{digits}f}, {estimate.high:.{digits}f}]"


def answers(point: DosePoint) -> str:
    """How many answers a point rests on."""
    return f"{point.n} answers, {point.n_without_score} without a score"


def push(point: DosePoint) -> str:
    """How far the residual stream was pushed; empty where that is not known."""
    return "" if point.perturbation_ratio is None else f"{point.perturbation_ratio:.2f} of the mean residual norm"


def example(point: DosePoint) -> str:
    """The first answer; empty where none was kept."""
    return wrapped(point.examples[0]) if point.examples else ""


def lines(*parts: str) -> str:
    """Those of `parts` that say something, below each other."""
    return "<br>".join(part for part in parts if part)
