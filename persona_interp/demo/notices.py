"""What a tab says about itself: how far a job is, that it is done, or what went wrong, in words."""

from __future__ import annotations

from html import escape
from itertools import count

from persona_interp.demo.jobs import Progress

_NUMBERS = count(1)
"""Each notice has one, so that the same words said again are another notice, to the page and to a screen reader."""


def _notice(kind: str, role: str, content: str) -> str:
    return f'<div class="pi-notice {kind}" role="{role}" data-notice="{next(_NUMBERS)}">{content}</div>'


def working(progress: Progress) -> str:
    """How far a job is, with a bar where that is known."""
    share = progress.share
    percent = "" if share is None else f"{100 * share:.0f} %"
    value = "" if share is None else f' value="{share:.3f}"'
    bar = f'<progress max="1" aria-label="progress"{value}></progress>'
    left = f", {progress.left}" if progress.left else ""
    said = f'<span class="pi-doing">{escape(progress.doing or "starting")} … {percent}{escape(left)}</span>'
    return _notice("pi-working", "status", f"{said}{bar}{_notes(progress.notes)}")


def done(message: str, notes: tuple[str, ...] = ()) -> str:
    """A good end."""
    said = f'<span aria-hidden="true">✓</span> {escape(message)}'
    return _notice("pi-done", "status", f"{said}{_notes(notes)}")


def silent() -> str:
    """Nothing to say: there is nothing to be seen, and yet the next notice is another one."""
    return f'<div data-notice="{next(_NUMBERS)}" hidden></div>'


def told(message: str) -> str:
    """Something neither good nor bad."""
    return _notice("pi-told", "status", escape(message))


def failed(message: str) -> str:
    """An error, in words."""
    return _notice("pi-failed", "alert", f"<strong>That did not work.</strong> {escape(message)}")


def _notes(notes: tuple[str, ...]) -> str:
    return "".join(f'<div class="pi-aside">{escape(note)}</div>' for note in notes[-4:])
