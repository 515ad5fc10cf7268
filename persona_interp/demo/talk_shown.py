"""A conversation as HTML: what was asked, and under it both answers with their scores."""

from __future__ import annotations

from html import escape

from persona_interp.demo.comparison import Answer
from persona_interp.demo.limits import MAX_SAID
from persona_interp.demo.talk import Talk
from persona_interp.demo.token_strip import scores_line


def talk_html(talk: Talk, trait: str, *, running: bool = False) -> str:
    """All turns, the newest last. What users and models wrote is never read as HTML."""
    if not talk.turns:
        return '<div class="pi-card pi-empty">No turn yet. Your messages and both answers will stand here.</div>'
    last = len(talk.turns) - 1
    turns = "".join(
        f'<li><div class="pi-said"><strong>You</strong> <span>{escape(turn.question)}</span></div>'
        f"{_answer('Steered', turn.answers.steered, trait, running and number == last)}"
        f"<details><summary>Unsteered</summary>"
        f"{_answer('', turn.answers.baseline, trait, running and number == last)}</details></li>"
        for number, turn in enumerate(talk.turns)
    )
    return f'<ol class="pi-talk" aria-label="Conversation">{turns}</ol>'


def _answer(name: str, answer: Answer, trait: str, running: bool) -> str:
    waiting = "…" if running else ""
    heading = f"<strong>{name}</strong> " if name else ""
    said = escape(answer.text[:MAX_SAID]) or waiting or "(nothing)"
    cut = ' <span class="pi-aside">(cut off at the length limit)</span>' if answer.finished is False else ""
    return f'<div class="pi-reply">{heading}{scores_line(answer, trait, judges=True)}<div class="pi-text">{said}{cut}</div></div>'
