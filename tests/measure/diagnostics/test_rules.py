"""What is decided from recoveries, without a model."""

from __future__ import annotations

import pytest
import torch

from persona_interp.alignment.layer_map import equal_depth
from persona_interp.measure.bootstrap import QuestionBootstrap
from persona_interp.measure.diagnostics.causes import CAUSES, named, shapley, subsets
from persona_interp.measure.diagnostics.fixes import Fixes, Push, padded
from persona_interp.measure.diagnostics.verdict import verdict
from persona_interp.measure.point import DosePoint
from persona_interp.measure.recovery import gated, gated_recovery
from persona_interp.measure.statistics import Estimate

SURE, LOST = Estimate(0.98, 0.9, 1.05, 5), Estimate(0.02, -0.1, 0.2, 5)
OPEN, UNKNOWN = Estimate(0.55, 0.3, 0.8, 5), Estimate(None, None, None, 0)


def point(coefficient: float, scores: tuple[float | None, ...], coherence: float = 100.0) -> DosePoint:
    return DosePoint(coefficient, None, scores, (coherence,) * len(scores))


@pytest.mark.parametrize("present", subsets(), ids=named)
def test_causes_are_those_whose_fix_the_full_fix_cannot_do_without(present: frozenset[str]) -> None:
    without = {cause: LOST if cause in present else SURE for cause in CAUSES}
    found = verdict(LOST if present else SURE, SURE, without)
    assert found.name == named(present)
    assert "recovers" in found.reason
    assert found.causes == {cause: "present" if cause in present else "excluded" for cause in CAUSES}
    assert found.deciders == {}


def test_what_cannot_be_told_is_not_told() -> None:
    fine = dict.fromkeys(CAUSES, SURE)
    assert verdict(OPEN, SURE, fine).name == "inconclusive"
    assert "as many questions" in verdict(LOST, SURE, {**fine, "basis": OPEN}).reason
    assert verdict(LOST, OPEN, fine).name == "inconclusive"
    assert "larger coefficients would decide it" in verdict(UNKNOWN, UNKNOWN, fine).reason
    assert "no single fix is needed" in verdict(LOST, SURE, fine).reason
    unexplained = verdict(LOST, LOST, fine)
    assert unexplained.name == "not explained"
    assert "length, basis and layer do not explain the loss" in unexplained.reason


def test_what_is_open_is_said_of_each_cause_with_what_would_decide_it() -> None:
    one = verdict(LOST, SURE, {"magnitude": LOST, "basis": OPEN, "layers": SURE})
    assert one.name == "inconclusive"
    assert one.causes == {"magnitude": "present", "basis": "open", "layers": "excluded"}
    assert list(one.deciders) == ["basis"]
    assert "what is left without the fix of basis is 0.55 [0.30, 0.80]" in one.deciders["basis"]
    assert "about 25 times as many questions or samples would decide it" in one.reason
    wide = Estimate(0.4, 0.2, 0.6, 5)
    assert "about 4 times as many" in verdict(LOST, SURE, {**dict.fromkeys(CAUSES, LOST), "layers": wide}).reason
    assert "other doses" in verdict(LOST, SURE, {**dict.fromkeys(CAUSES, LOST), "layers": Estimate(0.5, 0.2, 0.8, 5)}).reason


def test_whether_there_is_a_loss_at_all_comes_before_its_causes() -> None:
    maybe = verdict(OPEN, SURE, {"magnitude": LOST, "basis": SURE, "layers": SURE})
    assert maybe.causes == {"magnitude": "open", "basis": "excluded", "layers": "excluded"}
    assert "the recovery of the unfixed vector" in maybe.deciders["magnitude"]
    stand_ins = verdict(LOST, SURE, dict.fromkeys(CAUSES, SURE))
    assert set(stand_ins.causes.values()) == {"open"}
    assert "other doses" in stand_ins.deciders["basis"]
    either = verdict(OPEN, SURE, dict.fromkeys(CAUSES, SURE))
    assert (either.name, set(either.causes.values())) == ("inconclusive", {"open"})
    assert "the recovery of the unfixed vector" in either.reason
    unknown = verdict(LOST, SURE, {**dict.fromkeys(CAUSES, LOST), "layers": UNKNOWN})
    assert unknown.causes["layers"] == "open"
    lost = verdict(LOST, LOST, dict.fromkeys(CAUSES, LOST))
    assert (lost.name, set(lost.causes.values())) == ("not explained", {"open"})
    assert "a better map" in lost.deciders["basis"]


def test_shapley_values_sum_to_what_all_fixes_add() -> None:
    values = {fixed: float("basis" in fixed and "magnitude" in fixed) + 0.1 * len(fixed) for fixed in subsets()}
    found = shapley(values)
    assert sum(found.values()) == pytest.approx(1.3)
    assert found["basis"] == pytest.approx(found["magnitude"]) == pytest.approx(0.6)
    assert found["layers"] == pytest.approx(0.1)


def test_each_fix_sets_one_of_layer_direction_and_length() -> None:
    naive, full = Push(1, torch.eye(4)[0].double(), 2.0), Push(3, torch.eye(4)[1].double(), 6.0)
    arms = Fixes(naive, full, "procrustes")
    for fixed in subsets():
        push = arms.push(fixed)
        assert (push.layer == 3) is ("layers" in fixed)
        assert (push.norm == 6.0) is ("magnitude" in fixed)
        assert torch.equal(push.unit, full.unit if "basis" in fixed else naive.unit)
    assert torch.equal(arms.push(frozenset(CAUSES)).direction, 6 * full.unit)
    assert torch.equal(padded(torch.arange(3.0), 5), torch.tensor([0.0, 1.0, 2.0, 0.0, 0.0]))
    assert torch.equal(padded(torch.arange(3.0), 2), torch.tensor([0.0, 1.0]))
    assert equal_depth(5, 6, 3) == 2


def test_broken_answers_are_no_effect() -> None:
    baseline, native = point(0, (50.0,) * 4), (point(-1, (10.0,) * 4), point(1, (90.0,) * 4))
    bootstrap = QuestionBootstrap(4, 1)
    half = (point(-1, (30.0,) * 4), point(1, (70.0,) * 4))
    assert gated_recovery(half, native, baseline, bootstrap).value == pytest.approx(0.5)
    assert gated_recovery(native[::-1], native[::-1], baseline, bootstrap).value == pytest.approx(1)
    broken = (point(-1, (0.0,) * 4, coherence=40.0), point(1, (100.0, None, 100.0, 100.0), coherence=69.0))
    assert gated(broken[1], baseline) == (50.0,) * 4
    assert gated_recovery(broken, native, baseline, bootstrap).value == 0
    weak = (point(-1, (45.0,) * 4), point(1, (55.0,) * 4))
    assert gated_recovery(half, weak, baseline, bootstrap).value is None
