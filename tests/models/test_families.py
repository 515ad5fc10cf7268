from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from persona_interp.errors import FileFormatError, InvalidInputError, UnsupportedError
from persona_interp.models.checks import verified_blocks
from persona_interp.models.families import FAMILIES, FamilyLayout, layout_of, register_family
from persona_interp.models.identity import ModelIdentity, fingerprint
from persona_interp.models.steerable import SteerableModel

TinyHf = Callable[[str], Any]


def neox() -> GPTNeoXForCausalLM:
    torch.manual_seed(0)
    config = GPTNeoXConfig(
        vocab_size=400,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
    )
    return GPTNeoXForCausalLM(config).eval()


def test_every_known_layout_fits_its_model(tiny_hf: TinyHf, architecture: str) -> None:
    hf_model, _ = tiny_hf(architecture)
    assert len(verified_blocks(hf_model, layout_of(hf_model.config), "tiny")) == hf_model.config.num_hidden_layers


def test_unknown_architecture_says_which_lines_add_it_and_they_do(tiny_hf: TinyHf, monkeypatch: pytest.MonkeyPatch) -> None:
    hf_model, (_, tokenizer) = neox(), tiny_hf("gpt2")
    with pytest.raises(
        UnsupportedError, match=r"'gpt_neox' is not known \(known: gpt2, llama.*\n.*import FamilyLayout"
    ) as caught:
        SteerableModel(hf_model, tokenizer, name="neox")
    monkeypatch.setattr("persona_interp.models.families.FAMILIES", dict(FAMILIES))
    lines = "\n".join(line.strip() for line in str(caught.value).splitlines()[1:])
    for wrong, right in {"model.layers": "gpt_neox.layers", "model.embed_tokens": "gpt_neox.embed_in"}.items():
        lines = lines.replace(wrong, right)
    lines = lines.replace("model.norm", "gpt_neox.final_layer_norm")
    exec(lines)  # noqa: S102 (the lines of the error message are what is tested)
    assert SteerableModel(hf_model, tokenizer, name="neox").n_layers == 2


@pytest.mark.parametrize("part", ["blocks", "embedding", "final_norm", "unembedding"])
def test_missing_component_is_named(tiny_hf: TinyHf, part: str) -> None:
    hf_model, _ = tiny_hf("llama")
    layout = FamilyLayout("llama", **{part: "model.nothing_here"})
    with pytest.raises(UnsupportedError, match=f"mine .LlamaForCausalLM. has no module 'model.nothing_here'.* as its {part}"):
        verified_blocks(hf_model, layout, "mine")


def test_blocks_that_differ_or_return_no_plain_tensor_are_refused(tiny_hf: TinyHf) -> None:
    hf_model, _ = tiny_hf("llama")
    blocks = hf_model.model.layers

    class Tupled(nn.Module):
        def __init__(self, block: nn.Module) -> None:
            super().__init__()
            self.block = block

        def forward(self, *args: Any, **kwargs: Any) -> Any:
            return (self.block(*args, **kwargs),)

    first = blocks[0]
    blocks[0] = Tupled(first)
    with pytest.raises(UnsupportedError, match="blocks are of different kinds .LlamaDecoderLayer, Tupled."):
        verified_blocks(hf_model, layout_of(hf_model.config), "mine")
    hf_model.model.layers = nn.ModuleList([Tupled(first)])
    hf_model.model.norm = nn.Identity()
    hf_model.lm_head = nn.Identity()
    with pytest.raises((UnsupportedError, TypeError, AttributeError)):
        verified_blocks(hf_model, layout_of(hf_model.config), "mine")
    assert not any(module._forward_hooks for module in hf_model.modules())


def test_a_layout_whose_blocks_are_something_else_is_refused(tiny_hf: TinyHf) -> None:
    hf_model, _ = tiny_hf("llama")
    layout = FamilyLayout("llama", blocks="model.layers.0.mlp")
    with pytest.raises(UnsupportedError, match="blocks are of different kinds"):
        verified_blocks(hf_model, layout, "mine")


def test_a_model_type_has_one_layout() -> None:
    assert register_family(FAMILIES["llama"]) is FAMILIES["llama"]
    with pytest.raises(InvalidInputError, match="'llama' is already registered"):
        register_family(FamilyLayout("llama", blocks="elsewhere"))


def test_fingerprint_is_of_the_weights_whatever_their_storage(tiny_hf: TinyHf, architecture: str) -> None:
    (hf_model, _), (again, _) = tiny_hf(architecture), tiny_hf(architecture)
    before = fingerprint(hf_model)
    assert fingerprint(again) == before
    half = again.to(torch.bfloat16)
    assert fingerprint(half) != before
    assert fingerprint(half.float()) == fingerprint(half.to(torch.bfloat16))
    with torch.no_grad():
        for parameter in hf_model.parameters():
            parameter.mul_(1.001)
    assert fingerprint(hf_model) != before


def test_fingerprints_of_different_models_differ(tiny_hf: TinyHf) -> None:
    prints = {fingerprint(tiny_hf(name)[0]) for name in ("llama", "mistral", "qwen2", "gpt2")}
    assert len(prints) == 4
    hf_model, _ = tiny_hf("llama")
    hf_model.config.rms_norm_eps = 1e-3
    assert fingerprint(hf_model) not in prints


def test_identity_comes_back_from_json_and_names_what_is_missing() -> None:
    identity = ModelIdentity("m", None, "abc", 4, 32)
    assert ModelIdentity.from_json(identity.to_json()) == identity
    with pytest.raises(FileFormatError, match="vector.json: field 'd_model' is missing"):
        ModelIdentity.from_json(
            {key: value for key, value in identity.to_json().items() if key != "d_model"}, source="vector.json"
        )
    with pytest.raises(FileFormatError, match="field 'n_layers' is '4', expected an integer"):
        ModelIdentity.from_json({**identity.to_json(), "n_layers": "4"})


def test_model_says_what_it_is(tiny_model: Callable[[str], SteerableModel]) -> None:
    model = tiny_model("mistral")
    assert (model.n_layers, model.d_model, model.n_ctx, model.dtype) == (3, 64, 256, torch.float32)
    assert model.identity.fingerprint == fingerprint(model.hf_model)
    assert repr(model) == "SteerableModel('tiny-mistral', n_layers=3, d_model=64, torch.float32, cpu)"
