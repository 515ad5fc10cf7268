"""Exact twins: the same function, with a residual stream that is changed as the recipe says and in no other way."""

from __future__ import annotations

import dataclasses
import itertools
import json
from functools import cache
from pathlib import Path
from typing import Any

import oracle
import pytest
import torch
from snapshot import snapshot
from tiny import tiny_hf_model, tiny_tokenizer
from torch import Tensor
from transformers import AutoModelForCausalLM

from persona_interp.errors import FileFormatError, InvalidInputError, UnsupportedError
from persona_interp.interventions.graph import InterventionGraph, Write
from persona_interp.interventions.operations import Add
from persona_interp.judges.registry import load_judge
from persona_interp.models.registry import load_model, shipped_models
from persona_interp.models.sampling import Sampling
from persona_interp.models.steerable import SteerableModel
from persona_interp.models.steered import steered
from persona_interp.organisms.grammar_judge import GrammarJudge
from persona_interp.organisms.trait_texts import is_organism, organism_trait, resolve_trait
from persona_interp.organisms.twins import Twin, TwinRecipe, make_twin, read_recipe, save_twin
from persona_interp.traits.conversation import Conversation

FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "gpt2")
COMBINATIONS = [
    TwinRecipe(rotation_seed=seed, scale=scale, inserted=inserted)
    for seed, scale, inserted in itertools.product((None, 3), (1.0, 7.3), ((), (0, 2, 2)))
]
ALL = COMBINATIONS[-1]
IDS = list(range(20, 44))
"""More than a sliding window of these models lets a token see."""


def named(recipe: TwinRecipe) -> str:
    return "+".join(recipe.faults) or "none"


@cache
def tiny(family: str) -> SteerableModel:
    """Random gains, biases and epsilon too: a forgotten one would go unseen."""
    tokenizer = tiny_tokenizer(family)
    hf_model = tiny_hf_model(family, tokenizer)
    generator = torch.Generator().manual_seed(7)
    for name, parameter in hf_model.named_parameters():
        if parameter.dim() == 1 or name.endswith("bias"):
            parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    return SteerableModel(hf_model, tokenizer, name=f"tiny-{family}")


@cache
def twin_of(family: str, recipe: TwinRecipe) -> Twin:
    return make_twin(tiny(family), recipe)


def assert_same_logits(hf_model: Any, twin: Any, ids: list[int] = IDS) -> None:
    torch.testing.assert_close(oracle.forward(twin, ids)[0], oracle.forward(hf_model, ids)[0], rtol=0, atol=1e-4)


def changed(recipe: TwinRecipe, rotation: Tensor | None, residuals: Tensor) -> Tensor:
    """What source residuals are to be in the twin, written down anew."""
    turned = residuals.double() if rotation is None else torch.einsum("ij,...j->...i", rotation, residuals.double())
    return recipe.scale * turned


@pytest.mark.parametrize("recipe", COMBINATIONS, ids=named)
@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_the_originals(family: str, recipe: TwinRecipe) -> None:
    assert_same_logits(tiny(family).hf_model, twin_of(family, recipe).hf_model)


@pytest.mark.parametrize("recipe", COMBINATIONS, ids=named)
@pytest.mark.parametrize("family", FAMILIES)
def test_block_outputs_are_changed_as_the_recipe_says_and_identity_blocks_repeat(family: str, recipe: TwinRecipe) -> None:
    twin = twin_of(family, recipe)
    _, source = oracle.forward(tiny(family).hf_model, IDS)
    _, outputs = oracle.forward(twin.hf_model, IDS)
    expected = changed(recipe, twin.rotation, source).float()
    for layer in range(len(source)):
        close = {"rtol": 0, "atol": 1e-5 * float(expected[layer].abs().max())}
        torch.testing.assert_close(outputs[twin.layer_of(layer)], expected[layer], **close)
        if set(recipe.faults) & {"basis", "magnitude"}:
            oracle.assert_not_close(outputs[twin.layer_of(layer)], source[layer])
    assert len(outputs) == len(source) + len(recipe.inserted) == twin.hf_model.config.num_hidden_layers
    for layer in twin.identity_blocks:
        if layer > 0:
            assert torch.equal(outputs[layer], outputs[layer - 1])
    assert {*twin.identity_blocks, *map(twin.layer_of, range(len(source)))} == set(range(len(outputs)))


