"""Principal components find the direction texts differ in, layer by layer, whatever their sign."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from persona_interp.errors import InvalidInputError
from persona_interp.residuals.components import principal_components

N, D = 24, 6
GROUPS = ["negative", "positive"] * (N // 2)


def residuals(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Two kinds far apart along a direction that differs by layer, with noise, far from 0; and that direction."""
    seeds = torch.Generator().manual_seed(seed)
    directions = torch.randn(2, D, generator=seeds)
    sides = torch.tensor([1.0 if group == "positive" else -1.0 for group in GROUPS])
    noise = 0.2 * torch.randn(N, 2, D, generator=seeds)
    return 50 + 4 * sides.view(-1, 1, 1) * directions + noise, directions


def test_components_are_those_of_scikit_learn_up_to_their_sign() -> None:
    resid, _ = residuals()
    found = principal_components(resid, (3, 5), GROUPS, k=3)
    for row in range(2):
        known = PCA(3).fit(resid[:, row].double().numpy())
        theirs = known.transform(resid[:, row].double().numpy())
        np.testing.assert_allclose(np.abs(found.coordinates[row].numpy()), np.abs(theirs), rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(found.explained[row].numpy(), known.explained_variance_ratio_, rtol=1e-4)


def test_the_last_group_lies_on_the_positive_side_and_the_planted_direction_is_the_first_component() -> None:
    resid, directions = residuals()
    found = principal_components(resid, (3, 5), GROUPS, directions=directions)
    assert (found.coordinates[:, [group == "positive" for group in GROUPS], 0] > 0).all()
    assert (found.coordinates[:, [group == "negative" for group in GROUPS], 0] < 0).all()
    assert found.cosines is not None
    assert (found.cosines[:, 0] > 0.99).all()
    assert (found.explained[:, 0] > 0.9).all()
    turned = principal_components(resid.flip(0), (3, 5), GROUPS, directions=directions)  # now the other kind comes last
    assert turned.cosines is not None
    torch.testing.assert_close(turned.cosines[:, 0], -found.cosines[:, 0])


def test_texts_that_do_not_differ_have_no_variance_and_no_nan() -> None:
    found = principal_components(torch.ones(4, 1, 3), (0,), ["a", "a", "b", "b"], directions=torch.zeros(1, 3))
    assert not found.explained.any()
    assert found.cosines is not None
    assert not torch.isnan(found.cosines).any()


def test_what_does_not_agree_is_refused() -> None:
    resid, _ = residuals()
    with pytest.raises(InvalidInputError, match="24 residuals at 2 layers were given with 24 groups, 1 texts and 2 layers"):
        principal_components(resid, (0, 1), GROUPS, ["one"])
    with pytest.raises(InvalidInputError, match="3 components were asked of 3 texts"):
        principal_components(resid[:3], (0, 1), GROUPS[:3], k=3)
    with pytest.raises(InvalidInputError, match="NaN or infinite"):
        principal_components(resid * torch.inf, (0, 1), GROUPS)
