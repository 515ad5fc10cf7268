"""The layer scan: every cell is what steering there alone gives, and layers are ranked by coherent movement."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from persona_interp.errors import FileFormatError, InvalidInputError
from persona_interp.measure.dose import DosePoint, DoseResponse, dose_response
from persona_interp.measure.layer_scan import LayerScan, scan_layers
from persona_interp.models.sampling import Sampling
from persona_interp.models.steerable import SteerableModel
from persona_interp.storage import read_json, write_json
from persona_interp.traits.judging import Judgement
from persona_interp.traits.trait import InstructionPair, Trait
from persona_interp.vectors.persona_vector import PersonaVector

SAMPLING = Sampling(max_new_tokens=6)
TRAIT = Trait(
    name="silly",
    description="Makes silly remarks.",
    instructions=tuple(InstructionPair(f"Be silly {i}.", f"Be formal {i}.") for i in range(5)),
    extraction_questions=("What is tea?", "What is a boat?"),
    evaluation_questions=("Tell me about the moon?",),
    rubric="{question} {answer}",
)


class LengthJudge:
    name = "length"

    def judge(self, trait: Trait, exchanges: Sequence[tuple[str, str]]) -> list[Judgement]:
        return [Judgement(float(min(100, len(answer))), 100.0) for _, answer in exchanges]


Cell = tuple[int, DosePoint]


def point(coefficient: float, trait: float | None, coherence: float | None = 90.0, ratio: float | None = None) -> DosePoint:
    return DosePoint(coefficient, ratio, (trait,), (coherence,))


def cell(layer: int, coefficient: float, trait: float | None, coherence: float | None = 90.0) -> Cell:
    return layer, point(coefficient, trait, coherence)


def scan_of(baseline: DosePoint, cells: Sequence[Cell]) -> LayerScan:
    by_layer: dict[int, tuple[DosePoint, ...]] = {}
    for layer, found in cells:
        by_layer[layer] = (*by_layer.get(layer, ()), found)
    return LayerScan("silly", "tiny", "length", "all", baseline, by_layer)


def test_every_cell_equals_steering_at_that_layer_and_coefficient_alone(tiny_model: Callable[[str], SteerableModel]) -> None:
    model = tiny_model("llama")
    directions = torch.randn(2, model.d_model, generator=torch.Generator().manual_seed(0))
    vector = PersonaVector(directions=directions, layers=(0, 2), trait="silly", model=model.identity)
    scan = scan_layers(model, vector, TRAIT, [-3.0, 3.0], judge=LengthJudge(), sampling=SAMPLING, seed=5)
    assert [(layer, c.coefficient) for layer, c in scan.cells] == [(0, -3.0), (0, 3.0), (2, -3.0), (2, 3.0)]
    for layer in vector.layers:
        dose = dose_response(
            model,
            vector,
            TRAIT,
            [-3.0, 0.0, 3.0],
            questions=TRAIT.extraction_questions,
            judge=LengthJudge(),
            layers=[layer],
            sampling=SAMPLING,
            seed=5,
        )
        assert dose.at(0.0).trait == scan.baseline.trait
        for found in scan.by_layer[layer]:
            assert found == dose.at(found.coefficient)


def test_the_best_layer_moves_the_score_furthest_where_there_is_room_and_stays_coherent() -> None:
    scan = scan_of(
        point(0.0, 20.0),
        (cell(0, 1.0, 50.0), cell(1, 1.0, 80.0), cell(2, 1.0, 99.0, coherence=40.0), cell(2, -1.0, 0.0)),
    )
    assert scan.direction == 1
    assert scan.best_layer() == 1
    assert scan.movement(1) == 60.0
    assert scan.movement(2) == 0.0
    assert scan.movement(2, -1) == 20.0


def test_of_layers_that_get_about_as_far_the_one_that_needs_the_smallest_push_is_best() -> None:
    def moved(layer: int, coefficient: float, trait: float, perturbation: float) -> Cell:
        return layer, point(coefficient, trait, 95.0, perturbation)

    furthest, mild = (moved(0, 0.5, 40.0, 0.4), moved(0, 1.0, 95.0, 0.8)), (moved(1, 0.5, 85.0, 0.3), moved(1, 1.0, 90.0, 0.6))
    short = (moved(2, 0.5, 50.0, 0.1), moved(2, 1.0, 60.0, 0.2))
    scan = scan_of(point(0.0, 20.0, 95.0), (*furthest, *mild, *short))
    assert scan.movement(0) > scan.movement(1)
    assert scan.best_layer() == 1
    assert scan.strongest(1, 1) == 0.5


def test_with_a_high_baseline_the_room_is_below() -> None:
    scan = scan_of(point(0.0, 90.0, 95.0), (cell(0, -1.0, 30.0), cell(0, 1.0, 99.0), cell(1, -1.0, 60.0)))
    assert scan.direction == -1
    assert scan.best_layer() == 0


def test_the_strongest_coefficient_is_the_mildest_that_gets_nearly_as_far() -> None:
    cells = (cell(0, 0.25, 50.0), cell(0, 0.5, 96.0), cell(0, 1.0, 98.0), cell(0, -0.5, 5.0))
    scan = scan_of(point(0.0, 20.0, None), cells)
    assert scan.strongest(0, 1) == 0.5
    assert scan.strongest(0, -1) == -0.5


def test_the_strongest_coefficient_need_not_go_further_than_most_of_the_way_to_the_end_of_the_scale() -> None:
    cells = (cell(0, 0.5, 79.0), cell(0, 0.75, 80.0), cell(0, 1.0, 98.0), cell(0, -0.25, 5.0), cell(0, -0.5, 0.0))
    scan = scan_of(point(0.0, 20.0, None), cells)
    assert scan.strongest(0, 1) == 0.75, "three quarters of 80 points, though 90 % of the furthest is past 90"
    assert scan.strongest(0, -1) == -0.25, "three quarters of 20 points"
    assert scan.strongest(0, 1, enough=55.0) == 0.5
    assert scan.strongest(0, 1, enough=65.0) == 1.0


def test_no_useful_coefficient_of_a_sign_is_none_and_not_a_number() -> None:
    incoherent = cell(0, 1.0, 90.0, coherence=10.0)
    wrong_way = cell(0, 0.5, 5.0)
    unscored = cell(0, -1.0, None)
    scan = scan_of(point(0.0, 20.0, 90.0), (incoherent, wrong_way, unscored))
    assert scan.strongest(0, 1) is None
    assert scan.strongest(0, -1) is None
    assert scan.movement(0) == 0.0


def test_a_scan_without_coefficients_says_so(tiny_model: Callable[[str], SteerableModel]) -> None:
    model = tiny_model("llama")
    vector = PersonaVector(directions=torch.ones(1, model.d_model), layers=(1,), trait="silly", model=model.identity)
    with pytest.raises(InvalidInputError, match="2 and 0 were given"):
        scan_layers(model, vector, TRAIT, [], judge=LengthJudge())


def test_coefficients_of_zero_steer_nothing_and_are_refused(tiny_model: Callable[[str], SteerableModel]) -> None:
    model = tiny_model("llama")
    vector = PersonaVector(directions=torch.ones(1, model.d_model), layers=(1,), trait="silly", model=model.identity)
    with pytest.raises(InvalidInputError, match="coefficients other than 0: 2 and 0 were given"):
        scan_layers(model, vector, TRAIT, [0.0, 0.0], judge=LengthJudge())


def test_layers_may_have_coefficients_of_their_own(tiny_model: Callable[[str], SteerableModel]) -> None:
    model = tiny_model("llama")
    directions = torch.randn(2, model.d_model, generator=torch.Generator().manual_seed(0))
    vector = PersonaVector(directions=directions, layers=(0, 2), trait="silly", model=model.identity)
    own = scan_layers(model, vector, TRAIT, {0: [2.0], 2: [-1.0, 3.0]}, judge=LengthJudge(), sampling=SAMPLING, seed=5, samples=2)
    assert {layer: [found.coefficient for found in points] for layer, points in own.by_layer.items()} == {
        0: [2.0],
        2: [-1.0, 3.0],
    }
    same = scan_layers(model, vector, TRAIT, [3.0], judge=LengthJudge(), sampling=SAMPLING, seed=5, samples=2)
    assert own.by_layer[2][1] == same.by_layer[2][0]
    assert own.baseline.n == 4


def test_a_scan_reads_back_from_json(tmp_path: Path, tiny_model: Callable[[str], SteerableModel]) -> None:
    model = tiny_model("llama")
    vector = PersonaVector(directions=torch.ones(1, model.d_model), layers=(1,), trait="silly", model=model.identity)
    scan = scan_layers(model, vector, TRAIT, [-1.0, 1.0], judge=LengthJudge(), sampling=SAMPLING, positions="response")
    path = write_json(tmp_path / "scan.json", scan.to_json())
    assert LayerScan.from_json(read_json(path, "scan")) == scan
    with pytest.raises(FileFormatError, match="layer scan: field 'points' is missing"):
        LayerScan.from_json({**scan.to_json(), "layers": [{"layer": 1}]})
    with pytest.raises(FileFormatError, match="format_version"):
        LayerScan.from_json({**scan.to_json(), "format_version": 99})


def test_one_layers_dose_response_is_its_scan() -> None:
    dose = DoseResponse("silly", "silly", "tiny", "length", (3,), "all", (point(0.0, 20.0), point(1.0, 60.0)))
    scan = LayerScan.of_dose(dose)
    assert scan.by_layer == {3: (point(1.0, 60.0),)}
    assert scan.movement(3) == 40.0
    with pytest.raises(InvalidInputError, match=r"layers \(3, 4\) at once"):
        LayerScan.of_dose(replace(dose, layers=(3, 4)))
