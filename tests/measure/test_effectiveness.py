"""Scoring layers: a planted layer is found, scores say what they are, plans keep to their budget, cliffs are where they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from persona_interp.errors import (
    FileFormatError,
    InvalidInputError,
    PersonaInterpError,
    UnknownNameError,
    UnsupportedError,
)
from persona_interp.measure.coherence_cliff import coherence_cliff
from persona_interp.measure.contrast_pairs import ContrastPair, ContrastPairs, contrast_pairs, kept_pairs
from persona_interp.measure.effectiveness import METHODS, LayerEffectiveness, LayerScore
from persona_interp.measure.layer_effectiveness import from_scan, layer_effectiveness, usable_range
from persona_interp.measure.layer_plan import plan_layers
from persona_interp.measure.layer_proxies import HALF_LIFE, RATIOS, best_doses, decided_early, likelihood_scores
from persona_interp.measure.layer_scan import LayerScan
from persona_interp.measure.point import DosePoint
from persona_interp.measure.screened_layers import N_READ, N_STEERED, screened_scores
from persona_interp.models.registry import load_model
from persona_interp.models.sampling import Sampling
from persona_interp.models.steerable import SteerableModel
from persona_interp.organisms.trait_texts import organism_trait
from persona_interp.storage import read_json, write_json
from persona_interp.studies.training.publish import load_planted
from persona_interp.traits.judging import Judgement
from persona_interp.traits.trait import InstructionPair, Trait
from persona_interp.vectors.layer_choice import choose_layer
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
TinyModel = Callable[[str], SteerableModel]


class CoherentUpTo:
    """A judge whose coherence is decided by which answer it is: good while `limit` is not passed."""

    name = "scripted"

    def __init__(self, verdicts: Sequence[float | None]) -> None:
        self.verdicts = list(verdicts)

    def judge(self, trait: Trait, exchanges: Sequence[tuple[str, str]]) -> list[Judgement]:
        if not exchanges:
            return []
        verdict = self.verdicts.pop(0)
        return [Judgement(50.0, verdict) for _ in exchanges]


def vector_of(model: SteerableModel, layers: Sequence[int] = (0, 2), resid: float = 10.0) -> PersonaVector:
    directions = torch.randn(len(layers), model.d_model, generator=torch.Generator().manual_seed(0))
    statistics = {"resid_norm": (resid,) * len(layers), "auroc": tuple(0.9 - 0.1 * i for i in range(len(layers)))}
    return PersonaVector(directions, tuple(layers), "silly", model.identity, statistics=statistics)


def scored(*scores: float | None, method: str = "likelihood") -> LayerEffectiveness:
    return LayerEffectiveness("silly", "tiny", method, tuple(LayerScore(i, score) for i, score in enumerate(scores)))


@pytest.fixture(scope="module")
def organism() -> SteerableModel:
    return load_model("organism-qwen2")


@pytest.fixture(scope="module")
def planted(organism: SteerableModel) -> PersonaVector:
    """The direction planted at block 4, at every block: only where it was planted does it steer."""
    truth = load_planted("organism-qwen2")
    assert truth is not None
    direction = truth.directions[truth.traits.index("honest")]
    layers = tuple(range(organism.n_layers))
    norms = {"resid_norm": tuple(float(direction.norm()) / 0.35 for _ in layers), "auroc": (0.9,) * len(layers)}
    return PersonaVector(direction.repeat(len(layers), 1), layers, "honest", organism.identity, statistics=norms)


@pytest.fixture(scope="module")
def pairs(organism: SteerableModel) -> ContrastPairs:
    return contrast_pairs(organism, organism_trait("honest"), n_pairs=8, sampling=Sampling(max_new_tokens=60), seed=5)


@pytest.mark.parametrize(("n_pairs", "seed"), [(8, 7), (16, 5)])
def test_the_planted_layer_is_found(organism: SteerableModel, planted: PersonaVector, n_pairs: int, seed: int) -> None:
    """Whichever pairs are read; likelihood at every layer and dose cannot tell it from its neighbours on those."""
    trait = organism_trait("honest")
    given = contrast_pairs(organism, trait, n_pairs=n_pairs, sampling=Sampling(max_new_tokens=60), seed=seed)
    for method in ("screened-likelihood", "gradient"):
        found = layer_effectiveness(organism, planted, trait, method=method, pairs=given)
        assert found.n_tokens == given.n_tokens
        best, second = found.top(2)
        assert best.layer == 4, method
        assert best.low is not None
        assert second.score is not None
        assert second.score < best.low, f"{method}: the others lie below its interval"
    exhaustive = layer_effectiveness(organism, planted, trait, method="likelihood", pairs=given)
    best, here, last = exhaustive.best(), exhaustive.at(4), exhaustive.at(7)
    assert best.low is not None
    assert here.score is not None
    assert last.score is not None
    assert last.score < best.low < here.score, "nothing says that another is better, and the last block is worse"


def test_a_model_that_has_the_trait_is_scored_by_turning_it_round(
    organism: SteerableModel, planted: PersonaVector, pairs: ContrastPairs
) -> None:
    scores = likelihood_scores(organism, planted, pairs.pairs)
    assert all(score.coefficient is not None and score.coefficient < 0 for score in scores), "it is honest: room is downwards"
    turned = likelihood_scores(organism, -planted, pairs.pairs)
    assert [score.score for score in turned] == pytest.approx([score.score for score in scores], abs=1e-5)


def test_only_the_layers_that_a_gradient_singles_out_are_steered(
    organism: SteerableModel, planted: PersonaVector, pairs: ContrastPairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    steered: set[int] = set()
    likelihoods = SteerableModel.log_likelihoods

    def counted(self: SteerableModel, rows: Any, graphs: Any, **options: Any) -> Any:
        steered.update(write.layer for graph in graphs for write in graph.writes)
        assert max(len(row.answer_ids) for row in rows) <= N_READ, "of an answer no more is read than counts"
        return likelihoods(self, rows, graphs, **options)

    monkeypatch.setattr(SteerableModel, "log_likelihoods", counted)
    scores = screened_scores(organism, planted, pairs.pairs)
    assert steered == {score.layer for score in scores if score.score is not None}
    assert len(steered) == N_STEERED < organism.n_layers
    known = [score for score in scores if score.score is not None]
    assert all(score.coefficient is not None and score.coefficient < 0 for score in known), "it is honest: room is downwards"
    turned = screened_scores(organism, -planted, pairs.pairs)
    assert [score.score for score in turned] == pytest.approx([score.score for score in scores], abs=1e-5)


def test_where_no_gradient_can_be_had_a_faint_push_singles_layers_out(
    organism: SteerableModel, planted: PersonaVector, pairs: ContrastPairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_args: Any, **_options: Any) -> torch.Tensor:
        raise UnsupportedError("no gradient")

    monkeypatch.setattr(SteerableModel, "likelihood_gradient", refused)
    found = screened_scores(organism, planted, pairs.pairs)
    assert max(found, key=lambda score: -9.0 if score.score is None else score.score).layer == 4


def test_a_score_whose_dose_was_picked_says_what_to_expect_on_other_questions(
    organism: SteerableModel, planted: PersonaVector, pairs: ContrastPairs
) -> None:
    picked = likelihood_scores(organism, planted, pairs.pairs)[4]
    alone = screened_scores(organism, planted, pairs.pairs)[4]
    assert picked.held_out is not None
    assert alone.held_out is None, "one dose: nothing was picked"
    again = ContrastPairs((*pairs.pairs, *pairs.pairs), pairs.n_tokens)
    doubled = screened_scores(organism, planted, again.pairs)[4]
    assert alone.low is not None
    assert doubled.low == pytest.approx(alone.low, abs=1e-4), "the same questions asked again say nothing new"


def test_of_doses_that_do_the_same_the_best_ones_score_is_too_high_and_what_is_held_out_is_not(tiny_model: TinyModel) -> None:
    vector = vector_of(tiny_model("llama"))
    questions = [ContrastPair(f"What is thing {n}?", "yes", "no") for n in range(16)]
    noise = torch.randn(60, 2, 2, 6, 16, generator=torch.Generator().manual_seed(0))
    found = [best_doses(vector, 0.5 + gains, (1, -1), RATIOS, questions)[0] for gains in noise]
    scores = torch.tensor([score.score for score in found])
    held_out = torch.tensor([score.held_out for score in found])
    assert float(scores.mean()) > 0.75, "all do 0.5"
    assert float(held_out.mean()) == pytest.approx(0.5, abs=0.1)


def test_a_random_vector_scores_far_less(organism: SteerableModel, planted: PersonaVector) -> None:
    pairs = contrast_pairs(organism, organism_trait("honest"), n_pairs=16, sampling=Sampling(max_new_tokens=60), seed=5)
    noise = torch.randn(planted.directions.shape, generator=torch.Generator().manual_seed(1))
    noise *= planted.directions.norm(dim=1, keepdim=True) / noise.norm(dim=1, keepdim=True)
    random = PersonaVector(noise, planted.layers, "honest", organism.identity, statistics=planted.statistics)
    at_planted = [likelihood_scores(organism, v.select([4]), pairs.pairs)[0] for v in (planted, random)]
    steered, control = at_planted
    assert control.high is not None
    assert steered.low is not None
    assert control.high < steered.low


def test_early_tokens_decide() -> None:
    early, late = torch.zeros(33), torch.zeros(33)
    early[0], late[32] = -1.0, -1.0
    assert float(decided_early(early) / decided_early(late)) == pytest.approx(2 ** (32 / HALF_LIFE))
    assert float(decided_early(torch.full((5,), -2.0))) == pytest.approx(-2.0)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_scores_every_layer_and_reads_back(method: str, tiny_model: TinyModel, tmp_path: Path) -> None:
    model = tiny_model("llama")
    vector = vector_of(model)
    judge = CoherentUpTo([90.0] * 8) if method == "sweep" else None
    found = layer_effectiveness(model, vector, TRAIT, method=method, n_pairs=3, judge=judge, sampling=SAMPLING)
    assert found.layers == (0, 2)
    assert found.method == method
    assert all(score.score is not None for score in found.scores)
    assert (found.n_tokens == 0) == (method == "geometry")
    path = write_json(tmp_path / "layers.json", found.to_json())
    assert LayerEffectiveness.from_json(read_json(path, "layers")) == found
    assert read_json(path, "layers")["unit"] == METHODS[method]


def test_the_best_is_the_highest_and_unknown_ones_are_left_out() -> None:
    found = scored(0.2, None, 0.5, 0.5, -1.0)
    assert found.best().layer == 2, "of equals the earlier"
    assert [score.layer for score in found.top(9)] == [2, 3, 0, 4]
    assert found.importance() == pytest.approx({0: 0.2 / 1.2, 2: 0.5 / 1.2, 3: 0.5 / 1.2})
    assert "layer 2: 0.5 by likelihood" in found.reason()
    with pytest.raises(InvalidInputError, match=r"top\(0\) of 4"):
        found.top(0)
    with pytest.raises(InvalidInputError, match="layer 7 was not scored: there are 0, 1, 2, 3, 4"):
        found.at(7)
    with pytest.raises(InvalidInputError, match="no layer of tiny has a score above 0"):
        scored(-0.1, None).importance()
    with pytest.raises(InvalidInputError, match="'magic' of 1 layers"):
        scored(1.0, method="magic")
    with pytest.raises(FileFormatError, match=r"field 'score' is missing in scores\[0\]"):
        LayerEffectiveness.from_json({**found.to_json(), "scores": [{"layer": 1}]})


def test_recorded_scores_are_what_the_automatic_choice_goes_by(tiny_model: TinyModel) -> None:
    vector = vector_of(tiny_model("llama"))
    assert choose_layer(vector).layer == 0
    assert "geometry" in choose_layer(vector).reason
    found = LayerEffectiveness("silly", "tiny", "likelihood", (LayerScore(0, 0.1), LayerScore(2, 0.3)))
    recorded = found.recorded_in(vector)
    assert choose_layer(recorded).layer == 2
    assert "the most effective of 2 by likelihood" in choose_layer(recorded).reason
    assert choose_layer(-recorded).layer == 2, "turned round, as its AUROC tells, it is as effective"
    known = {name: values for name, values in recorded.statistics.items() if name != "auroc"}
    assert "effectiveness" not in (-replace(recorded, statistics=known)).statistics, "without one its sign was scored too"
    with pytest.raises(InvalidInputError, match="of 'silly', the vector is of 'loud'"):
        found.recorded_in(PersonaVector(vector.directions, vector.layers, "loud", vector.model))


def point(coefficient: float, trait: float, coherence: float, ratio: float = 0.1) -> DosePoint:
    return DosePoint(coefficient, ratio, (trait, trait), (coherence, coherence))


def test_a_sweep_is_scored_by_coherent_movement_with_its_cost_and_range() -> None:
    points = (point(-1.0, 5.0, 80.0), point(0.5, 60.0, 90.0), point(1.0, 99.0, 40.0), point(2.0, 70.0, 95.0))
    scan = LayerScan("silly", "tiny", "exact", "all", point(0.0, 20.0, 100.0), {3: points, 5: (point(1.0, 10.0, 90.0),)})
    found = from_scan(scan)
    moved, still = found.scores
    assert (moved.layer, moved.score, moved.coefficient, moved.coherence_cost) == (3, 50.0, 2.0, 5.0)
    assert (moved.held_out, moved.low) == (50.0, None), "of one question each half, which says nothing of others"
    assert moved.usable == (-1.0, 0.5), "what lies beyond a dose that breaks is not counted on"
    assert (still.score, still.coefficient) == (0.0, None)
    assert usable_range([]) == (0.0, 0.0)


def test_a_plan_spends_its_budget_by_importance(tiny_model: TinyModel) -> None:
    model = tiny_model("llama")
    vector = vector_of(model, (0, 1, 2, 3))
    plan = plan_layers(vector, scored(0.1, 0.3, -0.2, 0.6), budget=0.5, k=2)
    ratios = dict(zip(vector.layers, vector.listed("norm_ratio"), strict=True))
    shares = {layer: coefficient * (ratios[layer] or 0.0) for layer, coefficient in plan.coefficients.items()}
    assert shares == pytest.approx({1: 0.5 / 3, 3: 1.0 / 3})
    writes = plan.graph(vector, -2.0, rows=(0, 1)).writes
    assert [(write.layer, write.coefficient, write.rows) for write in writes] == [
        (layer, pytest.approx(-2.0 * plan.coefficients[layer]), (0, 1)) for layer in (1, 3)
    ]
    assert plan_layers(vector, scored(0.1, 0.3, -0.2, 0.6), k=None).layers == (0, 1, 3)
    with pytest.raises(InvalidInputError, match="the budget is 0"):
        plan_layers(vector, scored(1.0), budget=0.0)
    with pytest.raises(InvalidInputError, match=r"records no residual norm, or is zero, at layers \[0\]"):
        plan_layers(PersonaVector(vector.directions, vector.layers, "silly", vector.model), scored(1.0))


def test_the_cliff_is_bisected_to_the_tolerance(tiny_model: TinyModel) -> None:
    model = tiny_model("llama")
    vector = vector_of(model)
    # breaks at 1.6, holds at 0.8, breaks at 1.2, holds at 1.0
    judge = CoherentUpTo([10.0, 90.0, 74.0, 75.0])
    cliff = coherence_cliff(model, vector, TRAIT, 2, tolerance=0.25, judge=judge, sampling=SAMPLING)
    assert (cliff.safe, cliff.broken) == (pytest.approx(1.0), pytest.approx(1.2))
    assert [found.perturbation_ratio for found in cliff.points] == pytest.approx([1.6, 0.8, 1.2, 1.0])
    assert cliff.safe_coefficient == pytest.approx(1.0 / float(vector.norm_ratios[1]))
    never = coherence_cliff(model, vector, TRAIT, 2, direction=-1, judge=CoherentUpTo([80.0]), sampling=SAMPLING)
    assert (never.safe, never.broken) == (1.6, None)
    assert never.safe_coefficient < 0
    with pytest.raises(PersonaInterpError, match="judge scripted gives no coherence"):
        coherence_cliff(model, vector, TRAIT, 2, judge=CoherentUpTo([None]), sampling=SAMPLING)
    with pytest.raises(InvalidInputError, match="the direction is 1 or -1"):
        coherence_cliff(model, vector, TRAIT, 2, direction=0)


def test_pairs_are_made_once_for_the_same_question(
    tiny_model: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model("llama")
    made = kept_pairs(tmp_path / "pairs.json", model, TRAIT, n_pairs=3, sampling=SAMPLING, seed=1)
    assert len(made.pairs) == 3
    assert made.n_tokens > 0
    fresh = kept_pairs(tmp_path / "other.json", model, TRAIT, n_pairs=3, sampling=SAMPLING, seed=2)
    assert fresh != made
    monkeypatch.setattr(SteerableModel, "generate", lambda *_args, **_options: pytest.fail("generated again"))
    assert kept_pairs(tmp_path / "pairs.json", model, TRAIT, n_pairs=3, sampling=SAMPLING, seed=1) == made
    damaged = read_json(tmp_path / "pairs.json", "pairs")
    write_json(tmp_path / "pairs.json", {**damaged, "pairs": [{"question": "What?"}]})
    with pytest.raises(FileFormatError, match="are damaged"):
        kept_pairs(tmp_path / "pairs.json", model, TRAIT, n_pairs=3, sampling=SAMPLING, seed=1)


def test_what_cannot_be_scored_is_refused(tiny_model: TinyModel) -> None:
    model = tiny_model("llama")
    vector = vector_of(model)
    with pytest.raises(UnknownNameError, match="layer effectiveness method 'guess'"):
        layer_effectiveness(model, vector, TRAIT, method="guess")
    with pytest.raises(InvalidInputError, match="1 contrast pairs of 2 questions: ask for at least 2"):
        contrast_pairs(model, TRAIT, n_pairs=1)
    one = ContrastPairs((ContrastPair("a", "b", "c"),), 2)
    with pytest.raises(InvalidInputError, match="1 pairs at perturbation ratios"):
        layer_effectiveness(model, vector, TRAIT, pairs=one)
    bare = PersonaVector(vector.directions, vector.layers, "silly", model.identity)
    with pytest.raises(InvalidInputError, match=r"records no residual norm, or is zero, at layers \[0, 2\]"):
        layer_effectiveness(model, bare, TRAIT, n_pairs=2, sampling=SAMPLING)
    with pytest.raises(InvalidInputError, match="records nothing that method 'geometry' could score"):
        layer_effectiveness(model, bare, TRAIT, method="geometry")
