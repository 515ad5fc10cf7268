"""Similarity of representations: invariances, known values, and layers matched by it."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from persona_interp.alignment.layer_map import layer_map
from persona_interp.alignment.similarity import cka_matrix, linear_cka, principal_angles, pwcca, svcca
from persona_interp.errors import InvalidInputError, UnknownNameError


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_cka_is_what_its_features_say() -> None:
    x, y = drawn(50, 6), drawn(50, 4, seed=1) + drawn(50, 1, seed=2)
    a, b = x - x.mean(0), y - y.mean(0)
    wanted = float((a.T @ b).norm() ** 2 / (a.T @ a).norm() / (b.T @ b).norm())
    assert linear_cka(x, y, debiased=False) == pytest.approx(wanted)


def test_unbiased_hsic_is_the_mean_over_all_quadruples() -> None:
    n = 6
    kernels = [rows @ rows.T for rows in (drawn(n, 3) - drawn(n, 3).mean(0), drawn(n, 2, seed=1) - drawn(n, 2, seed=1).mean(0))]

    def hsic(k: Tensor, m: Tensor) -> float:
        total, count = 0.0, 0
        for i in range(n):
            for j in range(n):
                for q in range(n):
                    for r in range(n):
                        if len({i, j, q, r}) == 4:
                            total += float(k[i, j] * (m[i, j] + m[q, r] - 2 * m[i, q]))
                            count += 1
        return total / count

    one, other = kernels
    wanted = hsic(one, other) / math.sqrt(hsic(one, one) * hsic(other, other))
    assert linear_cka(drawn(n, 3), drawn(n, 2, seed=1)) == pytest.approx(wanted)


@pytest.mark.parametrize("measure", [linear_cka, svcca, pwcca])
def test_rotation_scale_and_offset_change_nothing(measure) -> None:
    x = drawn(300, 8)
    turned = 7 * x @ torch.linalg.qr(drawn(8, 8, seed=3))[0] + 100
    assert measure(x, turned) == pytest.approx(1, abs=1e-6)
    noise = drawn(300, 8, seed=4)
    assert measure(x, noise) < 0.35


def test_wide_noise_is_alike_only_without_debiasing() -> None:
    x, y = drawn(60, 200), drawn(60, 200, seed=1)
    assert linear_cka(x, y, debiased=False) > 0.7
    assert abs(linear_cka(x, y)) < 0.1


def test_principal_angles_of_planes() -> None:
    one = torch.tensor([[1.0, 0, 0], [0, 1, 0]])
    other = torch.tensor([[1.0, 0, 0], [0, 1, 1]])
    torch.testing.assert_close(
        principal_angles(one, other), torch.tensor([0.0, math.pi / 4], dtype=torch.float64), atol=1e-6, rtol=0
    )


def test_layers_are_matched_by_similarity() -> None:
    layers = [drawn(200, 8, seed=n) for n in range(4)]
    turn = torch.linalg.qr(drawn(8, 8, seed=9))[0]
    target = [layers[0] @ turn, layers[0] @ turn, layers[1] @ turn, layers[2] @ turn, layers[3] @ turn]
    found = cka_matrix(layers.__getitem__, 4, target.__getitem__, 5)
    assert layer_map(found) in ((0, 2, 3, 4), (1, 2, 3, 4))
    assert layer_map(found, "monotone") == (0, 2, 3, 4)


def test_a_monotone_map_never_goes_back_and_depth_ignores_similarity() -> None:
    similarity = torch.tensor([[0.1, 0.9, 0.2], [0.8, 0.3, 0.1], [0.1, 0.2, 0.9]])
    assert layer_map(similarity) == (1, 0, 2)
    assert layer_map(similarity, "monotone") == (1, 1, 2)
    assert layer_map(similarity, "depth") == (0, 1, 2)
    assert layer_map(torch.zeros(8, 4), "depth") == (0, 0, 1, 1, 2, 2, 3, 3)
    sums = {(a, b, c): similarity[[0, 1, 2], [a, b, c]].sum() for a in range(3) for b in range(a, 3) for c in range(b, 3)}
    best = max(sums, key=sums.__getitem__)
    assert layer_map(similarity, "monotone") == best
    with pytest.raises(InvalidInputError, match="NaN"):
        layer_map(torch.full((2, 2), torch.nan))
    with pytest.raises(UnknownNameError, match="monotone"):
        layer_map(similarity, "backwards")
    with pytest.raises(InvalidInputError, match="3 rows"):
        linear_cka(drawn(3, 2), drawn(3, 2))
