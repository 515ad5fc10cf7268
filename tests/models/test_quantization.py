"""8-bit and 4-bit weights: read and steered like any others, known by their own fingerprint, and left as they were."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import oracle
import pytest
import torch
from snapshot import snapshot

from persona_interp.errors import InvalidInputError, MissingExtraError
from persona_interp.interventions.graph import Capture, InterventionGraph, Write
from persona_interp.interventions.operations import Add
from persona_interp.models.chat import TokenisedAnswer
from persona_interp.models.registry import load_model
from persona_interp.models.sampling import Sampling
from persona_interp.models.steerable import SteerableModel
from persona_interp.models.steered import steered
from persona_interp.organisms.grammar_judge import GrammarJudge
from persona_interp.organisms.trait_texts import resolve_trait
from persona_interp.traits.conversation import Conversation

CLOSE = {"rtol": 1e-4, "atol": 1e-4}
TEXT = TokenisedAnswer(tuple(range(20, 34)), 6)
ASKED = [Conversation.ask("Tell me about the moon"), Conversation.ask("How?")]
GREEDY = Sampling(6, 0)
LINEAR = {"8bit": "Linear8bitLt", "4bit": "Linear4bit"}

Quantized = Callable[[str, str], SteerableModel]


@pytest.fixture(params=LINEAR)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def quantized(tiny_model_path: Callable[[str], Path]) -> Quantized:
    """Tiny models, loaded once each."""
    loaded: dict[tuple[str, str], SteerableModel] = {}

    def load(family: str, kind: str) -> SteerableModel:
        if (family, kind) not in loaded:
            loaded[family, kind] = load_model(tiny_model_path(family), quantization=kind, device="cpu")
        return loaded[family, kind]

    return load


@pytest.fixture(params=["llama", "gpt2"])
def model(request: pytest.FixtureRequest, quantized: Quantized, kind: str) -> SteerableModel:
    return quantized(request.param, kind)


def steering(model: SteerableModel, *captures: Capture) -> InterventionGraph:
    return InterventionGraph((Write(1, Add(torch.linspace(-3, 3, model.d_model)), 1.5), *captures))


def test_the_linear_layers_of_the_blocks_are_quantized_and_the_stream_is_not(model: SteerableModel, kind: str) -> None:
    block = oracle.blocks_of(model.hf_model)[0]
    weights = [module for module in block.modules() if getattr(module, "weight", None) is not None and module.weight.dim() == 2]
    assert len(weights) >= 4
    assert {type(module).__name__ for module in weights} == {LINEAR[kind]}
    assert model.dtype == torch.float32
    assert type(model.hf_model.lm_head).__name__ == "Linear"


def test_capture_and_steering_equal_plain_hooks_on_the_same_weights(model: SteerableModel) -> None:
    every = Capture("all", "none")
    edits = {1: (1.5 * torch.linspace(-3, 3, model.d_model), slice(None))}
    logits, outputs = oracle.forward(model.hf_model, TEXT.ids[:-1], edits)
    (got,) = model.capture([TEXT], steering(model, every))
    torch.testing.assert_close(got[every], outputs, **CLOSE)
    (likelihood,) = model.log_likelihood([TEXT], graph=steering(model))
    expected = logits[TEXT.n_prompt - 1 :].log_softmax(dim=-1).gather(1, torch.tensor(TEXT.answer_ids).unsqueeze(1)).squeeze(1)
    torch.testing.assert_close(likelihood.token_log_probs, expected, **CLOSE)
    oracle.assert_not_close(outputs, oracle.forward(model.hf_model, TEXT.ids[:-1])[1])


def test_steered_generation_equals_bare_hooks_on_the_same_weights(model: SteerableModel) -> None:
    """The same cached loop, because 8-bit columns are chosen call by call."""
    prompt = torch.tensor([model.chat.prompt_ids(ASKED[0])])
    settings = {"attention_mask": torch.ones_like(prompt), "max_new_tokens": 6, "do_sample": False, "pad_token_id": 0}
    with oracle.hooks(model.hf_model, {1: (1.5 * torch.linspace(-3, 3, model.d_model), slice(None))}, {}):
        expected = model.hf_model.generate(prompt, **settings)[0, prompt.shape[1] :]
    (answer,) = model.generate(ASKED[:1], graph=steering(model), sampling=GREEDY)
    assert answer.answer_ids == tuple(expected[: len(answer.answer_ids)].tolist())
    with steered(model.hf_model, steering(model)) as hf_model:
        tokens = hf_model.generate(prompt, **settings)[0, prompt.shape[1] :]
    assert tokens.tolist() == expected.tolist()
    assert answer.answer_ids != model.generate(ASKED[:1], sampling=GREEDY)[0].answer_ids


def test_four_bit_rows_do_not_depend_on_their_neighbours(quantized: Quantized) -> None:
    model, every = quantized("llama", "4bit"), Capture("all", "none")
    texts = [TEXT, TokenisedAnswer(tuple(range(40, 49)), 3), TokenisedAnswer(tuple(range(60, 90)), 12)]
    together = model.capture(texts, steering(model, every))
    for one, other in zip(together, model.capture(texts, steering(model, every), batch_size=1), strict=True):
        torch.testing.assert_close(one[every], other[every], **CLOSE)


def test_the_fingerprint_is_that_of_the_quantized_weights(tiny_model_path: Callable[[str], Path], quantized: Quantized) -> None:
    folder = tiny_model_path("llama")
    identities = {kind: quantized("llama", kind).identity for kind in LINEAR}
    assert len({load_model(folder, device="cpu").identity.fingerprint, *(i.fingerprint for i in identities.values())}) == 3
    for kind, identity in identities.items():
        quantized("llama", kind).generate(ASKED, sampling=GREEDY)
        assert load_model(folder, quantization=kind, device="cpu").identity == identity


def test_an_organism_answers_sensibly(kind: str) -> None:
    model = load_model("organism-qwen2", quantization=kind, device="cpu")
    trait = resolve_trait(model, "silly")
    questions, instructions = trait.evaluation_questions[:4], trait.instructions[0]
    means = []
    for system in (instructions.positive, instructions.negative):
        answers = model.generate([Conversation.ask(q, system=system) for q in questions], sampling=Sampling(40, 0))
        judged = GrammarJudge().judge(trait, list(zip(questions, [answer.text for answer in answers], strict=True)))
        assert sum(judgement.coherence or 0 for judgement in judged) / len(judged) > 80
        means.append(sum(judgement.trait or 0 for judgement in judged) / len(judged))
    assert means[0] - means[1] > 60


def test_a_quantized_model_of_yours_is_bit_identical_afterwards(tiny_model_path: Callable[[str], Path], kind: str) -> None:
    """Also where bitsandbytes would rearrange its weights at the first forward, which it does on some processors."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

    folder = tiny_model_path("llama")
    settings = BitsAndBytesConfig(load_in_8bit=kind == "8bit", load_in_4bit=kind == "4bit")
    hf_model = AutoModelForCausalLM.from_pretrained(folder, quantization_config=settings).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    flags = [getattr(module, "support_avx512bf16_for_cpu", None) for module in hf_model.modules()]
    before = snapshot(hf_model, tokenizer)
    model = load_model(hf_model, tokenizer=tokenizer)
    model.generate(ASKED, graph=steering(model, Capture("all")), sampling=GREEDY)
    model.capture([TEXT], steering(model, Capture("all")))
    model.log_likelihood([TEXT], graph=steering(model))
    after = snapshot(hf_model, tokenizer)
    assert {part: (before[part], after[part]) for part in before if before[part] != after[part]} == {}
    assert [getattr(module, "support_avx512bf16_for_cpu", None) for module in hf_model.modules()] == flags


