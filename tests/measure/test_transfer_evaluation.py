"""Recovery and its verdict follow from the scores; a real transfer between two organisms is measured end to end."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import stdev

import pytest

from persona_interp.errors import FileFormatError, IncompatibleError, InvalidInputError
from persona_interp.measure.bootstrap import QuestionBootstrap
from persona_interp.measure.evaluate_transfer import evaluate_transfer
from persona_interp.measure.point import DosePoint
from persona_interp.measure.recovery import gated_recovery, prompted_share, recovery, recovery_at
from persona_interp.measure.scored_vector import scored_vector
from persona_interp.measure.statistics import Estimate
from persona_interp.measure.transfer_evaluation import CONTROLS, CarriedCurve, TransferEvaluation
from persona_interp.models.registry import load_model
from persona_interp.models.sampling import Sampling
from persona_interp.organisms.anchors import organism_anchors
from persona_interp.organisms.grammar_judge import GrammarJudge
from persona_interp.organisms.trait_texts import organism_trait
from persona_interp.studies.transfers import TransferCase, summary, transfer_markdown, unmet
from persona_interp.transfers.reading import read_rows

N = 12
BOOTSTRAP = QuestionBootstrap(N, 1)


def point(coefficient: float, mean: float, coherence: float = 95.0, wobble: float = 2.0) -> DosePoint:
    scores = tuple(mean + wobble * (-1) ** n for n in range(N))
    return DosePoint(coefficient, abs(coefficient), scores, (coherence,) * N, ("An answer.",) * 3)


def curve(*means: float, coherence: float = 95.0) -> tuple[DosePoint, ...]:
    return tuple(point(c, mean, coherence) for c, mean in zip((-1.0, 1.0), means, strict=True))


BASE = point(0.0, 40.0)
NATIVE = curve(10.0, 90.0)


def test_recovery_is_a_ratio_of_slopes() -> None:
    assert recovery([NATIVE], NATIVE, BASE, BOOTSTRAP).value == pytest.approx(1)
    assert recovery([curve(20.0, 60.0)], NATIVE, BASE, BOOTSTRAP).value == pytest.approx(0.5)
    assert recovery([curve(60.0, 20.0)], NATIVE, BASE, BOOTSTRAP).value == pytest.approx(-0.5)
    two = recovery([curve(20.0, 60.0), curve(60.0, 20.0)], NATIVE, BASE, BOOTSTRAP)
    assert two.value == pytest.approx(0, abs=1e-9)
    assert two.low <= 0 <= two.high
    assert recovery_at(point(1.0, 65.0), NATIVE[1], BASE, BOOTSTRAP).value == pytest.approx(0.5)
    assert prompted_share(point(0, 80.0), point(0, 40.0), NATIVE, BASE, BOOTSTRAP).value == pytest.approx(0.5)


def test_recovery_does_not_depend_on_the_order_of_the_points() -> None:
    carried = curve(30.0, 85.0)
    for turned in (recovery([carried[::-1]], NATIVE, BASE, BOOTSTRAP), recovery([carried], NATIVE[::-1], BASE, BOOTSTRAP)):
        assert turned == recovery([carried], NATIVE, BASE, BOOTSTRAP)
    assert recovery([NATIVE[::-1]], NATIVE, BASE, BOOTSTRAP).value == pytest.approx(1)
    assert gated_recovery(carried[::-1], NATIVE, BASE, BOOTSTRAP) == gated_recovery(carried, NATIVE, BASE, BOOTSTRAP)
    data = json.loads(json.dumps(evaluation(carried).to_json()))
    data["methods"]["effects"]["results"].reverse()
    assert TransferEvaluation.from_json(data).recovery == evaluation(carried).recovery


@pytest.mark.parametrize(
    "compare",
    [
        lambda points: recovery([points], NATIVE, BASE, BOOTSTRAP),
        lambda points: gated_recovery(points, NATIVE, BASE, BOOTSTRAP),
        lambda points: evaluation(points),
    ],
)
def test_a_missing_or_a_further_point_is_refused_by_name(compare: Callable[[tuple[DosePoint, ...]], object]) -> None:
    with pytest.raises(InvalidInputError, match=r"at coefficients 1 cannot be compared with one at -1, 1: measure both at -1"):
        compare(NATIVE[1:])
    with pytest.raises(InvalidInputError, match=r"measure both at 2, or leave these out"):
        compare((*NATIVE, point(2.0, 95.0)))
    with pytest.raises(InvalidInputError, match="there twice"):
        compare((*NATIVE, NATIVE[0]))


def test_where_native_steering_does_little_no_share_is_given() -> None:
    weak = curve(30.0, 50.0)
    assert recovery([NATIVE], curve(35.0, 45.0), BASE, BOOTSTRAP).value is None
    assert recovery_at(NATIVE[1], weak[1], BASE, BOOTSTRAP).value is None
    found = evaluation(curve(10.0, 90.0), native=weak)
    assert found.recovery.value is None
    assert found.verdict.startswith("undefined: the target's own vector moves silly by 10 points")
    assert found.to_json()["recovery"]["estimate"] is None


def evaluation(
    points: tuple[DosePoint, ...], native: tuple[DosePoint, ...] = NATIVE, control: tuple[DosePoint, ...] | None = None
) -> TransferEvaluation:
    flat = curve(40.0, 40.0) if control is None else control
    return TransferEvaluation(
        "silly", "ours", "theirs", "exact", tuple(f"Question {n}?" for n in range(N)), 1, 2, BASE, native,
        (CarriedCurve("effects", {"coverage": {"signal": 0.9}}, points, 0.8), CarriedCurve("naive", {}, flat, None)),
        {"random": (flat, flat), "shuffled": (flat,)}, point(0, 95.0), point(0, 5.0),
    )  # fmt: skip


def test_the_verdict_follows_from_the_intervals() -> None:
    assert evaluation(curve(12.0, 85.0)).verdict.startswith("transfers: recovers 0.91 [")
    assert evaluation(curve(30.0, 55.0)).verdict.startswith("transfers in part: recovers 0.31 [")
    assert evaluation(curve(41.0, 39.0)).verdict.startswith("does not transfer: recovers -0.0")
    assert evaluation(curve(30.0, 60.0), control=curve(30.0, 60.0)).verdict.startswith("does not transfer"), "no more than chance"
    broken = evaluation(curve(12.0, 85.0, coherence=50.0))
    assert broken.verdict.startswith("transfers, but coherence falls below 70: ")
    assert broken.coherent is False


def test_a_control_of_several_directions_is_as_uncertain_as_they_differ() -> None:
    alike = recovery([curve(38.0, 42.0)] * 4, NATIVE, BASE, BOOTSTRAP)
    apart = recovery([curve(40.0 - x, 40.0 + x) for x in (-16.0, -6.0, 10.0, 20.0)], NATIVE, BASE, BOOTSTRAP)
    assert alike.value == pytest.approx(apart.value or 0.0)
    assert alike.high is not None
    assert apart.high is not None
    assert apart.value is not None
    sem = stdev(x / 40 for x in (-16.0, -6.0, 10.0, 20.0)) / 2  # the native slope is 40 points
    assert apart.high - apart.value == pytest.approx(
        ((alike.high - (alike.value or 0.0)) ** 2 + (3.182 * sem) ** 2) ** 0.5, rel=0.01
    )


def test_a_vector_that_does_what_one_random_direction_does_is_not_said_to_transfer() -> None:
    strong, still = curve(25.0, 55.0), curve(40.0, 40.0)
    found = evaluation(curve(30.0, 50.0))
    assert found.verdict.startswith("transfers in part"), "no random direction did anything"
    lucky = replace(found, controls={"random": (strong, still, still, still), "shuffled": (still,)})
    assert lucky.verdict.startswith("does not transfer"), "the mean of the four is far below, and one of them did more"


def test_a_vector_that_works_without_a_map_is_said_to() -> None:
    found = evaluation(curve(12.0, 85.0))
    assert "naive 0.00" in found.verdict
    assert "cut or padded" not in found.verdict
    assert found.to_json()["controls"]["naive"]["estimate"] == 0, "a control also where it was asked for as a method"
    first, _ = found.carried
    alike = replace(found, carried=(first, CarriedCurve("naive", {}, curve(15.0, 88.0), None)))
    assert alike.verdict.startswith("transfers, but the vector cut or padded may do as well: recovers 0.91 [")


def test_the_json_has_what_others_rely_on_and_reads_back() -> None:
    found = evaluation(curve(12.0, 85.0))
    data = json.loads(json.dumps(found.to_json()))
    assert {
        "source",
        "target",
        "trait",
        "method",
        "results",
        "recovery",
        "controls",
        "cosine_to_native",
        "coverage",
        "verdict",
    } <= set(data)
    assert {"coefficient", "trait_score", "coherence", "perturbation_ratio", "examples", "recovery"} <= set(data["results"][0])
    assert set(data["recovery"]) >= {"estimate", "low", "high"}
    assert all(set(value) >= {"estimate", "low", "high"} for value in data["controls"].values())
    assert TransferEvaluation.from_json(data).to_json() == data
    del data["native"]
    with pytest.raises(FileFormatError, match="'native' is missing"):
        TransferEvaluation.from_json(data)


# -- the bench -------------------------------------------------------------------------------------------------------


def case(recovered: float | None, shuffled: float = 0.0, coherence: float = 98.0) -> TransferCase:
    def estimate(value: float | None) -> Estimate:
        return Estimate(value, None if value is None else value - 0.1, None if value is None else value + 0.1, 8)

    names = ("effects", "procrustes", "cca", "ridge", "reduced-rank", "anchors", "naive")
    recoveries = {name: estimate(0.0 if name == "naive" else recovered) for name in names}
    controls = {name: estimate(0.0) for name in ("random", "equal depth", "wrong trait", "prompt only")}
    covered = {"norm": 0.9, "effect": 0.9, "signal": None}
    left_out = {
        "n_anchors": 5, "recoveries": {"effects": estimate(0.1), "ridge": estimate(0.0)}, "coverage": covered,
        "quality": {"correlation": 0.1},
    }  # fmt: skip
    return TransferCase(
        "organism-a", "organism-b", "silly", 70.0, 1, 2, 3, recoveries, {**controls, "shuffled": estimate(shuffled)},
        dict.fromkeys(names, 0.5), covered, {"correlation": 0.9}, coherence, "transfers", left_out,
    )  # fmt: skip


def test_the_bar_is_read_from_the_cases() -> None:
    assert unmet([case(0.9), case(0.75), case(None)]) == []
    assert "mean recovery 0.75 < 0.8" in unmet([case(0.75)])
    assert any("recovery 0.50" in said for said in unmet([case(1.3), case(0.5)]))
    assert any("coherence 60" in said for said in unmet([case(0.9, coherence=60.0)]))
    assert unmet([case(0.9, shuffled=0.2)]) == ["shuffled: 0.20 on average > 0.1"]
    assert "effects recover 0.80 on average (0.70 to 0.90); random 0.00" in summary([case(0.9), case(0.7), case(None)])
    data = json.loads(json.dumps(case(0.9).to_json()))
    assert TransferCase.from_json(data).to_json() == case(0.9).to_json()
    text = transfer_markdown([case(0.9)])
    assert "| a → b | silly | 70 | 1 → 2 (3) | 0.90 [0.80, 1.00] |" in text
    with pytest.raises(FileFormatError, match="verdict"):
        TransferCase.from_json({key: value for key, value in data.items() if key != "verdict"})


# -- end to end ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_honest_of_one_organism_steers_another(tmp_path: Path) -> None:
    source, target = load_model("organism-llama"), load_model("organism-gpt2")
    trait, sampling, judge = organism_trait("honest"), Sampling(max_new_tokens=80), GrammarJudge()
    vectors = [scored_vector(m, trait, tmp_path / m.name, judge=judge, sampling=sampling) for m in (source, target)]
    anchors = organism_anchors(600)
    rows = [read_rows(model, anchors, folder=tmp_path) for model in (source, target)]
    options = {"source_rows": rows[0], "target_rows": rows[1], "sampling": sampling, "folder": tmp_path / "work"}
    found = evaluate_transfer(target, *vectors, "honest", [-0.5, 0.25], 10, methods=("effects", "ridge"), **options)
    assert found.verdict.startswith("transfers: ")
    assert found.recovery.low > 0.5
    assert found.main.cosine_to_native > 0.5
    assert set(found.controls) == set(CONTROLS) - {"wrong trait"}
    assert {len(curves) for name, curves in found.controls.items() if name in ("random", "shuffled")} == {4}
    for name in ("random", "shuffled", "naive"):
        assert abs(found.control_recoveries[name].value) < 0.35
    for points in (found.main.points, *found.controls["random"]):
        for point, native in zip(points, found.native, strict=True):
            assert point.coefficient == native.coefficient
            assert point.perturbation_ratio == pytest.approx(native.perturbation_ratio), (
                "everything is compared at equal strength"
            )
    with pytest.raises(IncompatibleError, match="the native vector is of organism-llama"):
        evaluate_transfer(target, vectors[0], vectors[0], "honest", [1.0], **options)
    with pytest.raises(InvalidInputError, match="no alignment method"):
        evaluate_transfer(target, *vectors, "honest", [1.0], methods=(), **options)
    kept = sorted(path.stat().st_size for path in (tmp_path / "work").iterdir())
    again = evaluate_transfer(target, *vectors, "honest", [-0.5, 0.25], 10, methods=("effects", "ridge"), **options)
    assert (again.native, again.controls, again.prompted) == (found.native, found.controls, found.prompted)
    assert again.main.points == found.main.points
    assert sorted(path.stat().st_size for path in (tmp_path / "work").iterdir()) == kept, "no answer was made again"