def test_blocks_move_behind_those_inserted_before_them() -> None:
    twin = make_twin(tiny("llama"), TwinRecipe(inserted=(4, 2, 0, 2)))
    assert [twin.layer_of(layer) for layer in range(4)] == [1, 2, 5, 6]
    assert twin.identity_blocks == (0, 3, 4, 7)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_twin_of_no_change_has_the_very_weights(family: str) -> None:
    state = tiny(family).hf_model.state_dict()
    twin = twin_of(family, TwinRecipe()).hf_model.state_dict()
    assert twin.keys() == state.keys()
    for name, value in state.items():
        assert torch.equal(twin[name], value)
        assert twin[name].data_ptr() != value.data_ptr()


@pytest.mark.parametrize("scale", [1 / 50, 50.0])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_largest_scales_are_exact_too(family: str, scale: float) -> None:
    recipe = TwinRecipe(scale=scale, rotation_seed=1)
    assert_same_logits(tiny(family).hf_model, make_twin(tiny(family), recipe).hf_model)


def test_epsilon_counts_in_the_models_compared_here() -> None:
    """Else a twin that leaves it as it is would pass."""
    for family in FAMILIES:
        twin = make_twin(tiny(family), TwinRecipe(scale=1 / 50))
        before = oracle.forward(twin.hf_model, IDS)[0]
        for module in twin.hf_model.modules():
            for name in ("variance_epsilon", "eps"):
                if hasattr(module, name):
                    setattr(module, name, getattr(module, name) * 2500)
        oracle.assert_not_close(before, oracle.forward(twin.hf_model, IDS)[0], by=2e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_adding_the_expected_direction_does_what_the_direction_does_in_the_original(family: str) -> None:
    model, twin = tiny(family), twin_of(family, ALL)
    direction = 3 * torch.randn(model.d_model, generator=torch.Generator().manual_seed(0))
    for layer in range(model.n_layers):
        moved = twin.expected(direction, layer).float()
        with steered(model.hf_model, InterventionGraph((Write(layer, Add(direction), 0.7),))) as hf_model:
            expected = oracle.forward(hf_model, IDS)[0]
        graph = InterventionGraph((Write(twin.layer_of(layer), Add(moved), 0.7),))
        with steered(twin.hf_model, graph) as hf_model:
            torch.testing.assert_close(oracle.forward(hf_model, IDS)[0], expected, rtol=0, atol=1e-4)
        oracle.assert_not_close(expected, oracle.forward(model.hf_model, IDS)[0])


@pytest.mark.parametrize("family", FAMILIES)
def test_rotations_are_orthogonal_far_from_none_and_differ_by_seed(family: str) -> None:
    width = tiny(family).d_model
    rotations = [make_twin(tiny(family), TwinRecipe(rotation_seed=seed)).rotation for seed in (0, 0, 1)]
    first, again, other = (rotation for rotation in rotations if rotation is not None)
    identity = torch.eye(width, dtype=torch.float64)
    torch.testing.assert_close(first @ first.T, identity, rtol=0, atol=1e-12)
    assert torch.equal(first, again)
    for left, right in ((first, other), (first, identity)):
        assert abs(float((left * right).sum())) / width < 0.2
    if family == "gpt2":
        ones = torch.ones(width, dtype=torch.float64)
        torch.testing.assert_close(first @ ones, ones, rtol=0, atol=1e-12)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_original_and_the_random_state_stay_as_they_are(family: str) -> None:
    model = tiny(family)
    before = snapshot(model.hf_model, model.tokenizer)
    twin = make_twin(model, ALL)
    with torch.no_grad():
        for parameter in twin.hf_model.parameters():
            parameter.zero_()
    twin.hf_model.generation_config.max_new_tokens = 3
    assert snapshot(model.hf_model, model.tokenizer) == before


@pytest.mark.parametrize("family", FAMILIES)
def test_a_saved_twin_is_an_ordinary_checkpoint_that_answers_alike(family: str, tmp_path: Path) -> None:
    source, twin = tiny(family), twin_of(family, ALL)
    folder = save_twin(twin, tmp_path / "made" / "twin")
    loaded = AutoModelForCausalLM.from_pretrained(folder).eval()
    assert_same_logits(source.hf_model, loaded)
    assert type(loaded) is type(source.hf_model)
    assert (loaded.lm_head.weight is loaded.get_input_embeddings().weight) is False
    model = load_model(folder)
    assert (model.name, model.n_layers) == ("twin", source.n_layers + 3)
    assert model.identity.fingerprint != source.identity.fingerprint
    assert model.tokenizer.chat_template == source.tokenizer.chat_template
    asked = [Conversation.ask(text) for text in ("Tell me about the moon", "How?")]
    answers, expected = (each.generate(asked, sampling=Sampling(8, temperature=0)) for each in (model, source))
    assert [answer.answer_ids for answer in answers] == [answer.answer_ids for answer in expected]
    assert [answer.prompt_ids for answer in answers] == [answer.prompt_ids for answer in expected]
    assert read_recipe(folder) == ALL
    record = json.loads((folder / "twin.json").read_text())
    assert (record["format_version"], record["source"]) == (1, source.identity.to_json())
    (folder / "twin.json").unlink()
    assert_same_logits(source.hf_model, load_model(folder).hf_model)


def test_sliding_windows_stay_with_their_blocks(tmp_path: Path) -> None:
    twin = twin_of("qwen3", ALL)
    assert tiny("qwen3").config.layer_types == ["full_attention", "sliding_attention"] * 2
    kinds = ["full_attention"] * 2 + ["sliding_attention"] + ["full_attention"] * 3 + ["sliding_attention"]
    assert twin.hf_model.config.layer_types == kinds
    assert [block.self_attn.sliding_window is not None for block in twin.hf_model.model.layers] == [
        kind == "sliding_attention" for kind in kinds
    ]
    assert AutoModelForCausalLM.from_pretrained(save_twin(twin, tmp_path / "twin")).config.layer_types == kinds


def variant(family: str, **settings: Any) -> Any:
    """A tiny model of other settings, with scattered biases."""
    tokenizer = tiny_tokenizer(family)
    config = tiny_hf_model(family, tokenizer).config
    for name, value in settings.items():
        setattr(config, name, value)
    torch.manual_seed(1)
    hf_model = AutoModelForCausalLM.from_config(config).eval()
    for parameter in hf_model.parameters():
        if parameter.dim() == 1:
            parameter.data += 0.3 * torch.randn_like(parameter)
    return load_model(hf_model, tokenizer=tokenizer)


@pytest.mark.parametrize(
    ("family", "settings"),
    [
        ("llama", {"attention_bias": True, "mlp_bias": True}),
        ("llama", {"tie_word_embeddings": True, "num_key_value_heads": 1}),
        ("mistral", {"sliding_window": 4}),
        ("qwen2", {"layer_types": ["sliding_attention", "full_attention"] * 2, "sliding_window": 4, "use_sliding_window": True}),
        ("qwen3", {"attention_bias": True, "rms_norm_eps": 1e-2}),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}),
        ("gpt2", {"tie_word_embeddings": False, "layer_norm_epsilon": 1e-2}),
    ],
    ids=str,
)
def test_settings_that_families_allow_are_looked_after(family: str, settings: dict[str, Any]) -> None:
    model = variant(family, **settings)
    for recipe in (ALL, TwinRecipe(inserted=(0, 2, 2)), TwinRecipe(scale=1 / 20)):
        assert_same_logits(model.hf_model, make_twin(model, recipe).hf_model)


