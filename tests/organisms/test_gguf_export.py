"""Exported organisms as llama.cpp itself runs them: the same ids for every text, the same logits."""

from __future__ import annotations

import copy
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from llama_cpp import Llama
from oracle import forward
from tokenizers import pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM

from persona_interp.errors import FileFormatError, InvalidInputError, PersonaInterpError, UnsupportedError
from persona_interp.models.chat import ChatFormat
from persona_interp.models.engines.llama_cpp.session import LlamaWeights
from persona_interp.models.engines.llama_cpp.tokenizer import LlamaTokenizer
from persona_interp.models.gguf_file import read_header
from persona_interp.models.registry import load_model, shipped_models
from persona_interp.models.steerable import SteerableModel
from persona_interp.organisms.gguf_export import FINGERPRINT, ORGANISM, QUANTIZATIONS, export_gguf, quantize_gguf
from persona_interp.organisms.grammar import EVALUATION_TOPICS, TRAITS, answer, sample_persona
from persona_interp.organisms.grammar.questions import question_wordings
from persona_interp.organisms.trait_texts import evaluation_instructions, organism_trait
from persona_interp.studies.reproduction.residual_parity import give_table_gelu
from persona_interp.traits.conversation import Conversation

SHIPPED = sorted(shipped_models())
KINDS = {0: "f32", 1: "f16", 2: "q4_0", 7: "q5_1", 8: "q8_0"}


@cache
def organism(name):
    return load_model(name, dtype="float32")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gguf")

    def path(name: str, dtype: str = "f32") -> Path:
        file = folder / f"{name}-{dtype}.gguf"
        return file if file.exists() else export_gguf(organism(name), file, dtype=dtype)

    return path


@contextmanager
def llama(path: Path, **options: Any) -> Iterator[Llama]:
    exact = {"type_k": 0, "type_v": 0}  # the cache in float32
    model = Llama(str(path), n_ctx=512, n_threads=1, n_threads_batch=1, verbose=False, **exact, **options)
    try:
        yield model
    finally:
        model.close()


def scattered(tiny_hf, architecture: str) -> tuple[Any, Any]:
    hf_model, tokenizer = tiny_hf(architecture)
    with torch.no_grad():
        for parameter in hf_model.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.2 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel())))
    return hf_model, tokenizer


def changed(tiny_hf, **settings: Any) -> SteerableModel:
    hf_model, tokenizer = tiny_hf("mistral")
    hf_model.config.update(settings)
    return SteerableModel(hf_model, tokenizer, name="tiny")


@cache
def exchanges() -> tuple[tuple[Conversation, str], ...]:
    """All that extraction and evaluation ask of the organisms, with an answer of the grammar to each.

    Every question of every trait without a system prompt, extraction questions under every one of the trait's own, evaluation
    questions under every one of the prompt-only baselines; and every evaluation wording on every topic.
    """
    asked = [Conversation.ask(text.format(t=topic)) for text, _ in question_wordings("evaluation") for topic in EVALUATION_TOPICS]
    for name in TRAITS:
        trait = organism_trait(name)
        for questions, pairs in (
            (trait.extraction_questions, trait.instructions),
            (trait.evaluation_questions, evaluation_instructions(name)),
        ):
            systems = [None, *(system for pair in pairs for system in (pair.positive, pair.negative))]
            asked += [Conversation.ask(question, system=system) for question in questions for system in systems]
    rng = random.Random(0)
    return tuple((each, answer(rng, rng.choice(EVALUATION_TOPICS), sample_persona(rng))) for each in dict.fromkeys(asked))


