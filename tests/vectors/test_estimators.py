"""Every estimator finds a planted direction, and gives it the norm of the mean difference."""

from __future__ import annotations

import pytest
import torch

from persona_interp.errors import InvalidInputError, UnknownNameError
from persona_interp.vectors.estimators import ESTIMATORS, estimator, logistic, mean_difference, pca, register_estimator


def planted(n: int = 200, width: int = 24, gap: float = 3.0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Pairs that differ along one direction; each pair shares a large topic of its own, and noise is isotropic."""
    generator = torch.Generator().manual_seed(0)
    direction = torch.nn.functional.normalize(torch.randn(width, generator=generator), dim=0)
    topic = 2 * torch.randn(n, width, generator=generator) + 50 * torch.eye(width)[5]
    noise = [0.5 * torch.randn(n, width, generator=generator) for _ in range(2)]
    return topic + gap / 2 * direction + noise[0], topic - gap / 2 * direction + noise[1], direction


@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.parametrize("n", [12, 200])
def test_a_planted_direction_is_recovered(name: str, n: int) -> None:
    positive, negative, direction = planted(n)
    found = estimator(name)(positive, negative)
    bar = 0.5 if (name, n) == ("logistic", 12) else 0.93  # texts that few, each with a topic of its own, barely fix a boundary
    assert torch.cosine_similarity(found, direction, dim=0) > bar
    torch.testing.assert_close(found.norm(), mean_difference(positive, negative).norm())


@pytest.mark.parametrize("name", ESTIMATORS)
def test_swapping_the_signs_turns_the_direction_round(name: str) -> None:
    positive, negative, _ = planted()
    torch.testing.assert_close(estimator(name)(negative, positive), -estimator(name)(positive, negative), rtol=1e-3, atol=1e-3)


def test_pca_keeps_the_direction_all_pairs_share() -> None:
    """Centring across pairs, as plain PCA does, would leave the largest variation between them instead."""
    positive, negative, direction = planted()
    wild = torch.eye(24)[3] * torch.randn(200, 1, generator=torch.Generator().manual_seed(1))
    assert torch.cosine_similarity(pca(positive + wild, negative), direction, dim=0) > 0.95


def test_logistic_discounts_a_noisy_dimension_that_sways_the_mean() -> None:
    generator = torch.Generator().manual_seed(3)
    positive, negative, direction = planted(100)
    positive = positive + 30 * torch.randn(100, 1, generator=generator) * torch.eye(24)[3]
    means = torch.cosine_similarity(mean_difference(positive, negative), direction, dim=0)
    assert torch.cosine_similarity(logistic(positive, negative), direction, dim=0) > means + 0.1


@pytest.mark.parametrize("name", ESTIMATORS)
def test_no_difference_is_no_direction(name: str) -> None:
    same = torch.ones(4, 3)
    assert torch.equal(estimator(name)(same, same), torch.zeros(3))


def test_estimators_are_found_by_name_only() -> None:
    with pytest.raises(UnknownNameError, match="Known: logistic, mean_difference, pca"):
        estimator("median")
    with pytest.raises(InvalidInputError, match="already registered"):
        register_estimator("pca", pca)
