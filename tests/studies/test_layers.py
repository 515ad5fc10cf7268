"""The bench of layer choices: shares, regrets and the comparison with a plan are what the scores say."""

from __future__ import annotations

from pathlib import Path

import pytest

from persona_interp.errors import FileFormatError
from persona_interp.measure.effectiveness import LayerEffectiveness, LayerScore
from persona_interp.measure.layer_plan import LayerPlan
from persona_interp.measure.layer_scan import LayerScan
from persona_interp.measure.point import DosePoint
from persona_interp.storage import read_json, write_json
from persona_interp.studies.layers import LayerBench, _choice, _compared, layers_markdown

EFFECTS = {0: 10.0, 1: 76.0, 2: 80.0}


def scores(*values: float, method: str = "likelihood", n_tokens: int = 50) -> LayerEffectiveness:
    return LayerEffectiveness("silly", "tiny", method, tuple(LayerScore(i, v) for i, v in enumerate(values)), n_tokens)


SWEEP = scores(5.0, 60.0, 90.0, method="sweep", n_tokens=1000)


def test_a_choice_is_measured_against_the_sweeps_and_against_the_best() -> None:
    found = _choice("likelihood", 1, scores(0.1, 0.9, 0.5), EFFECTS, SWEEP)
    assert (found.effect, found.regret, found.share, found.token_share) == (76.0, 4.0, 0.95, 0.05)
    assert found.spearman == pytest.approx(0.5)
    fixed = _choice("fixed layer", 0, None, EFFECTS, SWEEP)
    assert (fixed.spearman, fixed.tokens, fixed.regret) == (None, 0, 70.0)
    nothing = _choice("likelihood", 1, scores(1.0, 2.0, 3.0), dict.fromkeys(EFFECTS, 0.0), SWEEP)
    assert (nothing.share, nothing.spearman) == (None, None), "where no layer does anything, no share of it is defined"


def point(coefficient: float, scores: tuple[float, ...], coherence: float = 95.0) -> DosePoint:
    return DosePoint(coefficient, abs(coefficient), scores, (coherence,) * len(scores))


def test_a_plan_is_compared_on_questions_that_neither_dose_was_picked_on() -> None:
    single = (point(0.4, (60.0, 80.0, 60.0, 80.0)),)
    truth = LayerScan("silly", "tiny", "exact", "all", point(0.0, (0.0, 20.0, 0.0, 20.0)), {1: single, 2: ()})
    low, high = point(0.2, (50.0, 90.0, 54.0, 94.0)), point(0.4, (80.0, 70.0, 82.0, 76.0))
    plan = _compared(LayerPlan({1: 0.5, 2: 0.5}, 1.0), [low, high, point(0.8, (100.0,) * 4, coherence=40.0)], truth, 1, 1)
    assert (plan.effect, plan.coherence) == (67.0, 95.0), "of the best coherent budget on all questions"
    assert plan.difference == pytest.approx(-7.5), "even questions would pick the higher budget, odd ones the lower"
    assert plan.low is not None
    assert plan.low < -7.5
    assert plan.layers == (1, 2)
    nothing = _compared(LayerPlan({1: 0.5}, 1.0), [point(0.8, (100.0,) * 4, coherence=40.0)], truth, 1, 1)
    assert (nothing.effect, nothing.difference) == (0.0, pytest.approx(-60.0)), "a plan that breaks the model does nothing"


def bench(share: float, token_share: float) -> LayerBench:
    methods = ("sweep", "likelihood", "gradient", "lens", "geometry", "fixed layer", "fixed depth")
    choices = tuple(_choice(name, 1, None, EFFECTS, SWEEP) for name in methods)
    auto = choices[1].__class__("likelihood", 1, 76.0, 4.0, share, None, 50, token_share)
    plan = _compared(LayerPlan({1: 0.5}, 1.0), [point(0.2, (50.0, 70.0))], _flat(), 1, 1)
    return LayerBench("organism-tiny", "silly", EFFECTS, (choices[0], auto, *choices[2:]), plan)


def _flat() -> LayerScan:
    return LayerScan("silly", "tiny", "exact", "all", point(0.0, (0.0, 20.0)), {1: (point(0.4, (60.0, 80.0)),)})


def test_the_bar_is_effect_and_tokens_together() -> None:
    assert bench(0.95, 0.10).met
    assert not bench(0.94, 0.10).met
    assert not bench(0.99, 0.11).met


def test_a_bench_reads_back_and_shows_what_it_holds(tmp_path: Path) -> None:
    made = bench(0.95, 0.05)
    path = write_json(tmp_path / "bench.json", made.to_json())
    assert LayerBench.from_json(read_json(path, "bench")) == made
    table = layers_markdown([made])
    assert "| tiny | silly | 2 | 80 | 1 | 1 | 0.95 | 5.0 % | 4 | 4 | 4 | 4 | 4 | 4 | 4 | -10 |" in table
    with pytest.raises(FileFormatError, match="bench: field 'layers' is missing in plan"):
        LayerBench.from_json({**made.to_json(), "plan": {}})
