"""Model, trait or vector, layer and coefficient: the controls that say what is steered with, for the tabs that steer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import gradio as gr

from persona_interp.demo.comparison import Push
from persona_interp.demo.jobs import Job
from persona_interp.demo.layer_heat import SCRIPT, LayerHeat, best_layer
from persona_interp.demo.limits import checked_whole
from persona_interp.demo.sessions import Session
from persona_interp.demo.site import Chosen, Site
from persona_interp.demo.tabs.handlers import OPTIONS, Updates, in_words, session_of
from persona_interp.models.steerable import SteerableModel
from persona_interp.vectors.persona_vector import PersonaVector
from persona_interp.vectors.validation import finite_number

_DEFAULT = 0.5
_LIMIT = 2.0
_LARGEST_RATIO = 1.5
"""The slider reaches this perturbation ratio at least; answers fall apart well before it."""


@dataclass(frozen=True)
class Picker:
    """The controls.

    Attributes:
        model: name of a model of the page.
        choice: of a trait or vector.
        heat: the layers.
        layer: the layer pressed; None: the best one.
        coefficient: multiplies the vector.
    """

    model: gr.Dropdown
    choice: gr.Dropdown
    heat: gr.HTML
    layer: gr.State
    coefficient: gr.Slider

    @property
    def inputs(self) -> list[Any]:
        """In the order `picked` takes their values."""
        return [self.model, self.choice, self.layer, self.coefficient]


def picker(site: Site) -> Picker:
    """Place the controls."""
    names = site.shelf.names
    traits = site.choices(None, names[0])
    model = gr.Dropdown(names, value=names[0], label="Model", interactive=True, filterable=False)
    choice = gr.Dropdown(
        traits, value=traits[0][1], label="Trait or vector", interactive=True, filterable=False,
        info="A trait's vector is extracted the first time it is used.",
    )  # fmt: skip
    layer = gr.State(None)
    with gr.Group(elem_classes="pi-heat"):
        gr.HTML('<span class="pi-label">Layer to steer at</span>', padding=True)
        heat = gr.HTML("", js_on_load=SCRIPT, padding=True, elem_classes="pi-heat-body")
    coefficient = gr.Slider(
        -_LIMIT, _LIMIT, value=_DEFAULT, step=0.05, label="Coefficient",
        info="Multiplies the vector. Positive strengthens the trait, negative turns it round, 0 does nothing.",
    )  # fmt: skip
    return Picker(model, choice, heat, layer, coefficient)


def wire(site: Site, place: Picker, status: gr.HTML, page: gr.Blocks, tab: gr.Tab) -> None:
    """Let the controls follow each other: a model has traits, a vector has layers, a pressed layer is chosen."""
    told = in_words(status)

    @told
    def model_chosen(name: str, choice: str, request: gr.Request) -> Updates:
        session = session_of(site, request)
        model = site.shelf.model(name)
        options = site.choices(session, name)
        values = [value for _, value in options]
        kept = choice if choice in values else values[0]
        vector = site.known_vector(session, model, kept)
        return {place.choice: gr.update(choices=options, value=kept), **drawn(place, model, vector, None)}

    @told
    def choice_made(name: str, choice: str, request: gr.Request) -> Updates:
        model = site.shelf.model(name)
        return drawn(place, model, site.known_vector(session_of(site, request), model, choice), None)

    @told
    def layer_pressed(name: str, choice: str, event: gr.EventData, request: gr.Request) -> Updates:
        model = site.shelf.model(name)
        layer = checked_whole(event._data.get("layer"), "layer", model.first_steerable_layer, model.n_layers - 1)
        return drawn(place, model, site.known_vector(session_of(site, request), model, choice), layer)

    outputs = [place.choice, place.heat, place.layer, place.coefficient, status]
    seen = [place.model, place.choice]
    place.model.input(model_chosen, seen, outputs, **OPTIONS)
    place.choice.input(choice_made, seen, outputs, **OPTIONS)
    place.heat.choose(layer_pressed, seen, outputs, **OPTIONS)
    page.load(model_chosen, seen, outputs, **OPTIONS)
    tab.select(model_chosen, seen, outputs, **OPTIONS)  # other tabs may have brought vectors and traits


def drawn(place: Picker, model: SteerableModel, vector: PersonaVector | None, layer: int | None) -> Updates:
    """The layers with the one chosen, and a slider that reaches as far as makes sense there."""
    heat = LayerHeat.of(model, vector, layer)
    updates: Updates = {place.heat: heat.html(), place.layer: layer}
    if vector is not None and heat.chosen is not None:
        limit = coefficient_limit(vector, heat.chosen)
        updates[place.coefficient] = gr.update(minimum=-limit, maximum=limit)
    return updates


def layer_outputs(place: Picker) -> list[Any]:
    """What `drawn` changes."""
    return [place.heat, place.layer, place.coefficient]


def coefficient_limit(vector: PersonaVector, layer: int) -> float:
    """How far the slider reaches: to a perturbation ratio of 1.5, and to 2 at least."""
    ratio = vector.norm_ratios[vector.layers.index(layer)] if layer in vector.layers else None
    return max(_LIMIT, math.ceil(_LARGEST_RATIO / ratio)) if ratio else 20.0


def picked(
    site: Site, session: Session, job: Job[Any], model: SteerableModel, choice: object, layer: object, coefficient: object
) -> tuple[Chosen, Push]:
    """What was chosen, extracted if need be: the vector with its trait, and what is added.

    Raises:
        InvalidInputError: a value that cannot be used.
        PersonaInterpError: as `Site.vector`.
    """
    number = finite_number(coefficient, "the coefficient")  # type: ignore[arg-type]
    wanted = None if layer is None else checked_whole(layer, "layer", 0, model.n_layers - 1)
    chosen = site.vector(job, session, model, choice)
    at = best_layer(model, chosen.vector) if wanted is None else wanted
    push = Push(chosen.vector, at, number)
    push.check(model)
    return chosen, push
