"""Norms and massive dimensions are drawn as the vector records them; what it does not record is not made up."""

from __future__ import annotations

from typing import Any

import torch

from persona_interp.models.identity import ModelIdentity
from persona_interp.plotting.residuals import residual_figure
from persona_interp.vectors.massive import DIRECTION_SHARE, MEDIAN_RATIO, MassiveDimension
from persona_interp.vectors.persona_vector import PersonaVector


def a_vector(*massive: MassiveDimension, **statistics: tuple[float | None, ...]) -> PersonaVector:
    identity = ModelIdentity("tiny", None, "f", n_layers=4, d_model=64)
    return PersonaVector(torch.ones(3, 64), (0, 1, 3), "silly", identity, statistics=statistics, massive=massive)


def named(figure: Any, name: str) -> list[Any]:
    return [trace for trace in figure.data if trace.name == name]


def test_norms_are_those_recorded_with_gaps_where_there_are_none() -> None:
    figure = residual_figure(a_vector(resid_norm=(3.0, None, 9.0), positive_norm=(None, None, None)))
    (trace,) = figure.data
    assert list(trace.x) == [0, 1, 3]
    assert list(trace.y) == [3.0, None, 9.0]
    assert trace.connectgaps is False
    assert "no massive dimension is recorded" in figure.layout.annotations[0].text


def test_a_dimension_is_one_line_in_both_panels_interrupted_where_it_does_not_stand_out() -> None:
    figure = residual_figure(
        a_vector(
            MassiveDimension(0, 7, 12.0, 300.0, 0.5),
            MassiveDimension(3, 7, 24.0, 600.0, 0.1),
            MassiveDimension(1, 9, 3.0, 50.0, 0.3),
            resid_norm=(3.0, 5.0, 9.0),
        )
    )
    ratio, share = named(figure, "dimension 7")
    assert list(ratio.x) == [0, 1, 2, 3]
    assert list(ratio.y) == [300.0, None, None, 600.0]
    assert list(share.y) == [0.5, None, None, 0.1]
    assert "layer 3, dimension 7" in ratio.customdata[3]
    assert "mean |h| 24, 600 times the median<br>10.0% of the vector" in ratio.customdata[3]
    assert named(figure, "dimension 9")[0].line.color != ratio.line.color
    assert [shape.y0 for shape in figure.layout.shapes] == [MEDIAN_RATIO, DIRECTION_SHARE]


def test_many_dimensions_do_not_flood_the_legend_and_none_is_lost() -> None:
    massive = tuple(MassiveDimension(i % 2, i, 1.0, 100.0 + i, 0.0) for i in range(40))
    figure = residual_figure(a_vector(*massive))
    (rest, _) = named(figure, "28 other dimensions")
    assert rest.mode == "markers"
    assert len([trace for trace in figure.data if trace.showlegend]) == 13
    drawn = [y for trace in figure.data if trace.yaxis == "y2" for y in trace.y if y is not None]
    assert sorted(drawn) == [100.0 + i for i in range(40)]
    assert named(figure, "dimension 39")  # the largest have a colour of their own


def test_axes_have_units() -> None:
    figure = residual_figure(a_vector(MassiveDimension(0, 7, 12.0, 300.0, 0.5), resid_norm=(3.0, 5.0, 9.0)))
    titles = [axis.title.text for axis in figure.select_yaxes()]
    assert titles == ["norm<br>(activation units)", "mean |h| over median<br>(times)", "share of squared norm<br>(0 to 1)"]
    assert figure.layout.xaxis3.title.text == "layer (0-based block, its output)"