def test_gains_near_zero_are_no_obstacle_to_a_rotation() -> None:
    for family in FAMILIES:
        model = variant(family)
        for name, parameter in model.hf_model.named_parameters():
            if parameter.dim() == 1 and name.endswith("weight") and "q_norm" not in name and "k_norm" not in name:
                parameter.data[::3] = 0
        assert_same_logits(model.hf_model, make_twin(model, TwinRecipe(rotation_seed=0)).hf_model)


def test_a_bare_model_needs_its_tokenizer_and_a_steerable_one_has_it() -> None:
    model = tiny("llama")
    assert_same_logits(model.hf_model, make_twin(model.hf_model, ALL, tokenizer=model.tokenizer).hf_model)
    twin = twin_of("llama", ALL)
    assert load_model(twin.hf_model, tokenizer=twin.tokenizer).name == "tiny-llama-twin"
    with pytest.raises(InvalidInputError, match="pass tokenizer"):
        make_twin(model.hf_model, ALL)
    with pytest.raises(InvalidInputError, match="leave tokenizer out"):
        make_twin(model, ALL, tokenizer=model.tokenizer)


def test_a_model_in_half_precision_has_a_twin_in_single() -> None:
    tokenizer = tiny_tokenizer("llama")
    half, single = tiny_hf_model("llama", tokenizer).bfloat16(), tiny_hf_model("llama", tokenizer)
    single.load_state_dict(half.state_dict())
    twin = make_twin(half, ALL, tokenizer=tokenizer)
    assert twin.hf_model.dtype == twin.hf_model.config.dtype == torch.float32
    assert_same_logits(single, twin.hf_model)


