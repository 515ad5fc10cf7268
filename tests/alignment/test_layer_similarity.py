"""Similarity of all pairs of layers in one pass: the same as from rows at once, whatever the chunks and the means."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import subspace_angles
from torch import Tensor

from persona_interp.alignment.layer_similarity import MEASURES, similarity_matrices
from persona_interp.alignment.similarity import linear_cka, pwcca, svcca
from persona_interp.errors import IncompatibleError, InvalidInputError, UnknownNameError

Layers = dict[int, Tensor]


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def models(n: int, offset: float = 0.0) -> tuple[Layers, Layers]:
    """Three layers of width 7, and two of width 5 that depend on the first and the last."""
    source = {layer: (drawn(n, 7, seed=layer) + 0.5 * drawn(n, 1, seed=50)) * 2**layer + offset for layer in (0, 1, 2)}
    mixed = {4: 0, 9: 2}
    target = {layer: source[of][:, :5] @ drawn(5, 5, seed=layer) + drawn(n, 5, seed=20 + layer) for layer, of in mixed.items()}
    return source, target


def chunked(sides: tuple[Layers, Layers], size: int) -> Iterator[tuple[Layers, Layers]]:
    n = len(next(iter(sides[0].values())))
    for start in range(0, n, size):
        source, target = ({layer: rows[start : start + size] for layer, rows in side.items()} for side in sides)
        yield source, target


@settings(max_examples=15, deadline=None)
@given(size=st.integers(1, 90), n=st.integers(30, 90), offset=st.sampled_from([0.0, 1000.0]))
def test_one_pass_gives_what_all_rows_give(size: int, n: int, offset: float) -> None:
    sides = models(n, offset)
    found = similarity_matrices(chunked(sides, size), variance=0.9)
    direct = {
        "cka": linear_cka,
        "svcca": lambda x, y: svcca(x, y, variance=0.9),
        "pwcca": lambda x, y: pwcca(x, y, variance=0.9),
    }
    for name, measure in direct.items():
        wanted = torch.tensor([[measure(x, y) for y in sides[1].values()] for x in sides[0].values()], dtype=torch.float64)
        torch.testing.assert_close(found[name], wanted, rtol=1e-6, atol=1e-8)


def test_principal_angles_are_those_of_the_centred_rows() -> None:
    sides = models(60)
    (found,) = similarity_matrices(chunked(sides, 11), measures=["angle"], variance=1.0).values()
    centred = [[(rows - rows.mean(0)).numpy() for rows in side.values()] for side in sides]
    wanted = torch.tensor([[subspace_angles(x, y).mean() for y in centred[1]] for x in centred[0]])
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-8)


def test_turning_scaling_and_shifting_a_layer_change_nothing() -> None:
    x = drawn(200, 6)
    turned = 3 * x @ torch.linalg.qr(drawn(6, 6, seed=1))[0] - 50
    found = similarity_matrices([({0: x}, {0: turned})])
    for measure in ("cka", "svcca", "pwcca"):
        assert float(found[measure]) == pytest.approx(1, abs=1e-9)
    assert float(found["angle"]) == pytest.approx(0, abs=1e-5)


def test_debiased_similarity_of_noise_is_about_zero_however_wide_it_is() -> None:
    chunks = [({0: drawn(50, 300, seed=n)}, {0: drawn(50, 300, seed=100 + n)}) for n in range(4)]
    assert abs(float(similarity_matrices(chunks, measures=["cka"])["cka"])) < 0.02


def test_corresponding_layers_are_the_most_alike() -> None:
    found = similarity_matrices(chunked(models(400), 64))
    for measure in MEASURES:
        best = found[measure].argmin(dim=0) if measure == "angle" else found[measure].argmax(dim=0)
        assert best.tolist() == [0, 2]
    assert float(found["angle"].max()) < math.pi / 2


def test_what_cannot_be_compared_is_refused_with_the_reason() -> None:
    x, y = drawn(9, 3), drawn(9, 4)
    with pytest.raises(UnknownNameError, match="cka"):
        similarity_matrices([({0: x}, {0: y})], measures=["ckaa"])
    with pytest.raises(InvalidInputError, match="3 rows means nothing: give at least 4"):
        similarity_matrices([({0: x[:3]}, {0: y[:3]})])
    with pytest.raises(InvalidInputError, match="0 rows"):
        similarity_matrices([])
    with pytest.raises(InvalidInputError, match="variance 2 is no share"):
        similarity_matrices([({0: x}, {0: y})], variance=2.0)
    with pytest.raises(InvalidInputError, match="1 values of the target's rows are NaN"):
        similarity_matrices([({0: x}, {0: torch.where(y == y[0, 0], torch.nan, y)})])
    with pytest.raises(InvalidInputError, match="leave the layer out"):
        similarity_matrices([({0: torch.ones(9, 3)}, {0: y})])
    with pytest.raises(IncompatibleError, match="give the same layers in every chunk"):
        similarity_matrices([({0: x}, {0: y}), ({1: x}, {0: y})])
    with pytest.raises(IncompatibleError, match="give the same texts and layers"):
        similarity_matrices([({0: x}, {0: y[:5]})])
    with pytest.raises(IncompatibleError, match="give at least one"):
        similarity_matrices([({}, {0: y})])
