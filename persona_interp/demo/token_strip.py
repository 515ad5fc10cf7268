"""The answers as rows of tokens, each in the colour of its projection and with the number under it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from html import escape

import numpy as np
from plotly.colors import sample_colorscale

from persona_interp.demo.comparison import Answer, Comparison
from persona_interp.demo.explained import TOKENS, what
from persona_interp.demo.limits import MAX_SAID
from persona_interp.plotting.palette import diverging

_FEWEST = 4
"""Values from which colours begin: a scale of fewer would jump."""
_SHADES = 101


def scale(answers: Sequence[Answer]) -> tuple[float, float] | None:
    """The value that is white and how far from it colours reach, for several answers together.

    Halfway between their medians, so that a long answer does not outweigh a short one, and the 98th percentile of distances.
    """
    values = [value for answer in answers for value in answer.values]
    if len(values) < _FEWEST:
        return None
    centre = float(np.mean([np.median(answer.values) for answer in answers if answer.values]))
    return centre, float(np.percentile(np.abs(np.array(values) - centre), 98)) or 1.0


def colour(value: float, centre: float, reach: float) -> str:
    """Blue below the centre, vermilion above it, white at it."""
    share = max(-1.0, min(1.0, (value - centre) / reach))
    return _shades()[round((share + 1) / 2 * (_SHADES - 1))]


@cache
def _shades() -> list[str]:
    return [str(shade) for shade in sample_colorscale(diverging(), [place / (_SHADES - 1) for place in range(_SHADES)])]


def scores_line(answer: Answer, trait: str, *, judges: bool = False) -> str:
    """Both scores in words, and with `judges` those of each where there are several; empty where there are none."""
    parts = []
    if answer.trait is not None:
        parts.append(f"<strong>{escape(trait)} {answer.trait:.0f}</strong>")
    if answer.coherence is not None:
        parts.append(f"coherence {answer.coherence:.0f}")
    for part in answer.parts if judges else ():
        value = f"{part.score:.0f}" if part.score is not None else f'<abbr title="{escape(part.why)}">no score</abbr>'
        parts.append(f"{escape(part.name)} {value}")
    return f'<span class="pi-scores">{" · ".join(parts)}</span>' if parts else ""


def card(answer: Answer, *, title: str, trait: str, note: str = "", running: bool = False, empty: str = "No answer yet.") -> str:
    """An answer with its heading and scores. What a model wrote is never read as HTML."""
    said = answer.text[:MAX_SAID]
    state = ""
    if running and answer.finished is None:
        state = "writing …" if said else "waiting …"
    elif answer.finished is False:
        state = "cut off at the length limit"
    body = f'<div class="pi-text">{escape(said)}</div>' if said else f'<div class="pi-text pi-empty">{escape(empty)}</div>'
    aside = f'<div class="pi-aside">{escape(note)}</div>' if note else ""
    heading = f'<div class="pi-head"><h3>{escape(title)}</h3>{scores_line(answer, trait)}</div>'
    return f'<div class="pi-card">{heading}{body}<div class="pi-state">{state}</div>{aside}</div>'


def strips(found: Comparison, *, titles: Sequence[str], trait: str, layer: int, before: bool = True) -> str:
    """The answers token by token, in one scale; empty before there is anything.

    Args:
        found: the answers.
        titles: one an answer.
        trait: of the vector.
        layer: where its projection is read.
        before: whether what is added there is taken off, else it is what is there after the operation.
    """
    if not any(answer.tokens for answer in found.answers):
        return ""
    scaled = scale(found.answers)
    rows = "".join(
        f'<div class="pi-strip"><h4>{escape(name)}</h4><div class="pi-tokens" role="list">{_tokens(answer, scaled)}</div></div>'
        for name, answer in zip(titles, found.answers, strict=True)
    )
    when = "before anything is added there" if before else "as the operation leaves them"
    caption = (
        f"Each token of the answers over its projection onto the {escape(trait)} direction at layer {layer}, in activation "
        f"units, {when}. Vermilion lies above the middle between the answers, blue below."
    )
    return f'<div class="pi-strips"><p class="pi-caption">{caption}</p>{what(TOKENS)}{rows}</div>'


def columns(found: Comparison, *, titles: Sequence[str], trait: str) -> str:
    """What several judges or measures gave, a column each; empty where one judged."""
    named = list(dict.fromkeys(part.name for answer in found.answers for part in answer.parts))
    if not named:
        return ""
    head = "".join(f"<th>{escape(name)}</th>" for name in ("", trait, "coherence", *named))
    rows = ""
    for title, answer in zip(titles, found.answers, strict=True):
        parts = {part.name: part for part in answer.parts}
        cells = [_cell(answer.trait), _cell(answer.coherence)]
        cells += [_cell(parts[name].score, parts[name].why) if name in parts else _cell(None) for name in named]
        rows += f"<tr><th>{escape(title)}</th>{''.join(cells)}</tr>"
    caption = "Scores by each judge and measure, 0 to 100; the first judge that gives a score decides the first two columns."
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    scrolled = f'<div class="pi-table pi-scroll" tabindex="0" role="region" aria-label="Scores">{table}</div>'
    return f'{scrolled}<p class="pi-caption">{caption}</p>'


def _cell(score: float | None, why: str = "") -> str:
    if score is not None:
        return f"<td>{score:.0f}</td>"
    return f'<td><abbr title="{escape(why)}">–</abbr></td>' if why else "<td>–</td>"


def _tokens(answer: Answer, scaled: tuple[float, float] | None) -> str:
    parts: list[str] = []
    known = len(answer.values)
    for place, token in enumerate(answer.tokens):
        shown = escape(token.replace("\n", "⏎").replace("\t", "⇥")).replace(" ", "\u00a0") or "\u00a0"
        if place < known:
            value = answer.values[place]
            style = f' style="background:{colour(value, *scaled)}"' if scaled else ""
            parts.append(f'<span class="pi-token" role="listitem"><span{style}>{shown}</span><small>{value:.1f}</small></span>')
        else:
            parts.append(f'<span class="pi-token" role="listitem"><span>{shown}</span><small>–</small></span>')
        if token.endswith("\n"):
            parts.append("<br>")
    return "".join(parts)