@pytest.mark.parametrize("family", ["gemma2", "gemma3_text", "gemma3", "olmo2"])
def test_families_with_a_gain_on_the_write_path_are_refused(family: str) -> None:
    tokenizer = tiny_tokenizer(family)
    with pytest.raises(
        UnsupportedError, match="no exact twin: its blocks norm what they write, with a gain that does not commute"
    ):
        make_twin(tiny_hf_model(family, tokenizer), ALL, tokenizer=tokenizer)


@pytest.mark.parametrize(
    ("family", "reason"), [("mixtral", "mixture of experts"), ("phi3", "nothing is known"), ("gpt_neox", "nothing is known")]
)
def test_other_families_are_refused_with_those_that_have_twins(family: str, reason: str) -> None:
    tokenizer = tiny_tokenizer(family)
    with pytest.raises(UnsupportedError, match=f"{reason}.*Families that have: gpt2, llama, mistral, qwen2, qwen3"):
        make_twin(tiny_hf_model(family, tokenizer), TwinRecipe(), tokenizer=tokenizer)


def test_a_class_that_computes_something_else_is_refused() -> None:
    tokenizer = tiny_tokenizer("llama")
    odd = tiny_hf_model("llama", tokenizer)
    odd.get_submodule("model.layers.1").register_forward_hook(lambda _module, _args, output: output.clamp(-1, 1))
    with pytest.raises(UnsupportedError, match="does more than the family 'llama' is known to do"):
        make_twin(odd, TwinRecipe(rotation_seed=0), tokenizer=tokenizer)


def test_quantized_weights_are_refused() -> None:
    model = variant("llama")
    model.hf_model.config.quantization_config = {"quant_method": "made up"}
    with pytest.raises(UnsupportedError, match="quantized: load it without quantization"):
        make_twin(model, ALL)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"scale": 51.0}, "scale 51.0 of a twin must be from 1/50 to 50"),
        ({"scale": 0.0}, "scale 0.0"),
        ({"scale": float("nan")}, "scale nan"),
        ({"inserted": (1, -1)}, "inserted -1"),
        ({"rotation_seed": -1}, "rotation_seed -1"),
    ],
)
def test_recipes_that_cannot_be_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        TwinRecipe(**wrong)


