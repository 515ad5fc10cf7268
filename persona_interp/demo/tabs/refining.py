"""What is said of a vector that is refined in the background, while a visitor goes on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from persona_interp.demo import notices
from persona_interp.demo.jobs import Stopped
from persona_interp.demo.site import REFINING, Site
from persona_interp.demo.tabs.handlers import OPTIONS, Updates, session_of
from persona_interp.demo.tabs.picker import Picker, drawn, layer_outputs
from persona_interp.demo.trait_vectors import usable_range
from persona_interp.errors import PersonaInterpError
from persona_interp.models.steerable import SteerableModel
from persona_interp.vectors.layer_choice import choose_layer
from persona_interp.vectors.persona_vector import PersonaVector

_EVERY = 1.5
"""Seconds between two looks."""
_MEANWHILE = "The answers are of a first vector. A better one is being made; go on meanwhile."


class Refining:
    """A line under the status, and what looks after it. It is not to be seen while nothing is refined.

    Args:
        site: whose sessions refine.
        place: the controls that show what is found.
        name: of the tab, for ids.
    """

    def __init__(self, site: Site, place: Picker, name: str) -> None:
        self.site, self.place = site, place
        self.status = gr.HTML("", visible=False, elem_id=f"pi-{name}-refining")
        self.timer = gr.Timer(_EVERY, active=False)
        outputs = [self.status, self.timer, *layer_outputs(place)]
        self.timer.tick(self.look, [place.model, place.choice, place.layer], outputs, **OPTIONS)

    @property
    def outputs(self) -> list[Any]:
        """What `begun` changes."""
        return [self.status, self.timer]

    def begun(self, session: Any, model: SteerableModel, choice: object) -> Updates:
        """Begin, if the vector can be refined."""
        if not self.site.begin_refining(session, model, choice):
            return {}
        return {self.timer: gr.Timer(active=True)}

    def look(self, name: str, choice: str, layer: int | None, request: gr.Request) -> Updates:
        """Say how far it is, and at the end draw what was found."""
        session = session_of(self.site, request)
        job = session.job(REFINING)
        if job is None:
            return {self.timer: gr.Timer(active=False)}
        if job.running and not job.stopped:
            said = notices.working(job.progress)
            return {self.status: gr.update(value=f'<p class="pi-caption">{_MEANWHILE}</p>{said}', visible=True)}
        updates: Updates = {self.timer: gr.Timer(active=False)}
        if isinstance(job.failure, Stopped) or job.stopped:
            said = notices.told("Refining was stopped. What was made is kept, and goes on with the next steering.")
        elif job.failure is not None or not isinstance(job.shown, PersonaVector):
            known = isinstance(job.failure, PersonaInterpError)
            said = notices.failed(str(job.failure) if known else f"The vector could not be refined ({job.failure!r}).")
        else:
            model = self.site.shelf.model(session.refines[0] if session.refines else name)
            said = notices.done(_found(job.shown, model.first_steerable_layer), job.progress.notes)
            if model.name == name:
                updates |= drawn(self.place, model, self.site.known_vector(session, model, choice), layer)
        return {**updates, self.status: gr.update(value=said, visible=True)}


def _found(vector: PersonaVector, first: int) -> str:
    kept: Sequence[Any] = (vector.counts.get("kept_pairs"), vector.counts.get("pairs"))
    usable = usable_range(vector)
    span = "" if usable is None else f", usable from {usable[1]:+.2f} to {usable[2]:+.2f}"
    made = f"from {kept[0]} of {kept[1]} pairs of answers" if None not in kept else "from more answers"
    layer = choose_layer(vector, first).layer
    return f"{vector.trait} is refined, {made}: best at layer {layer}{span}. Steer again to answer with it."
