from __future__ import annotations

import pytest
import torch
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from persona_interp.errors import InvalidInputError, PersonaInterpError
from persona_interp.models.row_sampler import RowSampler, draw
from persona_interp.models.sampling import Sampling, row_seeds

IDS = torch.zeros(1, 1, dtype=torch.long)


def chosen(sampling: Sampling, scores: torch.Tensor, seeds: list[int]) -> torch.Tensor:
    return RowSampler(sampling, seeds)(IDS.expand(len(seeds), 1), scores).argmax(dim=1)


@pytest.mark.parametrize(
    "sampling", [Sampling(), Sampling(temperature=0.5), Sampling(temperature=2.0, top_p=0.7), Sampling(top_k=3)]
)
def test_tokens_follow_the_distribution_of_transformers_own_warpers(sampling: Sampling) -> None:
    scores = torch.tensor([[2.0, 1.0, 0.5, 0.0, -1.0, -3.0]])
    expected = TemperatureLogitsWarper(float(sampling.temperature))(IDS, scores)
    if sampling.top_k is not None:
        expected = TopKLogitsWarper(sampling.top_k)(IDS, expected)
    expected = TopPLogitsWarper(sampling.top_p)(IDS, expected).softmax(dim=-1)[0]
    n = 20000
    counts = chosen(sampling, scores.expand(n, 6), row_seeds(0, n)).bincount(minlength=6) / n
    assert float((counts - expected).abs().max()) < 0.015  # four standard errors of the largest
    assert bool((counts[expected == 0] == 0).all())


def test_only_the_drawn_token_is_left_possible() -> None:
    out = RowSampler(Sampling(), [1, 2])(IDS.expand(2, 1), torch.randn(2, 9))
    assert out.isfinite().sum(dim=1).tolist() == [1, 1]


def test_greedy_leaves_the_scores_alone() -> None:
    scores = torch.randn(2, 9)
    assert torch.equal(RowSampler(Sampling(temperature=0), [1, 2])(IDS.expand(2, 1), scores), scores)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_scores_that_are_nan_are_an_error_not_a_token(temperature: float) -> None:
    scores = torch.randn(2, 9)
    scores[1] = torch.nan
    with pytest.raises(PersonaInterpError, match="new token 1: .*NaN.*smaller coefficients"):
        RowSampler(Sampling(temperature=temperature), [1, 2])(IDS.expand(2, 1), scores)


def test_a_row_draws_the_same_numbers_beside_any_others() -> None:
    scores = torch.randn(3, 50)
    together = chosen(Sampling(), scores, [5, 6, 7])
    assert together.tolist() == [int(chosen(Sampling(), scores[row : row + 1], [5 + row])) for row in range(3)]


def test_draw_takes_the_first_token_beyond_the_number_and_never_an_impossible_one() -> None:
    scores = torch.tensor([0.0, 0.5, 0.5, 0.0]).log().expand(5, 4)
    uniform = torch.tensor([0.0, 0.4999, 0.5, 0.9999, 1.0 - 2**-53], dtype=torch.float64)
    assert draw(scores, uniform).tolist() == [1, 1, 2, 2, 2]
    assert draw(scores, uniform.float()).tolist() == [1, 1, 2, 2, 2]  # in single precision the last number is 1


def test_row_seeds_differ_by_row_and_seed_and_do_not_depend_on_the_number_of_rows() -> None:
    assert len(set(row_seeds(0, 100) + row_seeds(1, 100))) == 200
    assert row_seeds(0, 100)[:3] == row_seeds(0, 3)
    assert row_seeds([4, 4], 2) == [4, 4]
    assert len(row_seeds(10**30, 2)) == 2
    with pytest.raises(InvalidInputError, match="seed 18446744073709551616 is too large"):
        row_seeds([1, 2**64], 2)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens is 0"),
        ({"temperature": -1.0}, "temperature is -1.0"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"top_p": 0.0}, "top_p is 0.0"),
        ({"top_p": 1.5}, "top_p is 1.5"),
        ({"top_k": 0}, "top_k is 0"),
    ],
)
def test_impossible_settings_are_refused(values: dict[str, float], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        Sampling(**values)  # type: ignore[arg-type]
