"""Model, vectors, layer, doses and manner: the controls that say what is steered with, for the tabs that steer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from persona_interp.demo.dose_scale import dose_scale
from persona_interp.demo.layer_heat import SCRIPT, LayerHeat
from persona_interp.demo.limits import MAX_DOSE, MAX_TOGETHER, checked_whole
from persona_interp.demo.sessions import Session
from persona_interp.demo.site import TRAIT, Site
from persona_interp.demo.tabs.handlers import OPTIONS, Updates, in_words, session_of
from persona_interp.demo.tabs.manner import MannerControls, manner_controls
from persona_interp.demo.wanted import Dial, Wanted
from persona_interp.models.steerable import SteerableModel
from persona_interp.vectors.persona_vector import PersonaVector

DOSE = 0.3
_STEP = 0.05
_WAITING = '<p class="pi-caption">The layers appear here once the model is loaded.</p>'


@dataclass(frozen=True)
class Choice:
    """Which model, and which trait or vector of it."""

    model: gr.Dropdown
    choice: gr.Dropdown


@dataclass(frozen=True)
class MoreDial:
    """One vector more: its row, and what is in it."""

    row: gr.Group
    choice: gr.Dropdown
    dose: gr.Slider
    layer: gr.Number


@dataclass(frozen=True)
class Picker(Choice):
    """That, and how it is steered with.

    Attributes:
        heat: the layers.
        layer: the layer pressed; None: the best one.
        dose: how strongly.
        scale: what doses are usable.
        more: further vectors.
        n_more: how many of them are in use.
        remove: takes the last of them away.
        manner: what is done, and where.
    """

    heat: gr.HTML
    layer: gr.State
    dose: gr.Slider
    scale: gr.HTML
    more: tuple[MoreDial, ...]
    n_more: gr.State
    remove: gr.Button
    manner: MannerControls

    @property
    def inputs(self) -> list[Any]:
        """In the order `wanted` takes their values."""
        own = [self.model, self.choice, self.layer, self.dose, *self.manner.inputs, self.n_more]
        return own + [control for each in self.more for control in (each.choice, each.dose, each.layer)]

    def wanted(self, values: tuple[Any, ...]) -> Wanted:
        """What they say.

        Raises:
            InvalidInputError: a value that cannot be used.
        """
        (model, choice, layer, dose), rest = values[:4], values[4:]
        manner, second = self.manner.checked(rest[: len(self.manner.inputs)])
        n_more, *others = rest[len(self.manner.inputs) :]
        dials = [Dial(choice, dose, layer)]
        for place in range(checked_whole(n_more, "number of further vectors", 0, len(self.more))):
            further, strength, at = others[3 * place : 3 * place + 3]
            dials.append(Dial(further, strength, None if at == -1 else at))
        return Wanted(model, tuple(dials), manner, second)


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
        gr.Dropdown(site.shelf.choices, value=name, label=model, interactive=True, filterable=False),
        gr.Dropdown(
            traits, value=traits[0][1], label="Trait or vector", interactive=True, filterable=False,
            info="The first use of a trait makes a first vector from a few questions, then refines it.",
        ),
    )  # fmt: skip


def dose_slider(label: str = "Dose", *, value: float = DOSE, info: str | None = None, visible: bool = True) -> gr.Slider:
    """A slider of doses."""
    return gr.Slider(-MAX_DOSE, MAX_DOSE, value=value, step=_STEP, label=label, info=info, visible=visible)


def picker(site: Site, *, compares: bool = False) -> Picker:
    """Place all the controls.

    Args:
        site: says what there is.
        compares: whether a second dose can be asked for.
    """
    chosen = choice_controls(site)
    layer = gr.State(None)
    heat = gr.HTML(_WAITING, js_on_load=SCRIPT, elem_classes=["pi-box", "pi-heat-body"])
    with gr.Group(elem_classes="pi-dose"):
        dose = dose_slider(info="Share of the residual stream; positive strengthens the trait, negative turns it round.")
        scale = gr.HTML(dose_scale(None), padding=True)
    traits = site.choices(None, site.shelf.names[0])
    more = tuple(_more_dial(traits, number) for number in range(2, MAX_TOGETHER + 1))
    n_more = gr.State(0)
    with gr.Row():
        add = gr.Button("Add a vector", size="sm", min_width=120)
        remove = gr.Button("Take the last away", size="sm", min_width=120, visible=False)
    manner = manner_controls(compares=compares)
    found = Picker(chosen.model, chosen.choice, heat, layer, dose, scale, more, n_more, remove, manner)
    shown = [n_more, remove, *(each.row for each in more)]
    options = {**OPTIONS, "queue": False}
    add.click(lambda n: shown_dials(found, n + 1), [n_more], shown, **options)
    remove.click(lambda n: shown_dials(found, n - 1), [n_more], shown, **options)
    manner.wire([dose, *(each.dose for each in more)])
    return found


def _more_dial(traits: list[tuple[str, str]], number: int) -> MoreDial:
    with gr.Group(visible=False, elem_classes="pi-more") as row:
        choice = gr.Dropdown(
            traits, value=traits[min(number - 1, len(traits) - 1)][1], label=f"Vector {number}", interactive=True,
            filterable=False,
        )  # fmt: skip
        dose = dose_slider(f"Dose of vector {number}")
        layer = gr.Number(-1, label=f"Layer of vector {number} (-1: its best)", precision=0, minimum=-1)
    return MoreDial(row, choice, dose, layer)


def shown_dials(place: Picker, n: int) -> Updates:
    """So many further vectors in sight."""
    number = max(0, min(len(place.more), n))
    rows = {each.row: gr.update(visible=at < number) for at, each in enumerate(place.more)}
    return {place.n_more: number, place.remove: gr.update(visible=number > 0), **rows}


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
    further = [each.choice for each in place.more]

    def layers(name: str, choice: str, request: gr.Request, layer: int | None = None) -> Updates:
        model = site.shelf.model(name)
        return drawn(place, model, site.known_vector(session_of(site, request), model, choice), layer)

    def chosen(request: gr.Request, name: str, choices: tuple[str, ...]) -> tuple[Updates, str]:
        found = [_options(site, session_of(site, request), name, choice) for choice in choices]
        controls = [place.choice, *further]
        updates = {
            control: gr.update(choices=options, value=kept) for control, (options, kept) in zip(controls, found, strict=True)
        }
        return updates, found[0][1]

    @told
    def model_chosen(request: gr.Request, name: str, *choices: str) -> Updates:
        updates, kept = chosen(request, name, choices)
        return {**updates, **layers(name, kept, request)}

    @told
    def choice_made(name: str, choice: str, request: gr.Request) -> Updates:
        return layers(name, choice, request)

    @told
    def tab_opened(request: gr.Request, layer: int | None, name: str, *choices: str) -> Updates:
        updates, kept = chosen(request, name, choices)
        return {**updates, **layers(name, kept, request, layer)}

    @told
    def layer_pressed(name: str, choice: str, event: gr.EventData, request: gr.Request) -> Updates:
        model = site.shelf.model(name)
        layer = checked_whole(event._data.get("layer"), "layer", model.first_steerable_layer, model.n_layers - 1)
        return layers(name, choice, request, layer)

    outputs = [place.choice, *further, *layer_outputs(place), status]
    seen, all_seen = [place.model, place.choice], [place.model, place.choice, *further]
    place.model.input(model_chosen, all_seen, outputs, **OPTIONS)
    place.choice.input(choice_made, seen, outputs, **OPTIONS)
    place.heat.choose(layer_pressed, seen, outputs, **OPTIONS)
    for event in (page.load, tab.select):  # other tabs may have brought vectors and traits
        event(tab_opened, [place.layer, *all_seen], outputs, **OPTIONS)


def _options(site: Site, session: Session, name: str, choice: str) -> tuple[list[tuple[str, str]], str]:
    """What a model offers, and the choice made before if that is among it."""
    options = site.choices(session, name)
    values = [value for _, value in options]
    return options, choice if choice in values else next(value for value in values if value.startswith(TRAIT))


def drawn(place: Picker, model: SteerableModel, vector: PersonaVector | None, layer: int | None) -> Updates:
    """The layers with the one chosen, and which doses are usable there."""
    return {place.heat: LayerHeat.of(model, vector, layer).html(), place.layer: layer, place.scale: dose_scale(vector)}


def layer_outputs(place: Picker) -> list[Any]:
    """What `drawn` changes."""
    return [place.heat, place.layer, place.scale]
