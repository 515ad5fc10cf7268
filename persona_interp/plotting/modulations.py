"""Ways of modulating a model beside their placebos."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from persona_interp.errors import InvalidInputError
from persona_interp.measure.modulation import Modulated
from persona_interp.plotting.dots import add_key, dots, lanes, share_panels, shared_range
from persona_interp.plotting.palette import BLUE, GREY, ROLES, SYMBOLS, styled

_INSIDE, _PROMPT = "control vector", "prompt only"


def modulation_figure(found: Sequence[Modulated]) -> go.Figure:
    """Share of the control vector's movement that every mode reaches, a marker a model with its 95 % interval, a panel a trait.

    Placebos are grey: they cannot know what the vector means, so what they reach is chance or damage.

    Raises:
        InvalidInputError: there is nothing to draw.
    """
    if not found:
        raise InvalidInputError("there is no mode of modulation to draw: give at least one")
    modes = list(dict.fromkeys(each.mode for each in found))
    models = list(dict.fromkeys(each.model for each in found))
    traits = list(dict.fromkeys(each.trait for each in found))
    placebos = {each.mode for each in found if each.placebo}
    rows = [f"{mode}<br><i>placebo</i>" if mode in placebos else mode for mode in modes]
    reach = shared_range([each.share for each in found], 0, 1)
    figure = share_panels(traits, rows, "share of the control vector's movement", reach)
    for column, trait in enumerate(traits, start=1):
        for model, symbol, lane in zip(models, SYMBOLS, lanes(len(models)), strict=False):
            for mode in modes:
                mine = [each for each in found if (each.trait, each.model, each.mode) == (trait, model, mode)]
                name = model.removeprefix("organism-")
                texts = [f"{mode}{' (placebo)' if each.placebo else ''}, {trait}<br>{_ends(each)}" for each in mine]
                look = (_colour(mode, placebos), symbol)
                places = [modes.index(mode)] * len(mine)
                series = dots([each.share for each in mine], places, name, look, texts=texts, lane=lane, in_legend=False)
                figure.add_trace(series, row=1, col=column)
    add_key(figure, models, "any, placebo")
    title = "What moves a trait in a GGUF model, as a share of what a control vector inside it moves"
    return styled(figure, title, legend="beside", height=170 + 56 * len(modes))


def _colour(mode: str, placebos: set[str]) -> str:
    return GREY if mode in placebos else ROLES[_PROMPT][0] if mode == _PROMPT else BLUE


def _ends(each: Modulated) -> str:
    scores = " → ".join("–" if value is None else f"{value:.0f}" for value in (each.low, each.base, each.high))
    coherence = "–" if each.coherence is None else f"{each.coherence:.0f}"
    return f"score {scores} (negative end, none, positive end)<br>coherence at least {coherence}"
