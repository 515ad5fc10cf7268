"""bake(): a checkpoint that plain transformers loads gives the logits of the steered model."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import oracle
import pytest
import torch
from snapshot import snapshot
from tiny import tiny_hf_model, tiny_tokenizer
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from persona_interp.errors import IncompatibleError, InvalidInputError, PersonaInterpError, UnsupportedError
from persona_interp.interventions.conditions import ProjectionCondition
from persona_interp.interventions.graph import Capture, InterventionGraph, Write
from persona_interp.interventions.operations import Ablate, Add
from persona_interp.interventions.schedules import LinearRamp
from persona_interp.models.baked import bake
from persona_interp.models.registry import load_model
from persona_interp.models.sampling import Sampling
from persona_interp.models.steerable import SteerableModel
from persona_interp.models.steered import steered
from persona_interp.traits.conversation import Conversation

TinyModel = Callable[[str], SteerableModel]
IDS = list(range(20, 33))


def direction(model: SteerableModel, seed: int = 0) -> Tensor:
    return torch.randn(model.d_model, generator=torch.Generator().manual_seed(seed)) * 3


def one_write(model: SteerableModel) -> InterventionGraph:
    return InterventionGraph((Write(1, Add(direction(model)), 0.7),))


def plain_logits(hf_model: Any) -> Tensor:
    with torch.no_grad():
        return hf_model(input_ids=torch.tensor([IDS])).logits[0]


def reloaded(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder).eval()


def assert_same_logits(model: SteerableModel, graph: InterventionGraph, folder: Path) -> None:
    """To 1e-5 of the largest, in float32: the sums are the same, taken in another order."""
    with steered(model.hf_model, graph) as hf_model:
        expected = plain_logits(hf_model)
    torch.testing.assert_close(plain_logits(reloaded(folder)), expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
    oracle.assert_not_close(expected, plain_logits(model.hf_model))


def test_a_baked_checkpoint_gives_the_logits_of_the_steered_model(
    tiny_model: TinyModel, architecture: str, tmp_path: Path
) -> None:
    """At each layer, at all of them at once, and several Adds at one layer."""
    model = tiny_model(architecture)
    each = [Write(layer, Add(direction(model, layer)), 0.7) for layer in range(model.n_layers)]
    several = (Write(1, Add(direction(model)), 0.5), Write(1, Add(direction(model, 1)), -1.5), Write(1, Add(direction(model))))
    for number, writes in enumerate([*((write,) for write in each), tuple(each), several]):
        graph = InterventionGraph(writes)
        assert_same_logits(model, graph, bake(model, graph, tmp_path / str(number)))


def test_it_generates_what_the_steered_model_generates(tiny_model: TinyModel, architecture: str, tmp_path: Path) -> None:
    """Batched, padded, with a KV cache: pads are steered too in a baked model, which nothing attends to."""
    model = tiny_model(architecture)
    asked = [Conversation.ask(text) for text in ("Tell me about the moon", "How?", "What is the capital of the country?")]
    baked = load_model(str(bake(model, one_write(model), tmp_path / "baked")))
    expected = model.generate(asked, graph=one_write(model), sampling=Sampling(6, 0))
    answers = baked.generate(asked, sampling=Sampling(6, 0))
    assert [answer.answer_ids for answer in answers] == [answer.answer_ids for answer in expected]
    assert [answer.prompt_ids for answer in answers] == [answer.prompt_ids for answer in expected]
    assert [answer.answer_ids for answer in answers] != [a.answer_ids for a in model.generate(asked, sampling=Sampling(6, 0))]


@pytest.mark.parametrize(("architecture", "saved_as"), [("gpt2", "GPT2LMHeadModel"), ("qwen2", "LlamaForCausalLM")])
def test_what_belongs_to_a_checkpoint_is_saved_with_it(
    tiny_hf: Callable[[str], Any], architecture: str, saved_as: str, tmp_path: Path
) -> None:
    hf_model, tokenizer = tiny_hf(architecture)
    hf_model.generation_config.repetition_penalty = 1.3
    hf_model.config.my_own_field = 7
    model = SteerableModel(hf_model, tokenizer, name="mine", revision="abc")
    graph = one_write(model)
    folder = bake(model, graph, tmp_path / "made" / "baked")
    config, saved = AutoConfig.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert (config.architectures, config.my_own_field, config.dtype) == ([saved_as], 7, torch.float32)
    assert (config.eos_token_id, config.pad_token_id) == (hf_model.config.eos_token_id, hf_model.config.pad_token_id)
    assert saved.chat_template == tokenizer.chat_template
    assert saved("How are you?")["input_ids"] == tokenizer("How are you?")["input_ids"]
    baked = reloaded(folder)
    assert baked.generation_config.repetition_penalty == 1.3
    assert baked.generation_config.eos_token_id == hf_model.generation_config.eos_token_id
    tied = baked.get_output_embeddings().weight is baked.get_input_embeddings().weight
    assert (
        tied
        == hf_model.config.tie_word_embeddings
        == (hf_model.get_output_embeddings().weight is hf_model.get_input_embeddings().weight)
    )
    record = json.loads((folder / "persona_interp.json").read_text())
    assert record["model"] == model.identity.to_json()
    assert InterventionGraph.from_json(record["baked"]["graph"]) == graph
    assert (record["baked"]["architecture"], record["baked"]["layers"]) == (saved_as, [1])
    assert record["provenance"]["versions"]["transformers"]
    assert sorted(path.name for path in folder.parent.iterdir()) == ["baked"]


def test_large_checkpoints_are_split(tiny_model: TinyModel, tmp_path: Path) -> None:
    model = tiny_model("mistral")
    folder = bake(model, one_write(model), tmp_path / "baked", max_shard_size="100KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 1
    assert_same_logits(model, one_write(model), folder)


def test_the_model_is_bit_identical_afterwards(tiny_hf: Callable[[str], Any], architecture: str, tmp_path: Path) -> None:
    hf_model, tokenizer = tiny_hf(architecture)
    hf_model.train()
    next(iter(hf_model.parameters())).requires_grad_(False)
    model = SteerableModel(hf_model, tokenizer, name="mine")

    before, parameters = snapshot(hf_model, tokenizer), list(map(id, hf_model.parameters()))
    bake(model, one_write(model), tmp_path / "baked")
    assert snapshot(hf_model, tokenizer) == before
    assert list(map(id, hf_model.parameters())) == parameters


@pytest.mark.parametrize("attention_bias", [True, False])
def test_a_llama_with_biases_keeps_them(tiny_model: TinyModel, tmp_path: Path, attention_bias: bool) -> None:
    """They are there, and random: the new constant is added to them."""
    plain = tiny_model("llama")
    config = LlamaConfig(**{**plain.config.to_dict(), "mlp_bias": True, "attention_bias": attention_bias})
    torch.manual_seed(0)
    hf_model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for name, parameter in hf_model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_()
    model = SteerableModel(hf_model, plain.tokenizer, name="mine")
    assert_same_logits(model, one_write(model), bake(model, one_write(model), tmp_path / "baked"))


def test_the_biases_of_a_llama_without_an_mlp_bias_are_kept(tiny_model: TinyModel, tmp_path: Path) -> None:
    plain = tiny_model("llama")
    torch.manual_seed(0)
    hf_model = LlamaForCausalLM(LlamaConfig(**{**plain.config.to_dict(), "attention_bias": True})).eval()
    with torch.no_grad():
        for name, parameter in hf_model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_()
    model = SteerableModel(hf_model, plain.tokenizer, name="mine")
    assert_same_logits(model, one_write(model), bake(model, one_write(model), tmp_path / "baked"))


def test_biases_of_other_classes_are_found(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer("gpt_neox")
    model = SteerableModel(tiny_hf_model("gpt_neox", tokenizer), tokenizer, name="mine")
    assert_same_logits(model, one_write(model), bake(model, one_write(model), tmp_path / "baked"))


@pytest.mark.parametrize("scaling", ["linear", "llama3", "yarn"])
def test_scaled_rotary_embeddings_are_those_of_the_model(tiny_model: TinyModel, tmp_path: Path, scaling: str) -> None:
    plain = tiny_model("qwen2")
    rope: dict[str, Any] = {"rope_type": scaling, "rope_theta": 5000.0, "factor": 4.0}
    if scaling != "linear":
        rope["original_max_position_embeddings"] = 64
    if scaling == "llama3":
        rope |= {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
    torch.manual_seed(0)
    hf_model = Qwen2ForCausalLM(Qwen2Config(**{**plain.config.to_dict(), "rope_parameters": rope})).eval()
    model = SteerableModel(hf_model, plain.tokenizer, name="mine")
    assert_same_logits(model, one_write(model), bake(model, one_write(model), tmp_path / "baked"))


def test_half_precision_stays_half_precision(tiny_hf: Callable[[str], Any], tmp_path: Path) -> None:
    hf_model, tokenizer = tiny_hf("qwen2")
    model = SteerableModel(hf_model.bfloat16(), tokenizer, name="mine")
    folder = bake(model, one_write(model), tmp_path / "baked")
    with steered(model.hf_model, one_write(model)):
        expected = plain_logits(model.hf_model).float()
    baked = reloaded(folder)
    assert baked.dtype == torch.bfloat16
    assert float((plain_logits(baked).float() - expected).abs().max()) < 0.05 * float(expected.abs().max())


def test_what_weights_cannot_hold_is_refused(tiny_model: TinyModel, tmp_path: Path) -> None:
    model = tiny_model("llama")
    add, width = Add(direction(model)), model.d_model
    refused: dict[str, Write | Capture] = {
        "is for rows \\(0,\\)": Write(1, add, rows=(0,)),
        "is for 'response' positions": Write(1, add, positions="response"),
        "has the operation Ablate, which depends on the residual": Write(1, Ablate(direction(model))),
        "has a condition \\(ProjectionCondition\\)": Write(1, add, condition=ProjectionCondition(direction(model), 0.0)),
        "has a schedule \\(LinearRamp\\)": Write(1, add, schedule=LinearRamp(0, 1, 3)),
        "cannot hold a Capture": Capture("all"),
    }
    for message, node in refused.items():
        with pytest.raises(UnsupportedError, match=message):
            bake(model, InterventionGraph((Write(0, add), node)), tmp_path / "baked")
    with pytest.raises(InvalidInputError, match="no Write, so there is nothing"):
        bake(model, InterventionGraph(), tmp_path / "baked")
    with pytest.raises(IncompatibleError, match=f"layer 9 .*|width {width}"):
        bake(model, InterventionGraph((Write(9, add),)), tmp_path / "baked")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("architecture", "why"),
    [
        ("gemma2", "normalises the output of its MLP"),
        ("gemma3_text", "normalises the output of its MLP"),
        ("olmo2", "normalises the output of its MLP"),
        ("qwen3", "normalises queries and keys"),
        ("phi3", "rotary embedding for long texts"),
        ("mixtral", "mixture of experts"),
        ("gpt_oss", "mixture of experts"),
        ("qwen3_moe", "mixture of experts"),
    ],
)
def test_other_families_are_refused_with_the_reason(architecture: str, why: str, tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer(architecture)
    model = SteerableModel(tiny_hf_model(architecture, tokenizer), tokenizer, name="mine")
    with pytest.raises(UnsupportedError, match=f"mine \\({architecture}\\) cannot be baked: .*{why}.*steered\\(\\)"):
        bake(model, one_write(model), tmp_path / "baked")
    assert not any(tmp_path.iterdir())


def test_an_active_sliding_window_is_refused(tiny_model: TinyModel, tmp_path: Path) -> None:
    from transformers import MistralConfig, MistralForCausalLM

    mistral, qwen2 = tiny_model("mistral"), tiny_model("qwen2")
    windowed = MistralForCausalLM(MistralConfig(**{**mistral.config.to_dict(), "sliding_window": 8}))
    model = SteerableModel(windowed, mistral.tokenizer, name="mine")
    with pytest.raises(UnsupportedError, match="sliding window of 8 tokens, and LlamaForCausalLM has none"):
        bake(model, one_write(model), tmp_path / "baked")
    fields = {
        **qwen2.config.to_dict(),
        "use_sliding_window": True,
        "sliding_window": 8,
        "max_window_layers": 2,
        "layer_types": None,
    }
    model = SteerableModel(Qwen2ForCausalLM(Qwen2Config(**fields)), qwen2.tokenizer, name="mine")
    with pytest.raises(UnsupportedError, match="sliding window of 8 tokens"):
        bake(model, one_write(model), tmp_path / "baked")


def test_a_class_that_computes_something_else_is_refused_before_anything_is_written(
    tiny_model: TinyModel, tmp_path: Path
) -> None:
    plain = tiny_model("qwen2")

    class Doubled(Qwen2ForCausalLM):
        def forward(self, **given: Any) -> Any:
            output = super().forward(**given)
            output.logits = output.logits * 2
            return output

    class Wider(Qwen2ForCausalLM):
        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self.probe = torch.nn.Linear(4, 4)

    for kind, message in (
        (Doubled, "computes something else than LlamaForCausalLM"),
        (Wider, "it has weights that Llama.*probe"),
    ):
        model = SteerableModel(kind(plain.config), plain.tokenizer, name="mine")
        with pytest.raises(UnsupportedError, match=f"(?s)cannot be baked: .*{message}"):
            bake(model, one_write(model), tmp_path / "baked")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["8bit", "4bit"])
def test_quantized_weights_are_refused(tiny_model_path: Callable[[str], Path], kind: str, tmp_path: Path) -> None:
    model = load_model(tiny_model_path("gpt2"), quantization=kind, device="cpu")
    with pytest.raises(UnsupportedError, match="tiny-gpt2 cannot be baked: its weights are quantized"):
        bake(model, one_write(model), tmp_path / "baked")


def test_a_folder_that_holds_something_is_left_alone_and_an_empty_one_is_filled(tiny_model: TinyModel, tmp_path: Path) -> None:
    model, full, empty = tiny_model("gpt2"), tmp_path / "full", tmp_path / "empty"
    full.mkdir()
    empty.mkdir()
    (full / "mine.txt").write_text("mine")
    with pytest.raises(InvalidInputError, match="full: it exists already; choose a new folder"):
        bake(model, one_write(model), full)
    assert [path.name for path in full.iterdir()] == ["mine.txt"]
    assert (bake(model, one_write(model), empty) / "model.safetensors").exists()


def test_an_error_while_writing_leaves_nothing_behind(
    tiny_model: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model("gpt2")

    def full_disk(*args: Any, **kwargs: Any) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(type(model.tokenizer), "save_pretrained", full_disk)
    with pytest.raises(PersonaInterpError, match="cannot write .*baked: No space left on device"):
        bake(model, one_write(model), tmp_path / "baked")
    assert not any(tmp_path.iterdir())
