"""The map of a scan holds every measured cell under the right column, empty cells stay empty, and colours are even-handed."""

from __future__ import annotations

import pytest

from persona_interp.measure.layer_scan import LayerScan
from persona_interp.measure.point import DosePoint
from persona_interp.plotting.palette import SEQUENTIAL, diverging
from persona_interp.plotting.scan import scan_figure


def point(coefficient: float, trait: float | None, coherence: float = 95.0, ratio: float | None = 0.5) -> DosePoint:
    scores = (None, None) if trait is None else (trait - 5, trait + 5)
    return DosePoint(coefficient, ratio, scores, (coherence, coherence), ("<i>pling",))


def a_scan(by_layer: dict[int, tuple[DosePoint, ...]], baseline: float | None = 20.0) -> LayerScan:
    return LayerScan("silly", "tiny", "grammar", "all", point(0.0, baseline), by_layer, {"samples": 1})


SHARED = a_scan(
    {
        2: (point(1.0, 50.0), point(-1.0, 10.0, coherence=60.0)),
        5: (point(1.0, 90.0, ratio=0.2), point(-1.0, None)),
    }
)


def test_every_cell_is_where_it_was_measured_and_the_baseline_stands_at_0() -> None:
    trait, coherence = scan_figure(SHARED).data
    assert list(trait.x) == ["-1", "0", "+1"]
    assert list(trait.y) == ["2", "★ 5"]
    assert [list(row) for row in trait.z] == [[10.0, 20.0, 50.0], [None, 20.0, 90.0]]
    assert [list(row) for row in coherence.z] == [[60.0, 95.0, 95.0], [95.0, 95.0, 95.0]]
    assert [list(row) for row in trait.text] == [["10×", "20", "50"], ["", "20", "90"]]


def test_hover_has_numbers_intervals_the_push_and_an_escaped_answer() -> None:
    (text,) = {row[2] for row in scan_figure(SHARED).data[0].customdata if "layer 5" in row[2]}
    assert "layer 5, coefficient +1" in text
    assert "0.20 of the mean residual norm" in text
    assert "silly score 90.0 [85.0, 95.0]" in text
    assert "change 70.0 [70.0, 70.0] points" in text
    assert "coherence 95.0 [95.0, 95.0]" in text
    assert "2 answers, 0 without a score" in text
    assert "&lt;i&gt;pling" in text


def test_an_interval_needs_more_than_one_question_however_many_answers() -> None:
    scan = LayerScan("silly", "tiny", "grammar", "all", point(0.0, 20.0), {1: (point(1.0, 50.0),)}, {"samples": 2})
    assert "silly score 50.0<br>" in scan_figure(scan).data[0].customdata[0][1]


def test_layers_with_coefficients_of_their_own_share_perturbation_ratios() -> None:
    scan = a_scan({0: (point(-4.0, 10.0, ratio=0.2), point(4.0, 30.0, ratio=0.2)), 1: (point(0.5, 40.0, ratio=0.2000001),)})
    figure = scan_figure(scan)
    assert list(figure.data[0].x) == ["-0.2", "0", "+0.2"]
    assert [list(row) for row in figure.data[0].z] == [[10.0, 20.0, 30.0], [None, 20.0, 40.0]]
    assert figure.layout.xaxis.title.text.startswith("perturbation ratio<br>(signed share of the mean residual norm")
    assert "layer 1: not measured" in figure.data[0].customdata[1][0]


@pytest.mark.parametrize("ratio", [None, 0.3])
def test_layers_that_share_neither_are_lined_up_by_step(ratio: float | None) -> None:
    scan = a_scan(
        {
            0: (point(4.0, 30.0, ratio=ratio), point(8.0, 60.0, ratio=None if ratio is None else 0.6)),
            1: (point(0.5, 40.0, ratio=ratio), point(0.25, 35.0, ratio=None if ratio is None else 0.1)),
        }
    )
    figure = scan_figure(scan)
    assert list(figure.data[0].x) == ["0", "+1", "+2"]
    assert [list(row) for row in figure.data[0].z] == [[20.0, 30.0, 60.0], [20.0, 35.0, 40.0]]
    assert "each layer has its own coefficients" in figure.layout.xaxis.title.text


def test_white_is_the_unsteered_score_and_equal_distances_have_equal_strength() -> None:
    trait, coherence = scan_figure(SHARED).data
    assert (trait.zmin, trait.zmax) == (coherence.zmin, coherence.zmax) == (0, 100)
    (low, weak), (middle, white), (high, _) = trait.colorscale
    assert (low, middle, white, high) == (0.0, 0.2, "#FFFFFF", 1.0)
    full = diverging()[0][1]
    assert distance(weak) == pytest.approx(distance(full) * 0.2 / 0.8, abs=2)
    assert [colour for _, colour in coherence.colorscale] == [colour for _, colour in SEQUENTIAL]


@pytest.mark.parametrize("middle", [0.0, 0.2, 0.5, 0.9, 1.0])
def test_a_diverging_scale_is_white_at_its_middle_and_spans_everything(middle: float) -> None:
    scale = diverging(middle)
    assert dict(map(tuple, scale))[middle] == "#FFFFFF"
    assert [scale[0][0], scale[-1][0]] == [0.0, 1.0]
    ends = [distance(colour) / (abs(place - middle)) for place, colour in scale if place != middle]
    if len(ends) == 2:
        reaches = [distance(diverging()[0][1]), distance(diverging()[-1][1])]
        assert ends[0] / reaches[0] == pytest.approx(ends[1] / reaches[1], rel=0.1)


def distance(colour: object) -> float:
    """How far a colour lies from white."""
    text = str(colour)
    return sum((255 - int(text[start : start + 2], 16)) ** 2 for start in (1, 3, 5)) ** 0.5


def test_no_layer_is_starred_where_none_steers_and_no_number_is_made_up() -> None:
    figure = scan_figure(a_scan({0: (point(1.0, None),), 1: (point(1.0, 10.0),)}, baseline=None))
    assert list(figure.data[0].y) == ["0", "1"]
    assert [list(row) for row in figure.data[0].z] == [[None, None], [None, 10.0]]
    assert "no layer moves the score" in figure.layout.title.text


def test_many_columns_keep_their_crosses_without_numbers() -> None:
    points = tuple(point(float(c), 30.0, coherence=50.0 if c > 15 else 90.0) for c in range(1, 20))
    trait, coherence = scan_figure(a_scan({0: points})).data
    assert set(trait.text[0]) == {"", "×"}
    assert set(coherence.text[0]) == {""}


def test_axes_and_bars_say_what_they_count_in() -> None:
    figure = scan_figure(SHARED)
    assert figure.layout.yaxis.title.text == "layer (0-based block, its output)"
    assert "multiples of the vector" in figure.layout.xaxis2.title.text
    assert [trace.colorbar.title.text for trace in figure.data] == ["score<br>(0 to 100)", "coherence<br>(0 to 100)"]
