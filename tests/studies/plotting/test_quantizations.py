"""Every kind of weights has its row, with the share that is left and what a random direction does there."""

from __future__ import annotations

import pytest

from persona_interp.errors import InvalidInputError
from persona_interp.measure.statistics import Estimate
from persona_interp.plotting.palette import BLUE, GREY
from persona_interp.studies.plotting.quantizations import quantization_figure
from persona_interp.studies.reproduction.quantized_steering import QuantizedSteering


def row(model: str, weights: str, share: float) -> QuantizedSteering:
    estimate, chance = Estimate(share, share - 0.1, share + 0.1, 20), Estimate(0.05, -0.1, 0.2, 20)
    return QuantizedSteering(model, "silly", weights, 1, (0.9, 0.987), estimate, estimate, chance, 97.0)


FOUND = [row("organism-a", "PyTorch", 1.0), row("organism-a", "q4_0", 0.8), row("organism-b", "PyTorch", 1.0)]


def test_shares_stand_in_the_rows_of_their_weights_with_a_random_direction_beside_them() -> None:
    figure = quantization_figure(FOUND)
    assert list(figure.layout.yaxis.ticktext) == ["PyTorch", "q4_0"]
    first, chance, other, _ = [trace for trace in figure.data if trace.showlegend is False]
    assert list(first.x) == [1.0, 0.8]
    assert [round(y) for y in first.y] == [0, 1]
    assert list(chance.x) == [0.05, 0.05]
    assert (first.marker.color, chance.marker.color) == (BLUE, GREY)
    assert first.marker.symbol == chance.marker.symbol != other.marker.symbol
    assert "cosine of 0.987" in first.customdata[1]


def test_nothing_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="no weights"):
        quantization_figure([])
