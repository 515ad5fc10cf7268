from __future__ import annotations

from collections.abc import Callable
from typing import Any

import oracle
import pytest
import torch
from torch import nn
from transformers import GPTBigCodeConfig, GPTBigCodeForCausalLM, Phi3Config, Phi3ForCausalLM

from persona_interp.errors import FileFormatError, InvalidInputError, UnsupportedError
from persona_interp.models.checks import verified_blocks
from persona_interp.models.families import FAMILIES, FamilyLayout, context_length, layout_of, register_family
from persona_interp.models.identity import ModelIdentity, fingerprint
from persona_interp.models.steerable import SteerableModel

TinyHf = Callable[[str], Any]


def bigcode() -> GPTBigCodeForCausalLM:
    torch.manual_seed(0)
    return GPTBigCodeForCausalLM(GPTBigCodeConfig(vocab_size=400, n_embd=16, n_layer=2, n_head=2, n_positions=64)).eval()


def long_phi3() -> Phi3ForCausalLM:
    """With other rotary frequencies for texts of more than 16 tokens, as in the checkpoints for 128 k tokens."""
    torch.manual_seed(0)
    config = Phi3Config(
        vocab_size=400,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=256,
        original_max_position_embeddings=16,
        rope_parameters={"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [4.0] * 4, "rope_theta": 1e4},
        initializer_range=0.25,
        pad_token_id=0,
    )
    return Phi3ForCausalLM(config).eval()


def test_every_known_layout_fits_its_model(tiny_hf: TinyHf, architecture: str) -> None:
    hf_model, _ = tiny_hf(architecture)
    assert len(verified_blocks(hf_model, layout_of(hf_model.config), "tiny")) == hf_model.config.num_hidden_layers


def test_unknown_architecture_says_which_lines_add_it_and_they_do(tiny_hf: TinyHf, monkeypatch: pytest.MonkeyPatch) -> None:
    hf_model, (_, tokenizer) = bigcode(), tiny_hf("gpt2")
    with pytest.raises(
        UnsupportedError, match=r"'gpt_bigcode' is not known \(known: .*gpt2, .*llama.*\n.*import FamilyLayout"
    ) as caught:
        SteerableModel(hf_model, tokenizer, name="bigcode")
    monkeypatch.setattr(FAMILIES, "_found", dict(FAMILIES))
    lines = "\n".join(line.strip() for line in str(caught.value).splitlines()[1:])
    for wrong, right in {"layers": "h", "embed_tokens": "wte", "norm": "ln_f"}.items():
        lines = lines.replace(f"model.{wrong}", f"transformer.{right}")
    exec(lines)  # noqa: S102 (the lines of the error message are what is tested)
    assert SteerableModel(hf_model, tokenizer, name="bigcode").n_layers == 2


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


def test_a_long_context_in_which_rows_would_depend_on_their_neighbours_is_not_offered(tiny_hf: TinyHf) -> None:
    """Phi-3 rotates all rows of a batch with other frequencies when one of them is long, and generating throws its KV cache away
    when it gets there. So batched would not equal one by one, nor reading an answer generating it: such texts are refused."""
    hf_model = long_phi3()
    short, long = torch.arange(5, 13), torch.arange(30, 54)
    batch = torch.stack([torch.cat([torch.zeros(16, dtype=torch.long), short]), long])
    mask = (batch > 0).long()
    places = (mask.cumsum(dim=1) - 1).clamp(min=0)
    with torch.no_grad():
        together = hf_model(input_ids=batch, attention_mask=mask, position_ids=places, use_cache=False).logits[0, -1]
        alone = hf_model(input_ids=short.unsqueeze(0), use_cache=False).logits[0, -1]
    oracle.assert_not_close(together, alone, by=1.0)
    model = SteerableModel(hf_model, tiny_hf("qwen2")[1], name="long")
    assert model.n_ctx == 16
    assert torch.allclose(model.next_token_logits([short.tolist(), long[:16].tolist()])[0], alone, atol=1e-5)
    with pytest.raises(InvalidInputError, match=r"row 1 does not fit into the context of long: 24 tokens.*context is 16"):
        model.next_token_logits([short.tolist(), long.tolist()])


def test_a_context_that_the_config_does_not_name_is_an_error(tiny_hf: TinyHf, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny_hf("llama")[0].config
    assert context_length(config) == 256
    monkeypatch.setitem(FAMILIES._found, "llama", FamilyLayout("llama", context=("seq_length",)))
    with pytest.raises(UnsupportedError, match=r"'llama' model says seq_length=None, .*FamilyLayout\(context="):
        context_length(config)


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
    with pytest.raises(FileFormatError, match="field n_layers is malformed .expected a whole number, found '4'"):
        ModelIdentity.from_json({**identity.to_json(), "n_layers": "4"})


def test_model_says_what_it_is(tiny_model: Callable[[str], SteerableModel]) -> None:
    model = tiny_model("mistral")
    assert (model.n_layers, model.d_model, model.n_ctx, model.dtype) == (3, 64, 256, torch.float32)
    assert model.identity.fingerprint == fingerprint(model.hf_model)
    assert repr(model) == "SteerableModel('tiny-mistral', n_layers=3, d_model=64, torch.float32, cpu)"
