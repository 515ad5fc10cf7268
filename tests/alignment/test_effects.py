"""Directions matched by effect: found again in another basis, nothing found where there is nothing."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from persona_interp.alignment.effects import effect_match, matched_direction
from persona_interp.errors import InvalidInputError


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_a_direction_is_found_again_in_a_turned_basis() -> None:
    effects, turned = drawn(400, 20), torch.linalg.qr(drawn(20, 20, seed=1))[0]
    v = drawn(20, seed=2)
    found = matched_direction(effects @ v, effects @ turned)
    assert float(torch.cosine_similarity(found, v @ turned, dim=0)) > 0.98
    exact = matched_direction(effects @ v, effects @ turned, strength=1e-9)
    torch.testing.assert_close(exact, v @ turned)


def test_what_a_text_costs_on_average_says_nothing_of_a_direction() -> None:
    effects, v = drawn(400, 20), drawn(20, seed=2)
    shifted = matched_direction(effects @ v + 100.0, effects + 5 * drawn(20, seed=3))
    torch.testing.assert_close(shifted, matched_direction(effects @ v, effects))


def test_the_match_is_measured_on_other_texts() -> None:
    effects, v = drawn(400, 20), drawn(20, seed=2)
    good = effect_match(effects @ v, effects, v, resid_norm=10.0)
    assert good.correlation == pytest.approx(1)
    assert good.gain == pytest.approx(float((effects @ v / v.norm() * 10).std(correction=0)))
    noise = matched_direction(drawn(300, seed=5), effects[:300])
    assert abs(effect_match(effects[300:] @ v, effects[300:], noise, 10.0).correlation) < 0.4
    opposite = effect_match(effects @ v, effects, -v, 10.0)
    assert (opposite.correlation, opposite.gain) == (pytest.approx(-1), pytest.approx(-good.gain))
    assert effect_match(torch.ones(5), effects[:5], v, 10.0).gain == 0


def test_rows_without_pairs_or_without_effects_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="3 effects of the source and 4 of the target"):
        matched_direction(torch.ones(3), torch.ones(4, 2))
    with pytest.raises(InvalidInputError, match="same for all texts"):
        matched_direction(drawn(4), torch.ones(4, 2))
