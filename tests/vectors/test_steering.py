"""Steering: one rule for its dose at several layers, the graph it stands for, and what it refuses."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest
import torch

from persona_interp.errors import IncompatibleError, InvalidInputError
from persona_interp.interventions.operations import Ablate
from persona_interp.models.identity import ModelIdentity
from persona_interp.models.steerable import SteerableModel
from persona_interp.vectors.persona_vector import PersonaVector
from persona_interp.vectors.steering import Steering

MODEL = ModelIdentity("m", None, "print", 4, 3)


def vector(*norms: float, resid: tuple[float | None, ...] = (10.0, 20.0, 40.0)) -> PersonaVector:
    rows = torch.zeros(len(norms), 3)
    rows[:, 0] = torch.tensor(norms)
    return PersonaVector(rows, tuple(range(len(norms))), "silly", MODEL, statistics={"resid_norm": resid[: len(norms)]})


def test_the_ratio_of_several_layers_is_their_mean() -> None:
    assert Steering(vector(2.0, 2.0, 2.0), coefficient=-3.0).perturbation_ratio == pytest.approx(3 * (0.2 + 0.1 + 0.05) / 3)
    assert Steering(vector(2.0, 2.0), (1,), 4.0).perturbation_ratio == pytest.approx(0.4)
    assert Steering(vector(2.0, 2.0), coefficient=2.0, weights=(1.0, -3.0)).perturbation_ratio == pytest.approx((0.4 + 0.6) / 2)
    assert Steering(vector(2.0, 2.0), coefficient=0.0).perturbation_ratio == 0


def test_it_is_not_known_where_a_layer_lacks_its_norm_or_nothing_is_added() -> None:
    partly = vector(2.0, 2.0, resid=(10.0, None))
    assert Steering(partly).perturbation_ratio is None
    assert Steering(partly, (0,)).perturbation_ratio == pytest.approx(0.2)
    assert Steering(partly, (0,), operation=Ablate).perturbation_ratio is None


def test_the_graph_is_that_of_the_vector_and_empty_at_zero() -> None:
    given = vector(1.0, 2.0, 3.0)
    steering = Steering.of(given, [2, 0], "response").at(1.5)
    assert steering.layers == (0, 2)
    assert steering.graph((4, 5)) == given.graph(1.5, layers=[0, 2], positions="response", rows=(4, 5))
    assert steering.at(0.0).graph().writes == ()
    assert steering.graph(()).writes == ()
    weighted = Steering(given, (0, 2), 2.0, weights=(0.5, -1.0)).graph()
    assert [(write.layer, write.coefficient) for write in weighted.writes] == [(0, 1.0), (2, -2.0)]
    assert [type(write.operation) for write in Steering(given, operation=Ablate).graph().writes] == [Ablate] * 3


def test_the_key_is_the_one_that_kept_answers_go_by() -> None:
    given = vector(1.0, 2.0, 3.0)
    digest = hashlib.sha256(given.select([1, 2]).directions.numpy().tobytes()).hexdigest()
    assert Steering(given, (1, 2), 0.5, "response").key == [digest, [1, 2], 0.5, "response"]
    assert Steering(given, (1, 2), 0.0).key is None
    keys = [Steering(given, (1,), 0.5, operation=Ablate).key, Steering(given, (1,), 0.5).key, Steering(given, (1,), 0.4).key]
    keys += [Steering(given, (1, 2), 0.5, weights=(1.0, 2.0)).key, Steering(given, (1, 2), 0.5).key]
    assert len({str(key) for key in keys}) == len(keys)


def test_layers_are_named_chosen_or_refused(tiny_model: Callable[[str], SteerableModel]) -> None:
    given = vector(1.0, 2.0, 3.0)
    assert Steering(given).layers == Steering.of(given, "all").layers == (0, 1, 2)
    chosen = Steering.auto(given, 1, coefficient=2.0)
    assert (chosen.coefficient, len(chosen.layers)) == (2.0, 1)
    assert chosen.reason is not None
    assert str(chosen.layers[0]) in chosen.reason
    with pytest.raises(InvalidInputError, match=r"has no layer 7: it has layers 0-2"):
        Steering(given, (7,))
    with pytest.raises(InvalidInputError, match=r"layers are 2, 1: give each once, in ascending order"):
        Steering(given, (2, 1))
    with pytest.raises(InvalidInputError, match="1 weights for 3 layers"):
        Steering(given, weights=(1.0,))
    model = tiny_model("qwen2")
    with pytest.raises(IncompatibleError):
        Steering(given).check(model)
    rows = torch.ones(2, model.d_model)
    fits = Steering(PersonaVector(rows, (0, 1), "silly", model.identity), (0,))
    fits.check(model)

    class Late:
        identity, name, first_steerable_layer = model.identity, "late", 1

    with pytest.raises(InvalidInputError, match="late can be steered from layer 1 on, not at layer 0"):
        fits.check(Late())
