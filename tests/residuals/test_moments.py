"""Moments of samples that pass by once equal those of samples kept."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from persona_interp.errors import IncompatibleError, InvalidInputError
from persona_interp.residuals.moments import Moments, merge

finite = st.floats(-1e3, 1e3, width=32)
samples = hnp.arrays(np.float32, st.tuples(st.integers(2, 12), st.integers(1, 3), st.integers(1, 4)), elements=finite)


@given(samples, st.data())
@settings(deadline=None, max_examples=60)
def test_moments_of_chunks_are_the_moments_of_all(values: np.ndarray, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(values)), max_size=4)))
    chunks = [torch.from_numpy(chunk) for chunk in np.split(values, cuts)]
    seen = merge(Moments.of(chunk, covariance=True) for chunk in chunks)
    flat = values.astype(np.float64)
    assert seen.count == len(values)
    np.testing.assert_allclose(seen.mean.numpy(), flat.mean(0), atol=1e-6)
    np.testing.assert_allclose(seen.variance.numpy(), flat.var(0, ddof=1), rtol=1e-6, atol=1e-6)
    for axis in range(values.shape[1]):
        covariance = np.atleast_2d(np.cov(flat[:, axis], rowvar=False))
        np.testing.assert_allclose(seen.covariance[axis].numpy(), covariance, rtol=1e-6, atol=1e-5)
        np.testing.assert_allclose(seen.gram[axis].numpy(), flat[:, axis].T @ flat[:, axis], rtol=1e-6, atol=1e-4)


@given(samples)
@settings(deadline=None, max_examples=40)
def test_the_order_of_merging_does_not_show(values: np.ndarray) -> None:
    halves = [Moments.of(torch.from_numpy(half)) for half in np.array_split(values, 2)]
    one, other = halves[0].merged(halves[1]), halves[1].merged(halves[0])
    torch.testing.assert_close(one.mean, other.mean)
    torch.testing.assert_close(one.squares, other.squares, rtol=1e-9, atol=1e-6)


def test_a_large_mean_does_not_swallow_a_small_spread() -> None:
    values = 1e6 + torch.randn(500, 1, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    seen = Moments.empty((1, 3))
    for value in values:
        seen = seen.including(value.unsqueeze(0))
    torch.testing.assert_close(seen.variance, values.var(0), rtol=1e-6, atol=0)


def test_nothing_seen_yet_changes_nothing() -> None:
    seen = Moments.of(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    torch.testing.assert_close(Moments.empty((2,)).merged(seen).mean, seen.mean)
    torch.testing.assert_close(seen.merged(Moments.empty((2,))).variance, seen.variance)
    assert Moments.of(torch.zeros(0, 2)).merged(Moments.empty((2,))).count == 0


def test_what_cannot_be_had_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="two samples"):
        _ = Moments.of(torch.ones(1, 2)).variance
    with pytest.raises(InvalidInputError, match="covariance=True"):
        _ = Moments.of(torch.ones(3, 2)).covariance
    with pytest.raises(IncompatibleError, match=r"\(2,\) and \(3,\)"):
        Moments.of(torch.ones(3, 2)).merged(Moments.of(torch.ones(3, 3)))
    with pytest.raises(IncompatibleError, match="with and without covariance"):
        Moments.of(torch.ones(3, 2)).merged(Moments.of(torch.ones(3, 2), covariance=True))
    with pytest.raises(InvalidInputError, match="no moments"):
        merge([])
