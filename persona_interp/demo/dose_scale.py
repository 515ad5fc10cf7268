"""The scale under a slider of doses: from -1 to 1, with the measured usable range as a band."""

from __future__ import annotations

from html import escape

from persona_interp.demo.explained import DOSE, what
from persona_interp.demo.trait_vectors import usable_range
from persona_interp.vectors.persona_vector import PersonaVector

_TICKS = (-1, -0.5, 0, 0.5, 1)
_USUAL = 0.5
"""Up to where most vectors are usable, where nothing was measured."""


def dose_scale(vector: PersonaVector | None) -> str:
    """As HTML."""
    found = None if vector is None else usable_range(vector)
    if found is None:
        low, high, kind = -_USUAL, _USUAL, "pi-guessed"
        said = f"Usually usable up to {_USUAL:g} either way. What this vector stands is measured while it is refined."
    else:
        layer, low, high = found
        kind, said = "", f"Usable from {low:+.2f} to {high:+.2f}: there answers stayed coherent, tried at layer {layer}."
    band = f'<span class="pi-band {kind}" style="left:{_place(low):.1f}%;width:{_place(high) - _place(low):.1f}%"></span>'
    ticks = "".join(f'<span class="pi-tick" style="left:{_place(tick):.0f}%">{tick:g}</span>' for tick in _TICKS)
    scale = f'<div class="pi-scale" aria-hidden="true">{band}{ticks}</div>'
    return f'{scale}<p class="pi-caption">{escape(said)}</p>{what(DOSE)}'


def _place(dose: float) -> float:
    """Percent from the left end."""
    return 50 * (max(-1.0, min(1.0, dose)) + 1)