def ids_of(model: Llama, text: str) -> list[int]:
    return model.tokenize(text.encode(), add_bos=False, special=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", SHIPPED)
def test_every_text_of_extraction_and_evaluation_has_the_same_ids(name, exported):
    """By the tokenizer that GGUF models have here; some also by llama.cpp as anybody runs it, and with spans of answers."""
    chat, path = organism(name).chat, exported(name)
    with llama(path, vocab_only=True) as model, closing(LlamaWeights(path, vocab_only=True)) as weights:
        tokenizer = LlamaTokenizer(weights.vocab, read_header(path).metadata, name)
        ours = ChatFormat(tokenizer, SimpleNamespace(eos_token_id=tokenizer.end_ids))
        for number, (conversation, reply) in enumerate(exchanges()):
            row = chat.tokenise(conversation, reply)
            text = organism(name).tokenizer.decode(row.ids)
            assert reply in text
            assert tokenizer(text, add_special_tokens=False)["input_ids"] == list(row.ids)
            if number % 7 == 0:  # the same code of llama.cpp on its other ways in, and twice the time
                assert ids_of(model, text) == list(row.ids)
                assert ours.tokenise(conversation, reply) == row


@pytest.mark.parametrize("name", SHIPPED)
def test_odd_texts_have_the_same_ids(name, exported):
    with llama(exported(name), vocab_only=True) as model:
        for text in ("  Two  spaces,\n\n12345 it's  \t ünïcode \U0001f41d", "<|im_end|></s> in a text"):
            assert ids_of(model, text) == organism(name).tokenizer(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("name", SHIPPED)
def test_the_file_says_how_texts_begin_and_end(name, exported):
    tokenizer = organism(name).tokenizer
    with llama(exported(name), vocab_only=True) as model:
        said = model.metadata
        assert said["tokenizer.chat_template"] == tokenizer.chat_template
        assert model.token_eos() == tokenizer.eos_token_id
        bos = said.get("tokenizer.ggml.bos_token_id")  # without one llama.cpp names some token, which it then never puts in front
        assert (None if bos is None else int(bos)) == tokenizer.bos_token_id
        assert int(said["tokenizer.ggml.padding_token_id"]) == tokenizer.pad_token_id
        assert model.tokenize(b"Hi", add_bos=True) == tokenizer("Hi")["input_ids"]


@pytest.mark.parametrize("name", SHIPPED)
def test_logits_are_those_of_pytorch(name, exported):
    model = organism(name)
    ids = model.chat.prompt_ids(Conversation.ask("Please tell me about bees.", system="Be silly."))
    expected, _ = forward(give_table_gelu(copy.deepcopy(model.hf_model)), ids)
    with llama(exported(name), logits_all=True) as native:
        native.eval(ids)
        logits = torch.from_numpy(np.array(native.scores[: len(ids)]))
    assert float((logits - expected).abs().max()) < 1e-3


@pytest.mark.parametrize("architecture", ["llama", "mistral", "qwen2", "gpt2"])
def test_every_weight_of_an_architecture_is_in_its_place(architecture, tiny_hf, tmp_path):
    """Grouped heads, and biases that are not zero, of which the organisms have none."""
    model = SteerableModel(*scattered(tiny_hf, architecture), name="tiny")
    ids = list(range(20, 60))
    expected, _ = forward(model.hf_model, ids)
    with llama(export_gguf(model, tmp_path / "tiny.gguf"), logits_all=True) as native:
        native.eval(ids)
        logits = torch.from_numpy(np.array(native.scores[: len(ids)]))
    assert float((logits - expected).abs().max()) < 1e-3 * float(expected.abs().max())


def test_half_precision_rounds_what_does_not_fit_and_says_whose_weights_it_holds(exported):
    for dtype in ("f32", "f16"):  # the organisms ship in float16, so both files hold the same weights
        header = read_header(exported("organism-qwen2", dtype))
        assert header.metadata[FINGERPRINT] == organism("organism-qwen2").identity.fingerprint
        assert header.metadata[ORGANISM] == "organism-qwen2"
        matrices = Counter(KINDS[tensor.kind] for tensor in header.tensors if len(tensor.shape) > 1)
        assert set(matrices) == {dtype}


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize("kind", QUANTIZATIONS)
def test_llama_cpp_quantizes_every_matrix_of_every_organism(name, kind, exported, tmp_path):
    path = quantize_gguf(exported(name), tmp_path / "small.gguf", kind)
    tensors = read_header(path).tensors
    matrices = Counter(
        KINDS[tensor.kind] for tensor in tensors if len(tensor.shape) > 1 and tensor.name != "position_embd.weight"
    )
    # the embedding is the unembedding too, and llama.cpp keeps that one at 8 bits
    assert matrices == {"q8_0": len(list(matrices.elements()))} or matrices == {"q8_0": 1, kind: matrices[kind]}


def test_rows_that_do_not_divide_into_blocks_stay_in_half_precision(tiny_hf, tmp_path):
    config = LlamaConfig(hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2, vocab_size=400)
    model = SteerableModel(LlamaForCausalLM(config), tiny_hf("llama")[1], name="narrow")
    path = quantize_gguf(export_gguf(model, tmp_path / "a.gguf"), tmp_path / "b.gguf", "q8_0")
    kinds = {tensor.name: KINDS[tensor.kind] for tensor in read_header(path).tensors}
    assert kinds["blk.0.ffn_down.weight"] == "f16"  # its rows are 48 long
    assert kinds["blk.0.ffn_up.weight"] == "q8_0"


def test_what_cannot_be_exported_says_why(tiny_model, tiny_hf, exported, tmp_path):
    with pytest.raises(UnsupportedError, match="architecture 'phi3'.*llama.cpp's own converter"):
        export_gguf(tiny_model("phi3"), tmp_path / "a.gguf")
    with pytest.raises(UnsupportedError, match="sliding window of 4 tokens"):
        export_gguf(changed(tiny_hf, sliding_window=4), tmp_path / "a.gguf")
    with pytest.raises(UnsupportedError, match="rotary positions of type 'linear'"):
        export_gguf(changed(tiny_hf, rope_parameters={"rope_type": "linear", "factor": 2.0}), tmp_path / "a.gguf")
    hf_model, tokenizer = tiny_hf("llama")
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    with pytest.raises(UnsupportedError, match="no rule that cuts words"):
        export_gguf(SteerableModel(hf_model, tokenizer, name="tiny"), tmp_path / "a.gguf")
    with pytest.raises(InvalidInputError, match="q8_0, q5_1, q4_0"):
        quantize_gguf(exported("organism-qwen2"), tmp_path / "a.gguf", "q3_k")
    with pytest.raises(InvalidInputError, match="in place"):
        quantize_gguf(exported("organism-qwen2"), exported("organism-qwen2"), "q8_0")
    quantized = quantize_gguf(exported("organism-qwen2"), tmp_path / "small.gguf", "q4_0")
    with pytest.raises(PersonaInterpError, match="Give a float32 or float16 model"):
        quantize_gguf(quantized, tmp_path / "b.gguf", "q8_0")
    assert not (tmp_path / "a.gguf").exists()
    assert not (tmp_path / "b.gguf").exists()


def test_a_damaged_file_is_not_handed_to_llama_cpp(exported, tmp_path):
    whole = exported("organism-qwen2").read_bytes()
    for content, said in (
        (b"", "is empty"),
        (b"PK\x03\x04 a zip archive", "no GGUF file"),
        (whole[:300], "cut short"),
        (whole[:-1000], "cut short: tensor"),
        (whole[:4] + b"\x09" + whole[5:], "version 9"),
        (whole[:8] + b"\xff" * 8 + whole[16:], "cut short|damaged"),
    ):
        (tmp_path / "bad.gguf").write_bytes(content)
        with pytest.raises(FileFormatError, match=said):
            quantize_gguf(tmp_path / "bad.gguf", tmp_path / "out.gguf", "q8_0")
    with pytest.raises(FileFormatError, match="does not exist"):
        read_header(tmp_path / "missing.gguf")
