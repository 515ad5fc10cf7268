"""Sampling parameters from a vector: every mapping as it is written down, monotone, bounded, and the same on every engine."""

from __future__ import annotations

import pytest
import torch
from gguf_organisms import pytorch
from hypothesis import given
from hypothesis import strategies as st

from persona_interp.blackbox.parameters import ParameterModulator
from persona_interp.errors import InvalidInputError
from persona_interp.models.identity import ModelIdentity
from persona_interp.models.row_sampler import RowSampler
from persona_interp.models.sampling import Sampling
from persona_interp.traits.conversation import Conversation
from persona_interp.vectors.persona_vector import PersonaVector

MODEL = ModelIdentity("model-a", None, "", n_layers=3, d_model=4)
ASKED = [Conversation.ask("Please tell me about bees."), Conversation.ask("How are you?"), Conversation.ask("Hm?")]


def vector(resid_norm=(4.0, 10.0)) -> PersonaVector:
    directions = torch.tensor([[3.0, 0.0, 0.0, 0.0], [3.0, -1.0, 0.0, 0.0]])
    return PersonaVector(directions, (1, 2), "silly", MODEL, statistics={"resid_norm": resid_norm} if resid_norm else {})


def test_the_two_numbers_are_ratio_and_signed_mass() -> None:
    found = ParameterModulator.of(vector(), layers=[1])
    assert found.magnitude == pytest.approx(0.75)
    assert found.polarity == pytest.approx(1.0)
    both = ParameterModulator.of(vector())
    assert both.magnitude == pytest.approx((0.75 + 10**0.5 / 10) / 2)
    assert both.polarity == pytest.approx((1 + 0.5) / 2)
    turned = ParameterModulator.of(-vector())
    assert (turned.magnitude, turned.polarity) == (pytest.approx(both.magnitude), pytest.approx(-both.polarity))


def test_the_mappings_are_those_written_down() -> None:
    modulator = ParameterModulator(0.8, -0.5, Sampling(50, 1.0, 0.9, 20), trait="silly")
    found = modulator.sampling(2.0)
    assert (found.temperature, found.top_p, found.repetition_penalty) == pytest.approx((1.16, 0.8, 0.9))
    assert (found.max_new_tokens, found.top_k) == (50, 20)
    assert modulator.sampling(0.0) == modulator.base


numbers = st.floats(-1000, 1000)


@given(magnitude=st.floats(0, 50), polarity=st.floats(-1, 1), low=numbers, high=numbers)
def test_parameters_are_monotone_and_legal(magnitude: float, polarity: float, low: float, high: float) -> None:
    modulator = ParameterModulator(magnitude, polarity, Sampling(temperature=0.7, top_p=0.9))
    first, second = (modulator.sampling(number) for number in sorted((low, high)))  # Sampling itself refuses what is not legal
    assert first.temperature <= second.temperature
    sign = 1 if polarity >= 0 else -1
    assert sign * first.top_p <= sign * second.top_p
    assert sign * first.repetition_penalty <= sign * second.repetition_penalty


def test_neither_number_knows_what_a_vector_means() -> None:
    shuffled = PersonaVector(vector().directions.flip(1), (1, 2), "none", MODEL, statistics=vector().statistics)
    ours, theirs = ParameterModulator.of(vector()), ParameterModulator.of(shuffled)
    assert (ours.magnitude, ours.polarity) == (theirs.magnitude, theirs.polarity)
    assert ParameterModulator.of(-vector()).sampling(2.0).temperature == pytest.approx(ours.sampling(2.0).temperature)


def test_larger_vectors_move_more() -> None:
    assert ParameterModulator(1.0, 0.0).sampling(1.0).temperature > ParameterModulator(0.5, 0.0).sampling(1.0).temperature


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: ParameterModulator(-1.0, 0.0), "magnitude is -1.0"),
        (lambda: ParameterModulator(float("nan"), 0.0), "magnitude is nan"),
        (lambda: ParameterModulator(1.0, 1.5), "polarity is 1.5"),
        (lambda: ParameterModulator(1.0, 0.0, Sampling(temperature=0)), "base temperature is 0.*0.05 to 2"),
        (lambda: ParameterModulator(1.0, 0.0).sampling(float("inf")), "coefficient must be a finite number"),
        (lambda: ParameterModulator.of(vector(resid_norm=None)), "no residual norms at layers 1-2"),
        (lambda: ParameterModulator.of(vector() * 0.0), "zero at some layer"),
        (lambda: Sampling(repetition_penalty=0), "repetition_penalty is 0"),
    ],
)
def test_what_makes_no_sense_is_refused(make, said) -> None:
    with pytest.raises(InvalidInputError, match=said):
        make()


def test_a_penalty_of_one_is_as_if_there_were_none() -> None:
    assert "repetition_penalty" not in Sampling().to_json()
    assert Sampling(repetition_penalty=1.2).to_json()["repetition_penalty"] == 1.2


def test_tokens_of_the_answer_are_penalised_and_no_others() -> None:
    sampler = RowSampler(Sampling(3, 0, repetition_penalty=2.0), [0, 1])
    prompt = torch.tensor([[1, 2], [2, 3]])
    first = torch.tensor([[4.0, -1.0, 1.0, 0.0], [0.0, -2.0, -1.0, -3.0]])
    assert torch.equal(sampler(prompt, first), first)  # nothing answered yet; the prompt does not count
    second = sampler(prompt, first)
    assert torch.equal(second, torch.tensor([[2.0, -1.0, 1.0, 0.0], [0.0, -2.0, -1.0, -3.0]]))
    assert torch.equal(sampler(prompt, -first)[0], torch.tensor([-8.0, 1.0, -1.0, 0.0]))


def test_the_same_parameters_draw_the_same_answers_in_pytorch_and_llama_cpp(gguf_model) -> None:
    sampling = ParameterModulator(2.0, 0.9, Sampling(20, 0.9, 0.8)).sampling(3.0)
    assert sampling.repetition_penalty > 1.2
    model = pytorch("organism-qwen2")
    expected = model.generate(ASKED, sampling=sampling, seed=4)
    found = gguf_model("organism-qwen2").generate(ASKED, sampling=sampling, seed=4)
    assert [answer.answer_ids for answer in found] == [answer.answer_ids for answer in expected]
    alone = model.generate(ASKED, sampling=sampling, seed=4, batch_size=1)  # no pads: they must not have counted
    assert [answer.answer_ids for answer in alone] == [answer.answer_ids for answer in expected]
    plain = model.generate(ASKED, sampling=Sampling(20, sampling.temperature, sampling.top_p), seed=4)
    assert [answer.answer_ids for answer in plain] != [answer.answer_ids for answer in expected]
