"""Per-layer statistics: right on planted residuals, honest on noise, and blind to how the cache is cut up."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from persona_interp.errors import InvalidInputError, PersonaInterpError
from persona_interp.residuals.cache import ResidualCache
from persona_interp.vectors.estimators import ESTIMATORS
from persona_interp.vectors.massive import massive_dimensions
from persona_interp.vectors.statistics import PairedResiduals, auroc, cohens_d, summarise

N, LAYERS, WIDTH = 60, 3, 16


def residuals(folder: Path, gaps: tuple[float, ...] = (0.0, 1.0, 4.0), *, halves: bool = True, shard: int = 7) -> PairedResiduals:
    """Pairs that differ along dimension 0 by one gap a layer, in noise of standard deviation 1."""
    generator = torch.Generator().manual_seed(0)
    cache = ResidualCache(folder)
    entries = {}
    for sign, name in ((1, "p"), (-1, "n")):
        noise = torch.randn(N, LAYERS, WIDTH, generator=generator)
        noise[:, :, 0] += sign * torch.tensor(gaps) / 2
        entries |= {f"{name}{i}": {"response_avg": noise[i]} for i in range(N)}
    keys = list(entries)
    for start in range(0, len(keys), shard):
        cache.put_many({key: entries[key] for key in keys[start : start + shard]})
    places = tuple(i % 2 if halves else 0 for i in range(N))
    return PairedResiduals(cache, "response_avg", tuple(f"p{i}" for i in range(N)), tuple(f"n{i}" for i in range(N)), places)


def stacked(pairs: PairedResiduals, sign: int) -> torch.Tensor:
    return torch.stack([pairs.cache.read(key, "response_avg") for key in pairs.keys(sign)])


@pytest.mark.parametrize("name", ESTIMATORS)
def test_separation_on_held_out_questions_grows_with_the_gap_and_is_chance_on_noise(tmp_path: Path, name: str) -> None:
    found = summarise(residuals(tmp_path), ESTIMATORS[name]).statistics
    nothing, some, much = found["auroc"]
    assert nothing == pytest.approx(0.5, abs=0.15)  # the same number on the fitting half would be far above
    assert nothing < some < much
    assert much > 0.98
    assert found["cohens_d"][2] == pytest.approx(4, abs=0.8)
    assert found["split_half"][2] > 0.8 > abs(found["split_half"][0])


def test_the_streamed_difference_is_the_difference_of_means(tmp_path: Path) -> None:
    pairs = residuals(tmp_path)
    summary = summarise(pairs, ESTIMATORS["mean_difference"])
    positive, negative = stacked(pairs, 1).double(), stacked(pairs, -1).double()
    torch.testing.assert_close(summary.directions, (positive.mean(0) - negative.mean(0)).float())
    torch.testing.assert_close(summary.mean_abs, torch.cat([positive, negative]).abs().mean(0).float())
    assert summary.statistics["positive_norm"] == pytest.approx(positive.mean(0).norm(dim=1).tolist())


@pytest.mark.parametrize("name", ESTIMATORS)
def test_how_the_cache_is_cut_up_does_not_show(tmp_path: Path, name: str) -> None:
    one = summarise(residuals(tmp_path / "a", shard=1), ESTIMATORS[name])
    other = summarise(residuals(tmp_path / "b", shard=1000), ESTIMATORS[name])
    assert torch.equal(one.directions, other.directions)
    assert one.statistics == other.statistics


def test_without_a_second_half_nothing_is_claimed(tmp_path: Path) -> None:
    found = summarise(residuals(tmp_path, halves=False), ESTIMATORS["mean_difference"]).statistics
    assert found["auroc"] == found["cohens_d"] == found["split_half"] == (None,) * LAYERS
    assert all(found["positive_norm"])


def test_memory_holds_a_few_texts_at_a_time(tmp_path: Path) -> None:
    pairs = residuals(tmp_path)
    assert max(len(batch) for batch in pairs.batches(1, 0)) <= 32


def test_residuals_that_are_not_finite_are_refused_by_layer(tmp_path: Path) -> None:
    cache = ResidualCache(tmp_path)
    bad = torch.ones(LAYERS, WIDTH)
    bad[1, 3] = float("inf")
    cache.put_many({"p": {"response_avg": bad}, "n": {"response_avg": torch.ones(LAYERS, WIDTH)}})
    with pytest.raises(PersonaInterpError, match=r"layers \[1\].*bfloat16"):
        summarise(PairedResiduals(cache, "response_avg", ("p",), ("n",), (0,)), ESTIMATORS["mean_difference"])
    with pytest.raises(InvalidInputError, match="no pairs"):
        summarise(PairedResiduals(cache, "response_avg", (), (), ()), ESTIMATORS["mean_difference"])


def test_auroc_counts_ties_half() -> None:
    column = lambda *values: torch.tensor(values).unsqueeze(1).double()  # noqa: E731
    assert auroc(column(3.0, 4.0), column(1.0, 2.0)) == [1.0]
    assert auroc(column(1.0, 2.0), column(3.0, 4.0)) == [0.0]
    assert auroc(column(1.0, 1.0), column(1.0, 1.0)) == [0.5]
    assert auroc(column(1.0, 3.0), column(2.0)) == [0.5]


def test_cohens_d_needs_scores_that_vary() -> None:
    one = torch.tensor([[1.0], [3.0]]).double()
    assert cohens_d(one + 4, one) == [pytest.approx(4 / 2**0.5)]
    assert cohens_d(torch.ones(3, 1), torch.zeros(3, 1)) == [None]
    assert cohens_d(torch.ones(1, 1), one) == [None]


def test_massive_dimensions_are_reported_where_they_are() -> None:
    generator = torch.Generator().manual_seed(0)
    mean_abs = torch.rand(3, 64, generator=generator) + 0.5
    directions = torch.randn(3, 64, generator=generator)
    mean_abs[1, 7] = 500
    directions[2, 9] = 100
    found = massive_dimensions(directions, mean_abs, (0, 4, 5))
    assert [(entry.layer, entry.dimension) for entry in found] == [(4, 7), (5, 9)]
    assert found[0].median_ratio > 100
    assert found[1].direction_share > 0.9
