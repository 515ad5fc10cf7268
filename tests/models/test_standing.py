"""A block in which a model is steered: by its own verbs and by any code alike, and afterwards not at all."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from persona_interp.errors import IncompatibleError, InvalidInputError, UnsupportedError
from persona_interp.interventions.graph import Capture, InterventionGraph
from persona_interp.models.sampling import Sampling
from persona_interp.models.steerable import SteerableModel
from persona_interp.vectors.persona_vector import PersonaVector

GREEDY = Sampling(max_new_tokens=8, temperature=0)
ASKED = "How are you?"


@pytest.fixture(scope="module")
def model(tiny_model: Callable[[str], SteerableModel]) -> SteerableModel:
    return tiny_model("qwen2")


@pytest.fixture(scope="module")
def vector(model: SteerableModel) -> PersonaVector:
    direction = 20 * torch.randn(model.d_model, generator=torch.Generator().manual_seed(0))
    return PersonaVector.from_directions(model, {1: direction}, trait="loud", resid_norms={1: 10.0})


def by_hand(model: SteerableModel) -> list[int]:
    """What code that knows nothing of this package generates."""
    ids = torch.tensor([model.generate(ASKED, sampling=GREEDY)[0].prompt_ids])
    return model.hf_model.generate(ids, max_new_tokens=8, do_sample=False, pad_token_id=0)[0, ids.shape[1] :].tolist()


def test_within_the_block_all_is_steered_once_and_after_it_nothing(model: SteerableModel, vector: PersonaVector) -> None:
    graph, row = vector.graph(0.5), (ASKED, "Splendid.")
    hooks = len(model.hf_model._forward_hooks)
    plain, plain_by_hand = model.generate(ASKED, sampling=GREEDY)[0], by_hand(model)
    expected = model.generate(ASKED, graph=graph, sampling=GREEDY)[0]
    assert expected.answer_ids != plain.answer_ids
    for block in (vector.steer(model, 0.5), model.steer(vector, 0.5), model.steer(graph)):
        with block as given:
            assert given is model
            assert model.generate(ASKED, sampling=GREEDY)[0].answer_ids == expected.answer_ids
            assert by_hand(model)[: len(expected.answer_ids)] == list(expected.answer_ids)
            assert model.generate(ASKED, sampling=GREEDY)[0].answer_ids == expected.answer_ids, "hooks are off in verbs each time"
            likely = model.log_likelihood([row])[0].total
            resid = model.read([row], layers=2)
            logits = model.next_token_logits([expected.prompt_ids])
        assert model.generate(ASKED, sampling=GREEDY)[0].answer_ids == plain.answer_ids
        assert by_hand(model) == plain_by_hand
        assert likely == pytest.approx(model.log_likelihood([row], graph=graph)[0].total, abs=1e-4)
        torch.testing.assert_close(resid, model.read([row], layers=2, graph=graph))
        torch.testing.assert_close(logits, model.next_token_logits([expected.prompt_ids], graph=graph))
    assert len(model.hf_model._forward_hooks) == hooks


def test_a_bare_hugging_face_model_is_steered_alike(model: SteerableModel, vector: PersonaVector) -> None:
    expected = list(model.generate(ASKED, graph=vector.graph(ratio=1.0), sampling=GREEDY)[0].answer_ids)
    ids = torch.tensor([model.generate(ASKED, sampling=GREEDY)[0].prompt_ids])
    with vector.steer(model.hf_model, ratio=1.0):
        found = model.hf_model.generate(ids, max_new_tokens=8, do_sample=False, pad_token_id=0)[0, ids.shape[1] :].tolist()
    assert found[: len(expected)] == expected


def test_blocks_add_up_and_so_does_a_verbs_own_graph(model: SteerableModel, vector: PersonaVector) -> None:
    expected = model.generate(ASKED, graph=vector.graph(0.25) + vector.graph(0.25), sampling=GREEDY)[0].answer_ids
    with vector.steer(model, 0.25):
        assert model.generate(ASKED, graph=vector.graph(0.25), sampling=GREEDY)[0].answer_ids == expected
        with vector.steer(model, 0.25):
            assert model.generate(ASKED, sampling=GREEDY)[0].answer_ids == expected
            assert by_hand(model)[: len(expected)] == list(expected)
    assert model.generate(ASKED, sampling=GREEDY)[0].answer_ids != expected


def test_many_likelihoods_restart_nowhere_that_the_block_writes_before(model: SteerableModel, vector: PersonaVector) -> None:
    row, late = (ASKED, "Splendid."), PersonaVector.from_directions(model, {2: vector[1]}, trait="late")
    graphs = [late.graph(0.1), late.graph(-0.1)]
    from persona_interp.models.texts import rows

    expected = [model.log_likelihood([row], graph=vector.graph(0.5) + graph)[0].total for graph in graphs]
    with vector.steer(model, 0.5):
        found = model.log_likelihoods(rows(model.chat, [row]), graphs)
    assert [each[0].total for each in found] == pytest.approx(expected, abs=1e-4)


def test_an_error_within_the_block_leaves_nothing_behind(model: SteerableModel, vector: PersonaVector) -> None:
    engine, plain = model.engine, by_hand(model)
    with pytest.raises(KeyError), vector.steer(model, 0.5):
        raise KeyError("mine")
    assert model.engine is engine
    assert by_hand(model) == plain


def test_what_would_not_be_steered_is_refused(model: SteerableModel, vector: PersonaVector) -> None:
    with vector.steer(model, 0.5), pytest.raises(UnsupportedError, match="gradient is of the unsteered model"):
        model.likelihood_gradient(_rows(model))
    with pytest.raises(UnsupportedError, match="at all rows"), model.steer(vector.graph(0.5, rows=[0])):
        pass
    with pytest.raises(UnsupportedError, match="only writes"), model.steer(InterventionGraph((Capture("answer"),))):
        pass
    wide = PersonaVector.from_directions(model, {1: vector[1]}, trait="x")
    other = PersonaVector(torch.ones(1, model.d_model), (model.n_layers + 3,), "x", _deeper(model))
    with pytest.raises(IncompatibleError), other.steer(model, 1.0):
        pass
    with pytest.raises(InvalidInputError, match="does not know the mean residual norm"), wide.steer(model, ratio=0.4):
        pass


def _rows(model: SteerableModel) -> list:
    return [model.chat.tokenise(model.generate(ASKED, sampling=GREEDY)[0].conversation, "Splendid.")]


def _deeper(model: SteerableModel):
    from dataclasses import replace

    return replace(model.identity, n_layers=model.n_layers + 8)