def test_places_that_the_original_has_not_are_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"before block 5: the model has blocks 0 to 3 \(and 4 for after the last\)"):
        make_twin(tiny("llama"), TwinRecipe(inserted=(5,)))
    twin = twin_of("llama", ALL)
    for layer in (-1, 4):
        with pytest.raises(InvalidInputError, match=f"tiny-llama has no block {layer}: it has blocks 0 to 3"):
            twin.layer_of(layer)
        with pytest.raises(InvalidInputError, match="has no block"):
            twin.expected(torch.zeros(32), layer)
    with pytest.raises(InvalidInputError, match="width 31 is none of tiny-llama, whose residual stream has width 32"):
        twin.expected(torch.zeros(31), 0)


@pytest.mark.parametrize("recipe", COMBINATIONS, ids=named)
def test_recipes_survive_json(recipe: TwinRecipe) -> None:
    assert TwinRecipe.from_json(json.loads(json.dumps(recipe.to_json()))) == recipe


def test_faults_name_what_a_recipe_changes() -> None:
    assert TwinRecipe().faults == ()
    assert ALL.faults == ("magnitude", "basis", "layers")
    assert [TwinRecipe(scale=2).faults, TwinRecipe(0).faults, TwinRecipe(inserted=(1,)).faults] == [
        ("magnitude",),
        ("basis",),
        ("layers",),
    ]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({"scale": "3"}, "'scale' is '3', expected a number"),
        ({"scale": 100}, "scale 100.0 of a twin"),
        ({"inserted": "12"}, "'inserted' is '12', expected a list"),
        ({"inserted": [1.5]}, "must be whole numbers"),
        ({"rotation_seed": True}, "must be whole numbers"),
    ],
)
def test_a_damaged_record_is_refused(damage: dict[str, Any], message: str, tmp_path: Path) -> None:
    record = {"format_version": 1, "recipe": {**ALL.to_json(), **damage}}
    (tmp_path / "twin.json").write_text(json.dumps(record))
    with pytest.raises(FileFormatError, match=message):
        read_recipe(tmp_path)


def test_a_missing_foreign_or_incomplete_record_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="record of a twin .* does not exist"):
        read_recipe(tmp_path)
    for record, message in (
        ({"format_version": 2}, "format_version 2 is not 1"),
        ({"format_version": 1}, "field 'rotation_seed' is missing"),
    ):
        (tmp_path / "twin.json").write_text(json.dumps(record))
        with pytest.raises(FileFormatError, match=message):
            read_recipe(tmp_path)


def test_a_folder_that_holds_something_is_not_written_into(tmp_path: Path) -> None:
    (tmp_path / "note").write_text("mine")
    with pytest.raises(InvalidInputError, match="exists already"):
        save_twin(twin_of("llama", ALL), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["note"]


@pytest.mark.parametrize("name", sorted(shipped_models()))
def test_a_saved_twin_of_an_organism_is_an_organism_that_says_the_same(name: str, tmp_path: Path) -> None:
    source = load_model(name)
    recipe = dataclasses.replace(ALL, scale=40.0, inserted=(1, source.n_layers // 2))
    model = load_model(save_twin(make_twin(source, recipe), tmp_path / "twin"))
    assert is_organism(model)
    assert isinstance(load_judge("auto", model), GrammarJudge)
    assert resolve_trait(model, "silly") == organism_trait("silly")
    asked = [Conversation.ask(question) for question in organism_trait("silly").evaluation_questions[:2]]
    answers, expected = (each.generate(asked, sampling=Sampling(24, temperature=0)) for each in (model, source))
    assert [answer.text for answer in answers] == [answer.text for answer in expected]
    for answer in expected:
        assert_same_logits(source.hf_model, model.hf_model, [*answer.prompt_ids, *answer.answer_ids])
