"""Alignments: what they share with known implementations, what they recover when it is there, and what they find in noise."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import orthogonal_procrustes
from sklearn import cross_decomposition
from sklearn.linear_model import Ridge as SklearnRidge
from torch import Tensor

from persona_interp.alignment.anchors import AnchorProjection
from persona_interp.alignment.cca import CCA
from persona_interp.alignment.linear_alignment import LinearAlignment
from persona_interp.alignment.methods import ALIGNMENTS, alignment_method
from persona_interp.alignment.naive import NaiveTruncate
from persona_interp.alignment.paired_moments import PairedMoments, folds
from persona_interp.alignment.procrustes import Procrustes
from persona_interp.alignment.reduced_rank import ReducedRank
from persona_interp.alignment.ridge import STRENGTHS, Ridge
from persona_interp.errors import IncompatibleError, InvalidInputError, UnknownNameError

FITTING = [name for name in ALIGNMENTS if name != "naive"]


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rotation(width: int, seed: int = 9) -> Tensor:
    return torch.linalg.qr(drawn(width, width, seed=seed))[0]


def spread(n: int, width: int, seed: int = 0) -> Tensor:
    """Rows of falling variance around a mean far from zero, as residual streams are."""
    return drawn(n, width, seed=seed) * torch.linspace(3, 0.3, width, dtype=torch.float64) + 20 * drawn(width, seed=seed + 1)


def fitted(name: str, source: Tensor, target: Tensor) -> LinearAlignment:
    return alignment_method(name).fit(source, target)


# -- parity --------------------------------------------------------------------------------------------------------


def test_procrustes_is_scipys() -> None:
    source, target = spread(300, 12), spread(300, 12, seed=5)
    ours = Procrustes(scaling=False).fit(source, target).matrix_
    centred = [(side - side.mean(0)).numpy() for side in (source, target)]
    wanted, _ = orthogonal_procrustes(*centred)
    np.testing.assert_allclose(ours, wanted, atol=1e-10)
    plain = Procrustes(scaling=False, centring=False).fit(source, target).matrix_
    np.testing.assert_allclose(plain, orthogonal_procrustes(source.numpy(), target.numpy())[0], atol=1e-10)


def test_procrustes_without_centring_maps_rows_as_it_was_fitted_to() -> None:
    source, target = spread(40, 5), spread(40, 4, seed=5)
    fitted = Procrustes(centring=False).fit(source, target)
    assert fitted.matrix_ is not None
    torch.testing.assert_close(fitted.transform(source), source.double() @ fitted.matrix_)
    error = (source.double() @ fitted.matrix_ - target.double()).square().sum()
    around = (target.double() - target.double().mean(0)).square().sum()
    assert fitted.score(source, target).r2 == pytest.approx(float(1 - error / around))
    settings_, tensors = fitted.to_state()
    former = {**tensors, "source_mean": source.double().mean(0), "target_mean": target.double().mean(0)}
    again = Procrustes.from_state(settings_, former)
    torch.testing.assert_close(again.transform(source), fitted.transform(source)), "a map kept before has the means of the rows"
    centred = Procrustes().fit(source, target)
    assert centred.source_mean_ is not None
    torch.testing.assert_close(centred.source_mean_, source.double().mean(0))


@pytest.mark.parametrize("strength", [1e-3, 1.0])
def test_ridge_is_scikit_learns(strength: float) -> None:
    source, target = spread(200, 10), spread(200, 7, seed=3)
    ours = Ridge(strength).fit(source, target)
    alpha = strength * float(np.trace(np.cov(source.numpy().T)) * 199 / 10)
    theirs = SklearnRidge(alpha=alpha).fit(source.numpy(), target.numpy())
    np.testing.assert_allclose(ours.matrix_, theirs.coef_.T, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(ours.transform(source), theirs.predict(source.numpy()), rtol=1e-7)


def test_canonical_correlations_are_scikit_learns() -> None:
    shared = drawn(500, 3)
    source = torch.cat([shared + 0.5 * drawn(500, 3, seed=1), drawn(500, 2, seed=2)], 1) @ rotation(5)
    target = torch.cat([shared + 0.5 * drawn(500, 3, seed=3), drawn(500, 1, seed=4)], 1) @ rotation(4)
    ours = CCA(regularisation=0.0).fit(source, target)
    theirs = cross_decomposition.CCA(n_components=4, max_iter=5000, tol=1e-10).fit(source.numpy(), target.numpy())
    scores = theirs.transform(source.numpy(), target.numpy())
    wanted = [np.corrcoef(scores[0][:, k], scores[1][:, k])[0, 1] for k in range(4)]
    np.testing.assert_allclose(ours.correlations_[:3], wanted[:3], atol=1e-4)
    assert ours.n_components_ == 3, "the fourth is noise, which does not hold out"


def test_reduced_rank_at_full_rank_is_the_ridge() -> None:
    source, target = spread(200, 8), spread(200, 6, seed=3)
    full, ridge = ReducedRank(rank=6, strength=0.01).fit(source, target), Ridge(0.01).fit(source, target)
    torch.testing.assert_close(full.matrix_, ridge.matrix_)
    low = ReducedRank(rank=2, strength=0.01).fit(source, target)
    assert int(torch.linalg.matrix_rank(low.matrix_)) == 2


# -- what is there is found, what is not is not ----------------------------------------------------------------------


@pytest.mark.parametrize("name", FITTING)
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000), width=st.integers(4, 24))
def test_a_planted_rotation_is_recovered(name: str, seed: int, width: int) -> None:
    source = drawn(20 * width, width, seed=seed)
    turned = rotation(width, seed + 1)
    found = fitted(name, source, source @ turned)
    directions = drawn(5, width, seed=seed + 2)
    carried = found.transform_directions(directions)
    assert float(torch.cosine_similarity(carried, directions @ turned).min()) >= 0.9999


@pytest.mark.parametrize("name", FITTING)
@pytest.mark.parametrize("size", [100.0, 1000.0])
def test_a_massive_dimension_does_not_hide_the_others(name: str, size: float) -> None:
    """One dimension a hundred or a thousand times the others, and not along an axis of the target."""
    source = drawn(2000, 64)
    source[:, 5] *= size
    turned = rotation(64, 1)
    carried = fitted(name, source, source @ turned).transform_directions(drawn(5, 64, seed=2))
    assert float(torch.cosine_similarity(carried, drawn(5, 64, seed=2) @ turned).min()) >= 0.9999


@pytest.mark.parametrize("name", FITTING)
@pytest.mark.parametrize("widths", [(24, 24), (24, 40), (40, 24)])
def test_noise_and_shuffled_rows_have_no_held_out_fit(name: str, widths: tuple[int, int]) -> None:
    source, noise = drawn(3000, widths[0]), drawn(3000, widths[1], seed=7)
    found = fitted(name, source[:2000], noise[:2000])
    score = found.score(source[2000:], noise[2000:])
    assert score.r2 <= 0.02
    assert abs(score.cosine) <= 0.1
    related = source @ drawn(*widths, seed=3)
    shuffled = related[torch.randperm(2000, generator=torch.Generator().manual_seed(1))]
    assert fitted(name, source[:2000], shuffled).score(source[2000:], related[2000:]).r2 <= 0.02


def test_only_held_out_rows_tell_noise_from_a_map() -> None:
    source, noise = drawn(40, 60), drawn(40, 60, seed=2)
    found = Ridge(0.0).fit(source, noise)
    assert found.score(source, noise).r2 > 0.99, "with fewer rows than dimensions anything fits"
    assert found.score(drawn(500, 60, seed=3), drawn(500, 60, seed=4)).r2 < 0


def test_strength_and_rank_follow_from_the_folds() -> None:
    few = Ridge().fit(drawn(80, 40), drawn(80, 40, seed=1)).strength_
    source = drawn(2000, 20)
    many = Ridge().fit(source, source @ drawn(20, 20, seed=2)).strength_
    assert few == STRENGTHS[-1]
    assert many == STRENGTHS[0]
    through_two = source @ drawn(20, 2, seed=3) @ drawn(2, 15, seed=4) + 0.3 * drawn(2000, 15, seed=5)
    assert ReducedRank().fit(source, through_two).rank_ == 2


def test_unequal_widths_keep_lengths_in_the_smaller_space() -> None:
    source = drawn(500, 10)
    turned = rotation(16)[:10]
    wide = Procrustes(scaling=False).fit(source, source @ turned)
    torch.testing.assert_close(wide.transform_directions(source).norm(dim=1), source.norm(dim=1))
    back = Procrustes(scaling=False).fit(source @ turned, source)
    torch.testing.assert_close(back.matrix_.T @ back.matrix_, torch.eye(10, dtype=torch.float64))
    scaled = Procrustes().fit(source, 30 * source @ turned)
    assert scaled.score(source, 30 * source @ turned).norm_ratio == pytest.approx(1)


def test_a_score_is_what_the_rows_say() -> None:
    source, target = spread(400, 9), spread(400, 5, seed=2)
    found = Ridge(0.1).fit(source[:300], target[:300] + source[:300, :5])
    actual = target[300:] + source[300:, :5]
    predicted = found.transform(source[300:])
    score = found.score(source[300:], actual)
    centred, guess = actual - actual.mean(0), predicted - predicted.mean(0)
    assert score.r2 == pytest.approx(float(1 - (actual - predicted).square().sum() / centred.square().sum()))
    assert score.cosine == pytest.approx(float((centred * guess).sum() / centred.norm() / guess.norm()))
    assert score.norm_ratio == pytest.approx(float(guess.norm() / centred.norm()))
    assert score.count == 100


def test_naive_cuts_and_pads() -> None:
    rows = drawn(5, 6)
    cut = NaiveTruncate().fit(drawn(20, 6), drawn(20, 4)).transform_directions(rows)
    padded = NaiveTruncate().fit(drawn(20, 6), drawn(20, 8)).transform_directions(rows)
    torch.testing.assert_close(cut, rows[:, :4])
    torch.testing.assert_close(padded, torch.cat([rows, torch.zeros(5, 2, dtype=torch.float64)], 1))


# -- moments, states, refusals ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in ALIGNMENTS if name != "anchors"])
def test_streamed_folds_fit_the_same_map_as_rows(name: str) -> None:
    source, target = spread(400, 9), spread(400, 7, seed=2)
    at_once = fitted(name, source, target)
    streamed = []
    for start in range(4):
        part = PairedMoments.empty(9, 7)
        for piece in torch.arange(start, 400, 4).split(17):
            part = part.including(source[piece], target[piece])
        streamed.append(part)
    torch.testing.assert_close(alignment_method(name).fit(streamed).matrix_, at_once.matrix_)


def test_a_fitted_map_is_kept_exactly() -> None:
    source, target = spread(100, 9), spread(100, 7, seed=2)
    for name, made in ALIGNMENTS.items():
        found = fitted(name, source, target)
        kept, tensors = found.to_state()
        again = made.from_state(json.loads(json.dumps(kept)), tensors)
        torch.testing.assert_close(again.transform(source), found.transform(source), rtol=0, atol=0)


def test_what_cannot_be_fitted_is_refused_with_the_reason() -> None:
    rows = drawn(10, 4)
    with pytest.raises(InvalidInputError, match="as many rows of each"):
        Ridge().fit(rows, rows[:5])
    with pytest.raises(InvalidInputError, match="1 values of the target's rows are NaN"):
        Ridge().fit(rows, torch.where(torch.arange(40).view(10, 4) == 3, torch.nan, rows))
    with pytest.raises(InvalidInputError, match="at least two pairs of rows, there are 1"):
        Procrustes().fit(rows[:1], rows[:1])
    with pytest.raises(InvalidInputError, match="without those of the target"):
        Ridge().fit(rows)
    with pytest.raises(InvalidInputError, match="rank 5 does not fit"):
        Procrustes(rank=5).fit(rows, rows)
    with pytest.raises(InvalidInputError, match="Ridge is not fitted"):
        Ridge().transform(rows)
    with pytest.raises(IncompatibleError, match="width 4 and cannot take width 3"):
        Ridge().fit(rows, rows).transform(rows[:, :3])
    with pytest.raises(InvalidInputError, match="needs the rows themselves"):
        AnchorProjection().fit(folds(rows, rows, 2))
    with pytest.raises(InvalidInputError, match="strength -1"):
        Ridge(-1.0).fit(rows, rows)
    with pytest.raises(UnknownNameError, match="procrustes"):
        alignment_method("rotate")
    with pytest.raises(IncompatibleError, match="same two layers"):
        PairedMoments.empty(3, 4).merged(PairedMoments.empty(4, 4))
