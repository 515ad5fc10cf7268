"""Projections of the answers behind a vector: the numbers of its own held-out statistics, found again without a model."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from persona_interp.errors import FileFormatError, InvalidInputError
from persona_interp.models.sampling import Sampling
from persona_interp.models.steerable import SteerableModel
from persona_interp.residuals.cache import ResidualCache
from persona_interp.traits.judging import Judgement
from persona_interp.traits.trait import InstructionPair, Trait
from persona_interp.vectors.estimators import ESTIMATORS
from persona_interp.vectors.extract import extract
from persona_interp.vectors.pair_projections import pair_projections
from persona_interp.vectors.persona_vector import PersonaVector
from persona_interp.vectors.statistics import auroc

TRAIT = Trait(
    name="silly",
    description="Says silly things.",
    instructions=tuple(InstructionPair(f"Answer in a silly way, {i}.", f"Answer in a formal way, {i}.") for i in range(5)),
    extraction_questions=("What is the moon?", "How do bees make honey?", "Where is the river?", "What is a city?"),
    evaluation_questions=(),
    rubric="{question} {answer}",
)


class PickyJudge:
    """Keeps some pairs and drops others."""

    name = "picky judge"

    def judge(self, trait: Trait, exchanges: list[tuple[str, str]]) -> list[Judgement]:
        return [Judgement(100.0 if place % 2 == 0 and place % 3 else 0.0, 90.0) for place, _ in enumerate(exchanges)]


@pytest.fixture
def model(tiny_model: Callable[[str], SteerableModel]) -> SteerableModel:
    return tiny_model("qwen2")


def made(model: SteerableModel, folder: Path, **options: object) -> PersonaVector:
    return extract(
        model, TRAIT, **({"samples": 1, "sampling": Sampling(max_new_tokens=8), "folder": folder, "minimum_pairs": 2} | options)
    )


def held_out_auroc(positive: tuple[float, ...], negative: tuple[float, ...], halves: list[int]) -> float:
    """The mean of both halves' areas, as the vector's statistic is."""
    areas = []
    for half in (0, 1):
        p, n = (
            torch.tensor([value for value, place in zip(side, halves, strict=True) if place == half]).unsqueeze(1)
            for side in (positive, negative)
        )
        areas += auroc(p, n)
    return sum(areas) / 2


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_they_are_the_projections_behind_the_held_out_statistics(model: SteerableModel, tmp_path: Path, estimator: str) -> None:
    vector = made(model, tmp_path, judge=PickyJudge(), estimator=estimator)
    found = pair_projections(tmp_path, vector)
    assert found.held_out
    assert found.layers == vector.layers
    n = vector.counts["kept_pairs"]
    assert 2 <= n < 20
    assert {len(side) for side in (*found.positive, *found.negative)} == {n}
    kept = [(answer["prompt_pair_idx"], answer["question"]) for answer in vector.responses["positive"]]
    kept.sort(key=lambda pair: (pair[0], TRAIT.extraction_questions.index(pair[1])))  # pairs go by instruction, then question
    questions = [question for _, question in kept]
    halves = [list(dict.fromkeys(questions)).index(question) % 2 for question in questions]
    for row, area in enumerate(vector.listed("auroc")):
        assert held_out_auroc(found.positive[row], found.negative[row], halves) == pytest.approx(area)


def test_with_one_question_nothing_is_held_out_and_it_says_so(model: SteerableModel, tmp_path: Path) -> None:
    vector = made(model, tmp_path, questions=["What is tea?"])
    found = pair_projections(tmp_path, vector)
    assert not found.held_out
    for row, norm in enumerate(vector.norms):  # along the vector itself, the means lie as far apart as it is long
        gap = sum(found.positive[row]) / len(found.positive[row]) - sum(found.negative[row]) / len(found.negative[row])
        assert gap == pytest.approx(float(norm), rel=1e-4)


def test_only_the_samples_and_layers_of_the_vector_are_read(model: SteerableModel, tmp_path: Path) -> None:
    small = made(model, tmp_path)
    before = pair_projections(tmp_path, small)
    made(model, tmp_path, samples=2)
    assert pair_projections(tmp_path, small) == before
    assert pair_projections(tmp_path, small.select([1])).positive == (before.positive[1],)


def test_values_are_projections_of_what_the_cache_holds(model: SteerableModel, tmp_path: Path) -> None:
    vector = made(model, tmp_path, questions=["What is tea?"])
    with ResidualCache(tmp_path / "residuals") as cache:
        unit = vector.at(1) / vector.at(1).norm()
        all_values = sorted(float(cache.read(key, "response_avg", layer=1) @ unit) for key in cache)
    found = pair_projections(tmp_path, vector)
    assert sorted((*found.positive[1], *found.negative[1])) == pytest.approx(all_values, rel=1e-4, abs=1e-5)


def test_another_extractions_vector_is_refused(model: SteerableModel, tmp_path: Path) -> None:
    vector = made(model, tmp_path, judge=PickyJudge())
    with pytest.raises(InvalidInputError, match="the vector is of 'honest'"):
        pair_projections(tmp_path, dataclasses.replace(vector, trait="honest"))
    with pytest.raises(InvalidInputError, match=r"keeps \d+ pairs, the vector was made from 999"):
        pair_projections(tmp_path, dataclasses.replace(vector, counts={**vector.counts, "kept_pairs": 999}))
    with pytest.raises(InvalidInputError, match="does not say which answers"):
        pair_projections(tmp_path, dataclasses.replace(vector, provenance={}))
    with pytest.raises(FileFormatError, match="does not exist"):
        pair_projections(tmp_path / "nowhere", vector)
    lines = (tmp_path / "judgements.jsonl").read_text().splitlines()
    other = json.dumps({**json.loads(lines[0]), "judge": "picky judge 000000000000"})
    (tmp_path / "judgements.jsonl").write_text("\n".join([*lines, other]) + "\n")
    with pytest.raises(FileFormatError, match="2 judges called 'picky judge'"):
        pair_projections(tmp_path, vector)
