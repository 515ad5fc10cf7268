"""Rows that say little: too few of them, or constant ones. Nothing is made up where they are silent, and nothing breaks."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor

from persona_interp.alignment.linear_alignment import AlignmentScore
from persona_interp.alignment.methods import ALIGNMENTS, alignment_method
from persona_interp.alignment.paired_moments import PairedMoments, folds
from persona_interp.alignment.procrustes import Procrustes
from persona_interp.alignment.ridge import Ridge
from persona_interp.errors import FileFormatError, IncompatibleError, InvalidInputError, UnknownNameError


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("name", ALIGNMENTS)
@pytest.mark.parametrize("n", [2, 3, 5])
def test_a_handful_of_rows_gives_a_finite_map(name: str, n: int) -> None:
    found = alignment_method(name).fit(drawn(n, 6), drawn(n, 4, seed=1))
    assert found.matrix_ is not None
    assert torch.isfinite(found.matrix_).all()


@pytest.mark.parametrize("name", [name for name in ALIGNMENTS if name != "naive"])
def test_rows_that_do_not_vary_tell_nothing(name: str) -> None:
    for source, target in ((torch.ones(20, 6), drawn(20, 4)), (drawn(20, 6), torch.ones(20, 4))):
        found = alignment_method(name).fit(source, target)
        assert found.matrix_ is not None
        assert not found.matrix_.any()
        torch.testing.assert_close(found.transform(drawn(3, 6, seed=2)), target.double().mean(0).expand(3, 4))


@pytest.mark.parametrize("name", ALIGNMENTS)
def test_predicting_what_does_not_vary_is_no_merit_and_valid_json(name: str) -> None:
    found = alignment_method(name).fit(drawn(30, 6), drawn(30, 4, seed=1))
    for constant in (torch.ones(20, 4), torch.full((20, 4), 0.1, dtype=torch.float64) * 3):
        score = found.score(drawn(20, 6, seed=2), constant)
        assert score == AlignmentScore(0.0, 0.0, 0.0, 20)
    json.dumps(vars(score), allow_nan=False)


def test_an_empty_fold_is_allowed() -> None:
    parts = [*folds(drawn(30, 4), drawn(30, 3, seed=1), 3), PairedMoments.empty(4, 3)]
    for name in ALIGNMENTS:
        if name != "anchors":
            found = alignment_method(name).fit(parts)
            assert found.matrix_ is not None
            assert torch.isfinite(found.matrix_).all()


def test_procrustes_maps_what_too_few_rows_do_not_tell_to_zero() -> None:
    source, target = drawn(20, 40), drawn(20, 40, seed=1)
    found = Procrustes(scaling=False).fit(source, target)
    assert found.matrix_ is not None
    values = torch.linalg.svdvals(found.matrix_)
    torch.testing.assert_close(values[:19], torch.ones(19, dtype=torch.float64))
    assert float(values[19:].max()) < 1e-10, "20 rows around their mean span 19 dimensions"
    streamed = PairedMoments.empty(40, 40)
    for rows in torch.arange(20).split(7):
        streamed = streamed.including(source[rows], target[rows])
    again = Procrustes(scaling=False).fit(streamed).matrix_
    torch.testing.assert_close(again, found.matrix_, atol=1e-9, rtol=0)


def test_moments_take_rows_of_any_float_and_of_large_means() -> None:
    rows = drawn(300, 5)
    parted = PairedMoments.empty(5, 5)
    for chunk in (rows + 1e6).split(50):
        parted = parted.including(chunk, chunk)
    wanted = PairedMoments.of(rows, rows)
    torch.testing.assert_close(parted.cross, wanted.cross, rtol=1e-8, atol=1e-6)
    kept = rows.float()
    moments = PairedMoments.of(kept, kept.bfloat16())
    assert moments.cross.dtype == torch.float64
    torch.testing.assert_close(kept, rows.float(), rtol=0, atol=0)


def test_mistakes_are_told_with_what_to_do() -> None:
    found = Ridge(0.1).fit(drawn(30, 4), drawn(30, 3, seed=1))
    settings, tensors = found.to_state()
    with pytest.raises(IncompatibleError, match="width 3 and cannot be scored on width 5"):
        found.score(drawn(30, 4), drawn(30, 5))
    with pytest.raises(FileFormatError, match="no setting 'rank'"):
        Ridge.from_state({**settings, "rank": 3}, tensors)
    for wrong in ({"matrix": tensors["matrix"]}, {**tensors, "source_mean": torch.zeros(9)}):
        with pytest.raises(FileFormatError, match="fit and save it again"):
            Ridge.from_state(settings, wrong)
    with pytest.raises(InvalidInputError, match="strength -1 of a ridge"):
        alignment_method("reduced-rank", strength=-1.0).fit(drawn(30, 4), drawn(30, 4))
    with pytest.raises(UnknownNameError, match="unknown option of ridge 'strenght'. Did you mean 'strength'"):
        alignment_method("ridge", strenght=1.0)
    with pytest.raises(InvalidInputError, match="give at least one part"):
        Ridge().fit([])
    with pytest.raises(InvalidInputError, match="NaN or infinite: leave those pairs out"):
        Ridge().fit(torch.full((4, 2), torch.inf), torch.ones(4, 2))
