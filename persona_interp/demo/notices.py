"""What a tab says about itself: how far a job is, that it is done, or what went wrong, in words."""

from __future__ import annotations

from html import escape

from persona_interp.demo.jobs import Progress


def working(progress: Progress) -> str:
    """How far a job is, with a bar where that is known."""
    share = progress.share
    percent = "" if share is None else f"{100 * share:.0f} %"
    value = "" if share is None else f' value="{share:.3f}"'
    bar = f'<progress max="1" aria-label="progress"{value}></progress>'
    said = f'<span class="pi-doing">{escape(progress.doing or "starting")} … {percent}</span>'
    return f'<div class="pi-notice pi-working" role="status">{said}{bar}{_notes(progress.notes)}</div>'


def done(message: str, notes: tuple[str, ...] = ()) -> str:
    """A good end."""
    said = f'<span aria-hidden="true">✓</span> {escape(message)}'
    return f'<div class="pi-notice pi-done" role="status">{said}{_notes(notes)}</div>'


def told(message: str) -> str:
    """Something neither good nor bad."""
    return f'<div class="pi-notice" role="status">{escape(message)}</div>'


def failed(message: str) -> str:
    """An error, in words."""
    return f'<div class="pi-notice pi-failed" role="alert"><strong>That did not work.</strong> {escape(message)}</div>'


def _notes(notes: tuple[str, ...]) -> str:
    return "".join(f'<div class="pi-aside">{escape(note)}</div>' for note in notes[-4:])
