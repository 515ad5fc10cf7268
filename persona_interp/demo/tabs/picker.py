"""Model, trait or vector, layer and coefficient: the controls that say what is steered with, for the tabs that steer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import gradio as gr

from persona_interp.demo.jobs import Job
from persona_interp.demo.layer_heat import SCRIPT, LayerHeat, best_layer
from persona_interp.demo.limits import MAX_COEFFICIENT, checked_number, checked_whole
from persona_interp.demo.sessions import Held, Session
from persona_interp.demo.site import TRAIT, Site
from persona_interp.demo.tabs.handlers import OPTIONS, Updates, in_words, session_of
from persona_interp.models.steerable import SteerableModel
from persona_interp.vectors.persona_vector import PersonaVector
from persona_interp.vectors.steering import Steering

_DEFAULT = 0.5
_LIMIT = 2.0
_LARGEST_RATIO = 1.5
"""The slider reaches this perturbation ratio at least; answers fall apart well before it."""


@dataclass(frozen=True)
class Choice:
    """Which model, and which trait or vector of it."""

    model: gr.Dropdown
    choice: gr.Dropdown


@dataclass(frozen=True)
class Picker(Choice):
    """That, and how it is steered with.

    Attributes:
        heat: the layers.
        layer: the layer pressed; None: the best one.
        coefficient: multiplies the vector.
    """

    heat: gr.HTML
    layer: gr.State
    coefficient: gr.Slider

    @property
    def inputs(self) -> list[Any]:
        """In the order `picked` takes their values."""
        return [self.model, self.choice, self.layer, self.coefficient]


def choice_controls(site: Site, *, model: str = "Model", first: int = 0) -> Choice:
    """Place the controls for model and vector.

    Args:
        site: says what there is.
        model: label of the first.
        first: which model is chosen at first.
    """
    names = site.shelf.names
    name = names[min(first, len(names) - 1)]
    traits = site.choices(None, name)
    return Choice(
        gr.Dropdown(names, value=name, label=model, interactive=True, filterable=False),
        gr.Dropdown(
            traits, value=traits[0][1], label="Trait or vector", interactive=True, filterable=False,
            info="A trait's vector is extracted the first time it is used.",
        ),
    )  # fmt: skip


def picker(site: Site) -> Picker:
    """Place all the controls."""
    chosen = choice_controls(site)
    layer = gr.State(None)
    with gr.Group(elem_classes="pi-heat"):
        heat = gr.HTML("", js_on_load=SCRIPT, padding=True, elem_classes="pi-heat-body")
    coefficient = gr.Slider(
        -_LIMIT, _LIMIT, value=_DEFAULT, step=0.05, label="Coefficient",
        info="Multiplies the vector. Positive strengthens the trait, negative turns it round, 0 does nothing.",
    )  # fmt: skip
    return Picker(chosen.model, chosen.choice, heat, layer, coefficient)


def wire_choice(site: Site, place: Choice, status: gr.HTML, page: gr.Blocks, tab: gr.Tab) -> None:
    """Let the traits and vectors follow the model."""

    @in_words(status)
    def model_chosen(name: str, choice: str, request: gr.Request) -> Updates:
        options, kept = _options(site, session_of(site, request), name, choice)
        return {place.choice: gr.update(choices=options, value=kept)}

    for event in (place.model.input, page.load, tab.select):  # other tabs may have brought vectors and traits
        event(model_chosen, [place.model, place.choice], [place.choice, status], **OPTIONS)


def wire(site: Site, place: Picker, status: gr.HTML, page: gr.Blocks, tab: gr.Tab) -> None:
    """Let the controls follow each other: a model has traits, a vector has layers, a pressed layer is chosen."""
    told = in_words(status)

    def layers(name: str, choice: str, request: gr.Request, layer: int | None = None) -> Updates:
        model = site.shelf.model(name)
        return drawn(place, model, site.known_vector(session_of(site, request), model, choice), layer)

    @told
    def model_chosen(name: str, choice: str, request: gr.Request) -> Updates:
        options, kept = _options(site, session_of(site, request), name, choice)
        return {place.choice: gr.update(choices=options, value=kept), **layers(name, kept, request)}

    @told
    def choice_made(name: str, choice: str, request: gr.Request) -> Updates:
        return layers(name, choice, request)

    @told
    def tab_opened(name: str, choice: str, layer: int | None, request: gr.Request) -> Updates:
        options, kept = _options(site, session_of(site, request), name, choice)
        return {place.choice: gr.update(choices=options, value=kept), **layers(name, kept, request, layer)}

    @told
    def layer_pressed(name: str, choice: str, event: gr.EventData, request: gr.Request) -> Updates:
        model = site.shelf.model(name)
        layer = checked_whole(event._data.get("layer"), "layer", model.first_steerable_layer, model.n_layers - 1)
        return layers(name, choice, request, layer)

    outputs = [place.choice, *layer_outputs(place), status]
    seen = [place.model, place.choice]
    place.model.input(model_chosen, seen, outputs, **OPTIONS)
    place.choice.input(choice_made, seen, outputs, **OPTIONS)
    place.heat.choose(layer_pressed, seen, outputs, **OPTIONS)
    for event in (page.load, tab.select):  # other tabs may have brought vectors and traits
        event(tab_opened, [*seen, place.layer], outputs, **OPTIONS)


def _options(site: Site, session: Session, name: str, choice: str) -> tuple[list[tuple[str, str]], str]:
    """What a model offers, and the choice made before if that is among it."""
    options = site.choices(session, name)
    values = [value for _, value in options]
    return options, choice if choice in values else next(value for value in values if value.startswith(TRAIT))


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
    ratio = vector.listed("norm_ratio")[vector.row(layer)] if layer in vector.layers else None
    return max(_LIMIT, math.ceil(_LARGEST_RATIO / ratio)) if ratio else 20.0


def picked(
    site: Site, session: Session, job: Job[Any], model: SteerableModel, choice: object, layer: object, coefficient: object
) -> tuple[Held, Steering]:
    """What was chosen, extracted if need be: the vector with its trait, and what is added.

    Raises:
        InvalidInputError: a value that cannot be used.
        PersonaInterpError: as `Site.vector`.
    """
    number = checked_number(coefficient, "coefficient", -MAX_COEFFICIENT, MAX_COEFFICIENT)
    wanted = None if layer is None else checked_whole(layer, "layer", 0, model.n_layers - 1)
    chosen = site.vector(job, session, model, choice)
    at = best_layer(model, chosen.vector) if wanted is None else wanted
    push = Steering(chosen.vector, (at,), number)
    push.check(model)
    return chosen, push
