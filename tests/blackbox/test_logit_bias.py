"""Biases from a vector: the lens is the product it says, tokens match by what they spell, what is biased is said more."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from gguf_organisms import pytorch
from hypothesis import given
from hypothesis import strategies as st

from persona_interp.blackbox.logit_bias import LogitBiasModulator
from persona_interp.blackbox.modulator import Modulator
from persona_interp.blackbox.parameters import ParameterModulator
from persona_interp.blackbox.token_lens import TokenLens
from persona_interp.blackbox.token_texts import TokenTexts, read_token_texts
from persona_interp.errors import FileFormatError, IncompatibleError, InvalidInputError, PersonaInterpError, UnsupportedError
from persona_interp.models.registry import shipped_models
from persona_interp.models.row_sampler import RowSampler
from persona_interp.models.sampling import Sampling
from persona_interp.traits.conversation import Conversation
from persona_interp.vectors.persona_vector import PersonaVector

QUESTIONS = ["What is the moon?", "Please tell me about bees."]
ASKED = [Conversation.ask("Please tell me about bees."), Conversation.ask("How are you?"), Conversation.ask("Hm?")]


@cache
def lens(name: str = "organism-llama") -> TokenLens:
    return TokenLens(pytorch(name), QUESTIONS, n_tokens=6)


@cache
def texts(name: str) -> TokenTexts:
    return TokenTexts(pytorch(name).tokenizer)


def vector(name: str = "organism-llama", layers: tuple[int, ...] = (2, 3)) -> PersonaVector:
    model = pytorch(name)
    directions = torch.randn(len(layers), model.d_model, generator=torch.Generator().manual_seed(3))
    return PersonaVector(directions, layers, "silly", model.identity)


def modulator(target: str = "organism-qwen2", **options) -> LogitBiasModulator:
    return LogitBiasModulator.of(vector(), lens(), texts(target), **options)


# -- reading ---------------------------------------------------------------------------------------


def test_the_lens_is_the_unembedding_with_the_norms_gain_over_the_streams_root_mean_square() -> None:
    model, found = pytorch("organism-llama"), lens().read(vector(), layers=[3])
    weights = model.hf_model.lm_head.weight.double() * model.hf_model.model.norm.weight.double()
    rms = lens().final_norm / model.d_model**0.5
    expected = weights @ vector().at(3).double() / rms
    expected -= (lens().probabilities.double() * expected).sum()
    torch.testing.assert_close(found.logits.double(), expected.detach(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["organism-llama", "organism-gpt2"])
def test_the_lens_is_linear_and_adds_what_is_added_at_several_layers(name: str) -> None:
    both, whole = vector(name), lens(name).read(vector(name)).logits
    torch.testing.assert_close(lens(name).read(both * -3.0).logits, -3 * whole, rtol=1e-4, atol=1e-4)
    parts = sum(lens(name).read(both, layers=[layer]).logits for layer in both.layers)
    torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-4)


def test_the_shift_is_the_mean_change_of_log_probabilities_at_places_of_answers() -> None:
    model, places = pytorch("organism-llama"), lens().places
    assert all(place[: len(places[0])] == places[0] for place in places[:3])
    plain, steered = (
        model.next_token_logits(places, graph=graph).double().log_softmax(-1) for graph in (None, vector().graph(0.5, layers=[2]))
    )
    expected = (steered - plain).mean(0) / 0.5
    expected -= (plain.exp().mean(0) * expected).sum()
    found = lens().read(vector(), layers=[2], reading="shift", step=0.5)
    torch.testing.assert_close(found.logits.double(), expected, rtol=1e-3, atol=1e-3)


def test_probabilities_are_of_the_unsteered_model() -> None:
    assert float(lens().probabilities.sum()) == pytest.approx(1, abs=1e-5)
    assert (lens().read(vector()).logits * lens().probabilities).sum() == pytest.approx(0, abs=1e-4)


# -- tokens ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["organism-llama", "organism-gpt2"])
def test_a_gguf_file_spells_its_tokens_as_the_tokenizer_it_was_made_from(gguf_path, name: str) -> None:
    ours, theirs = read_token_texts(shipped_models()[name]), read_token_texts(gguf_path(name))
    assert theirs.by_id == ours.by_id
    assert len(ours.by_id) > 500


def test_token_texts_keep_spaces_and_leave_out_special_tokens() -> None:
    found, tokenizer = texts("organism-llama"), pytorch("organism-llama").tokenizer
    assert any(text.startswith(" ") for text in found.ids)
    assert not set(found.by_id) & set(tokenizer.all_special_ids)
    ids = tokenizer("Bees are silly.", add_special_tokens=False)["input_ids"]
    assert "".join(found.by_id[index] for index in ids) == "Bees are silly."


def test_biases_go_to_tokens_that_spell_the_same() -> None:
    read, found = lens().read(vector()).logits, modulator()
    assert len(found.biases) == 300
    for index, bias in found.biases.items():
        (text,) = {texts("organism-qwen2").by_id[index]}
        assert any(bias == pytest.approx(float(read[origin])) for origin in texts("organism-llama").ids[text])


def test_fewer_entries_are_those_that_count_most() -> None:
    few, many = modulator(entries=5), modulator(entries=200)
    assert list(many.biases)[:5] == list(few.biases)
    assert 0 < few.coverage < many.coverage <= 1
    shift = lens().read(vector())
    weight = shift.probabilities * shift.logits.square()
    own = LogitBiasModulator.of(vector(), lens(), texts("organism-llama"), entries=5)
    assert min(weight[list(own.biases)]) >= weight[list(set(texts("organism-llama").by_id) - set(own.biases))].max()


# -- modulating ------------------------------------------------------------------------------------


@given(coefficient=st.floats(-50, 50), bound=st.floats(0.1, 100))
def test_biases_are_linear_until_the_bound(coefficient: float, bound: float) -> None:
    made = LogitBiasModulator({3: 2.0, 5: -0.5}, Sampling(9, logit_bias={5: 0.1, 7: 0.05}), bound)
    found = made.sampling(coefficient).logit_bias
    expected = {3: 2 * coefficient, 5: 0.1 - 0.5 * coefficient, 7: 0.05}
    for index, bias in expected.items():
        assert found.get(index, 0.0) == pytest.approx(min(max(bias, -bound), bound))


def test_modulators_are_alike_and_do_nothing_at_zero() -> None:
    base = Sampling(9, 0.7, logit_bias={2: 1.0})
    for made in (ParameterModulator(0.5, 0.2, base, "silly"), modulator(base=base)):
        assert isinstance(made, Modulator)
        assert made.sampling(0.0) == made.base == base
        assert made.sampling(2.0) != base
        assert made.to_json()["trait"] == "silly"


def test_sampling_records_biases_only_where_there_are_some() -> None:
    assert "logit_bias" not in Sampling().to_json()
    assert Sampling(logit_bias={4: 1.5}).to_json()["logit_bias"] == {"4": 1.5}
    assert hash(Sampling(logit_bias={4: 1.5})) is not None


def test_biases_come_before_everything_else() -> None:
    sampler = RowSampler(Sampling(3, 0, repetition_penalty=2.0, logit_bias={1: 5.0, 3: -1.0}), [0])
    scores = torch.tensor([[4.0, -1.0, 1.0, 0.0]])
    assert torch.equal(sampler(torch.zeros(1, 1, dtype=torch.long), scores), torch.tensor([[4.0, 4.0, 1.0, -1.0]]))
    assert torch.equal(scores, torch.tensor([[4.0, -1.0, 1.0, 0.0]]))


def test_the_same_biases_draw_the_same_answers_in_pytorch_and_llama_cpp(gguf_model) -> None:
    sampling = replace(modulator(base=Sampling(20, 0.9)).sampling(4.0), repetition_penalty=1.1)
    model = pytorch("organism-qwen2")
    expected = [answer.answer_ids for answer in model.generate(ASKED, sampling=sampling, seed=4)]
    assert [answer.answer_ids for answer in gguf_model("organism-qwen2").generate(ASKED, sampling=sampling, seed=4)] == expected
    plain = model.generate(ASKED, sampling=Sampling(20, 0.9, repetition_penalty=1.1), seed=4)
    assert [answer.answer_ids for answer in plain] != expected


def test_what_is_biased_is_said_and_what_is_banned_is_not(gguf_model) -> None:
    model = gguf_model("organism-qwen2")
    (plain,) = model.generate(ASKED[:1], sampling=Sampling(12, 0.0))
    banned = plain.answer_ids[0]
    (other,) = model.generate(ASKED[:1], sampling=Sampling(12, 0.0, logit_bias={banned: -100.0}))
    assert banned not in other.answer_ids
    (same,) = model.generate(ASKED[:1], sampling=Sampling(12, 0.0, logit_bias={banned: 100.0}))
    assert set(same.answer_ids) == {banned}


# -- refusals --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: LogitBiasModulator({1: 1.0}, bound=101.0), "bound of biases is 101"),
        (lambda: LogitBiasModulator({1: float("nan")}), "token 1 the bias nan"),
        (lambda: LogitBiasModulator({-1: 1.0}), "token -1"),
        (lambda: LogitBiasModulator({1: 1.0}, Sampling(logit_bias={1: 3.0}), bound=2.0), "base has biases beyond the bound of 2"),
        (lambda: LogitBiasModulator({1: 1.0}).sampling(float("nan")), "coefficient must be a finite number"),
        (lambda: modulator(entries=0), "entries is 0"),
        (lambda: modulator(reading="tea"), "reading is 'tea', expected one of lens, shift"),
        (lambda: modulator(reading="shift", step=0.0), "step is 0"),
        (lambda: modulator(layers=[1]), "no layer 1"),
        (lambda: TokenLens(pytorch("organism-llama"), []), "0 questions"),
    ],
)
def test_what_makes_no_sense_is_refused(make, said) -> None:
    with pytest.raises(InvalidInputError, match=said):
        make()


def test_vocabularies_without_a_token_in_common_are_refused() -> None:
    foreign = TokenTexts(pytorch("organism-qwen2").tokenizer, "foreign")
    foreign.by_id = {0: "ß"}
    with pytest.raises(IncompatibleError, match="no token that 'silly' moves in organism-llama is a token of foreign"):
        LogitBiasModulator.of(vector(), lens(), foreign)
    with pytest.raises(IncompatibleError, match="organism-qwen2"):
        lens("organism-qwen2").read(vector())


def test_a_bias_of_a_token_the_model_lacks_is_refused() -> None:
    with pytest.raises(PersonaInterpError, match="logit_bias names token 99999999, but the model has tokens 0 to"):
        pytorch("organism-llama").generate(ASKED[:1], sampling=Sampling(3, logit_bias={99999999: 1.0}))


def test_llama_cpp_has_no_lens_but_a_shift(gguf_model) -> None:
    theirs = TokenLens(gguf_model("organism-llama"), QUESTIONS, n_tokens=3)
    with pytest.raises(UnsupportedError, match="unembed"):
        theirs.read(vector(), layers=[2])
    ours = TokenLens(pytorch("organism-llama"), QUESTIONS, n_tokens=3).read(vector(), layers=[2], reading="shift").logits
    torch.testing.assert_close(theirs.read(vector(), layers=[2], reading="shift").logits, ours, rtol=1e-2, atol=1e-2)


def test_a_tokenizer_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="does not exist: give the folder of a tokenizer, or a GGUF file"):
        read_token_texts(tmp_path / "none")
    (tmp_path / "some.txt").write_text("text")
    with pytest.raises(FileFormatError, match="is no GGUF file"):
        read_token_texts(tmp_path / "some.txt")
    with pytest.raises(FileFormatError, match="has no tokenizer"):
        read_token_texts(tmp_path)