def test_a_checkpoint_quantized_already_loads_and_is_not_quantized_again(
    quantized: Quantized, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = quantized("llama", kind)
    model.hf_model.save_pretrained(tmp_path)
    model.tokenizer.save_pretrained(tmp_path)
    again = load_model(tmp_path, device="cpu")
    assert again.identity.fingerprint == model.identity.fingerprint
    assert [a.answer_ids for a in again.generate(ASKED, sampling=GREEDY)] == [
        a.answer_ids for a in model.generate(ASKED, sampling=GREEDY)
    ]
    with pytest.raises(InvalidInputError, match=r"quantized already \(bitsandbytes\); quantization='8bit' cannot come on top"):
        load_model(tmp_path, quantization="8bit")
    without_bitsandbytes(monkeypatch)
    with pytest.raises(MissingExtraError, match=r'quantized by bitsandbytes needs .*pip install "persona-interp\[quantized\]"'):
        load_model(tmp_path)


def without_bitsandbytes(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "bitsandbytes" else find(name))


def test_the_extra_is_named_where_it_is_missing(tiny_model_path: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    without_bitsandbytes(monkeypatch)
    with pytest.raises(MissingExtraError, match=r'quantization=\'4bit\' needs .*pip install "persona-interp\[quantized\]"'):
        load_model(tiny_model_path("llama"), quantization="4bit")


def test_what_cannot_be_quantized_is_refused(
    tiny_model_path: Callable[[str], Path], tiny_hf: Callable[[str], tuple[Any, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InvalidInputError, match="quantization '2bit' is not one of 8bit, 4bit"):
        load_model(tiny_model_path("llama"), quantization="2bit")
    hf_model, tokenizer = tiny_hf("llama")
    with pytest.raises(InvalidInputError, match="quantization say how to load a model, but this one is loaded"):
        load_model(hf_model, tokenizer=tokenizer, quantization="8bit")
    monkeypatch.setenv("NDIF_API_KEY", "made-up")
    with pytest.raises(InvalidInputError, match="as NDIF holds them: leave quantization out"):
        load_model("gpt2", quantization="8bit", remote=True)


def test_where_most_weights_stay_large_the_user_is_told(
    tiny_model_path: Callable[[str], Path], capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """And nothing else is said: bitsandbytes reports a cast at every call of every layer."""
    load_model(tiny_model_path("mixtral"), quantization="8bit", device="cpu").generate(ASKED, sampling=GREEDY)
    said = capsys.readouterr()
    assert "of its weights could be quantized. Linear layers are; embeddings, and the experts of a mixture" in said.err
    assert said.out == ""
    assert [record.getMessage() for record in caplog.records] == []
