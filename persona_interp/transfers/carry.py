"""One direction carried from a layer of the source to every layer of the target, each with what is known of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from persona_interp.alignment.effects import effect_match, matched_direction
from persona_interp.alignment.methods import EFFECTS, alignment_method, alignment_names
from persona_interp.errors import IncompatibleError, InvalidInputError, unknown_name
from persona_interp.progress import say
from persona_interp.transfers.anchor_rows import AnchorRows, Kind

FALLBACK = "ridge"
"""Where a model passes no gradients, so that its effects are not known."""
HELD_OUT = 4
"""Every fourth anchor is held out of every fit."""
_LEAST = 4
"""Rows in a half of the held-out anchors, below which nothing is said by halves."""

Measured: TypeAlias = Callable[[Tensor, Tensor], tuple[float, dict[str, float]]]
"""(rows of the source, rows of the target) -> score and quality of a direction that was carried without them."""


@dataclass(frozen=True)
class Carried:
    """A direction at one layer of the target.

    Attributes:
        layer: 0-based block of the target.
        direction: in the target's basis, in no particular length.
        score: what layers of the target are compared by: for ``effects`` the gain (nats), for states the held-out R2 of a ridge
            map between the two layers, whatever the method.
        quality: what held-out anchors say of the map itself: correlation of effects, or R2, cosine and norm ratio of states.
        halves: score and quality by each half of the held-out anchors alone, so that a layer picked on the one is judged on the
            other; empty where there are too few.
    """

    layer: int
    direction: Float[Tensor, " d_model"]
    score: float
    quality: dict[str, float]
    halves: tuple[tuple[float, dict[str, float]], ...] = ()


def choice_quality(carried: Sequence[Carried]) -> dict[str, float] | None:
    """The quality of the layer with the highest score, picked on one half of the held-out anchors and judged on the other.

    Both ways round, averaged; None where the anchors were too few to halve.
    """
    if not all(len(each.halves) == 2 for each in carried):
        return None
    judged = [max(carried, key=lambda each: each.halves[half][0]).halves[1 - half][1] for half in (0, 1)]
    return {name: (judged[0][name] + judged[1][name]) / 2 for name in judged[0]}


def kind_of(method: str, states: Kind = "states") -> Kind:
    """Which rows a method is fitted on: effects, or whichever states were asked for.

    Raises:
        UnknownNameError: there is no such method.
    """
    if method not in (names := alignment_names()):
        raise unknown_name("alignment method", method, names)
    return "effects" if method == EFFECTS else states


def without_effects(*sides: AnchorRows) -> str:
    """The names of the models whose effects are not known; empty if they all are."""
    return " and ".join(dict.fromkeys(rows.model.name for rows in sides if "effects" not in rows.kinds))


def default_method(*sides: AnchorRows) -> str:
    """Effects; ridge, and a line that says so, where they are not known of a model (GGUF, NDIF, some quantized weights)."""
    names = without_effects(*sides)
    if not names:
        return EFFECTS
    say(f"note: effects are not known of {names}: aligned by {FALLBACK} instead")
    return FALLBACK


def check_pair(source: AnchorRows, target: AnchorRows, method: str, states: Kind = "states") -> None:
    """Refuse rows that are not of the same texts, or not of the kind the method needs.

    Raises:
        IncompatibleError: the anchors differ.
        InvalidInputError: the rows needed were not read.
    """
    if source.anchors != target.anchors:
        raise IncompatibleError(
            f"{source.model.name} and {target.model.name} read different anchors ({source.anchors} and {target.anchors}): "
            "have both read the same texts"
        )
    kind = kind_of(method, states)
    for rows in (source, target):
        if kind not in rows.kinds:
            raise InvalidInputError(
                f"alignment by {method!r} needs the {kind} of the anchors, which {rows.model.name} does not have: "
                f"{'use a method on states, such as ridge' if kind == 'effects' else 'read the anchors again'}"
            )


def carry(
    direction: Float[Tensor, " d_source"],
    source: AnchorRows,
    target: AnchorRows,
    *,
    source_layer: int,
    target_layers: list[int],
    method: str = EFFECTS,
    states: Kind = "states",
    shuffled: int | None = None,
) -> list[Carried]:
    """`direction` of one source layer at each of the target's layers.

    Args:
        direction: in the source's basis.
        source: the source's rows.
        target: the target's rows, of the same anchors.
        source_layer: 0-based.
        target_layers: 0-based.
        method: one of `alignment_names`.
        states: for methods on states, which of them: ``states``, ``sentences``, ``words`` or ``prompts``.
        shuffled: a seed: the anchors are paired in random order, a control that should carry nothing.

    Raises:
        IncompatibleError, InvalidInputError, UnknownNameError: as `check_pair`.
    """
    check_pair(source, target, method, states)
    kind, v = kind_of(method, states), direction.double()
    own = source.rows(kind, source_layer)
    held_out = source.texts(kind) % HELD_OUT == HELD_OUT - 1
    order = torch.arange(len(own))
    if shuffled is not None:
        order = torch.randperm(len(own), generator=torch.Generator().manual_seed(shuffled))
    own = own[order]
    half = source.texts(kind)[held_out] // HELD_OUT % 2
    halved = min(int((half == number).sum()) for number in (0, 1)) >= _LEAST
    found: list[Carried] = []
    for layer in target_layers:
        rows = target.rows(kind, layer)
        fitted_on, out = (own[~held_out], rows[~held_out]), (own[held_out], rows[held_out])
        if method == EFFECTS:
            direction, measured = _by_effects(v, *fitted_on, resid_norm=target.resid_norms[layer])
        else:
            direction, measured = _by_states(v, *fitted_on, method=method)
        halves = tuple(measured(*(side[half == number] for side in out)) for number in (0, 1)) if halved else ()
        found.append(Carried(layer, direction, *measured(*out), halves))
    return found


def _by_effects(v: Tensor, own: Tensor, rows: Tensor, *, resid_norm: float) -> tuple[Tensor, Measured]:
    w = matched_direction(own @ v, rows)

    def measured(own_out: Tensor, rows_out: Tensor) -> tuple[float, dict[str, float]]:
        match = effect_match(own_out @ v, rows_out, w, resid_norm)
        return match.gain, {"correlation": match.correlation, "gain": match.gain}

    return w, measured


def _by_states(v: Tensor, own: Tensor, rows: Tensor, *, method: str) -> tuple[Tensor, Measured]:
    fitted = alignment_method(method).fit(own, rows)
    ridge = fitted if method == "ridge" else alignment_method("ridge").fit(own, rows)

    def measured(own_out: Tensor, rows_out: Tensor) -> tuple[float, dict[str, float]]:
        score = fitted.score(own_out, rows_out)
        compared = score if method == "ridge" else ridge.score(own_out, rows_out)
        return compared.r2, {"r2": score.r2, "cosine": score.cosine, "norm_ratio": score.norm_ratio}

    return fitted.transform_directions(v[None])[0], measured
