from __future__ import annotations

import pytest

from persona_interp.errors import UnknownNameError
from persona_interp.residuals.pooling import POOLINGS, pooling


def test_the_three_poolings_of_the_paper_are_captures() -> None:
    read = {name: (capture.positions, capture.reduction) for name, capture in POOLINGS.items()}
    assert read == {
        "response_avg": ("answer", "mean"),
        "prompt_avg": ("prompt", "mean"),
        "prompt_last": ("prompt_last", "mean"),
    }
    assert pooling("prompt_last") is POOLINGS["prompt_last"]


def test_an_unknown_pooling_lists_those_there_are() -> None:
    with pytest.raises(UnknownNameError, match=r"response_avrage.*Did you mean 'response_avg'"):
        pooling("response_avrage")
