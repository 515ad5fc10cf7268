"""Lineage: a vector is used as it is on every copy of its model's weights, and on nothing else, whatever the names say."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from gguf_organisms import pytorch
from real import smollm2, smollm2_gguf

from persona_interp.errors import FileFormatError
from persona_interp.models.engines.llama_cpp.model import LlamaCppModel
from persona_interp.models.identity import ModelIdentity
from persona_interp.models.names import formless_name, gguf_names, hf_names, is_architecture, same_name
from persona_interp.models.registry import load_model
from persona_interp.models.residual_print import KIN, ResidualPrint, likeness, residual_print
from persona_interp.models.steerable import SteerableModel
from persona_interp.organisms.gguf_export import kept_gguf
from persona_interp.organisms.twins.recipe import TwinRecipe
from persona_interp.organisms.twins.twin import make_twin
from persona_interp.vectors.lineage import KEY, Kinship, Lineage, kinship
from persona_interp.vectors.persona_vector import PersonaVector

QWEN, LLAMA = "organism-qwen2", "organism-llama"


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str, str], LlamaCppModel]]:
    """`gguf(QWEN, "q8_0")` -> that organism in that form, under the name of its file."""
    folder, loaded = tmp_path_factory.mktemp("gguf"), {}

    def load(name: str, kind: str) -> LlamaCppModel:
        if (name, kind) not in loaded:
            loaded[name, kind] = LlamaCppModel(kept_gguf(pytorch(name), folder, kind))
        return loaded[name, kind]

    yield load
    for model in loaded.values():
        model.close()


def vector_of(model: SteerableModel, *, recorded: bool = True) -> PersonaVector:
    """A random vector of a model; `recorded`: as it is written since lineages are, else as before."""
    directions = torch.randn(model.n_layers, model.d_model, generator=torch.Generator().manual_seed(0))
    provenance = {KEY: Lineage.of(model).to_json()} if recorded else {}
    return PersonaVector(directions, tuple(range(model.n_layers)), "silly", model.identity, provenance=provenance)


def named(vector: PersonaVector, name: str, fingerprint: str = "f" * 64) -> PersonaVector:
    """The same vector, of a model that neither name, fingerprint nor file tell."""
    return replace(vector, model=replace(vector.model, name=name, fingerprint=fingerprint, weights_file=None))


def measured(found: Kinship) -> float:
    assert found.measured is not None
    return found.measured.cosine


@pytest.mark.parametrize("name", [QWEN, LLAMA])
@pytest.mark.parametrize("kind", ["q8_0", "q4_0"])
def test_a_vector_fits_quantized_copies_of_its_model_and_theirs_fit_it(
    name: str, kind: str, gguf: Callable[[str, str], LlamaCppModel]
) -> None:
    exact, quantized = pytorch(name), gguf(name, kind)
    for made_in, used_in in ((exact, quantized), (quantized, exact)):
        vector = named(vector_of(made_in), "a-name-that-says-nothing", made_in.identity.fingerprint)
        found = kinship(vector, used_in)
        assert (found.fits, found.exact) == (True, False)
        assert measured(found) > 0.98
        assert "in their basis" in found.why


def test_a_float_copy_holds_the_same_weights(gguf: Callable[[str, str], LlamaCppModel]) -> None:
    assert kinship(vector_of(pytorch(QWEN)), gguf(QWEN, "f32")).exact


def test_the_same_network_in_another_basis_is_another_model() -> None:
    twin = make_twin(pytorch(QWEN), TwinRecipe(rotation_seed=0))
    rotated = SteerableModel(twin.hf_model, twin.tokenizer, name=QWEN)
    found = kinship(vector_of(pytorch(QWEN)), rotated)
    assert found.fits is False, "though it has the name, the tokenizer, the shape and every logit"
    assert abs(measured(found)) < 0.2


def test_in_the_same_basis_at_another_scale_a_coefficient_would_mean_another_dose() -> None:
    twin = make_twin(pytorch(QWEN), TwinRecipe(scale=3.0))
    found = kinship(vector_of(pytorch(QWEN)), SteerableModel(twin.hf_model, twin.tokenizer, name=QWEN))
    assert found.fits is False
    assert measured(found) > 0.99
    assert "3 times as long" in found.why


def test_another_model_of_the_same_shape_is_another_model() -> None:
    natural = pytorch("organism-natural")
    assert (natural.n_layers, natural.d_model) == (pytorch(QWEN).n_layers, pytorch(QWEN).d_model)
    found = kinship(named(vector_of(natural), QWEN), pytorch(QWEN))
    assert (found.fits, abs(measured(found)) < 0.2) == (False, True)


def test_a_finetune_is_in_the_basis_of_its_base_model() -> None:
    base = pytorch(QWEN)
    hf_model = copy.deepcopy(base.hf_model).requires_grad_(True)
    optimizer = torch.optim.AdamW(hf_model.parameters(), lr=3e-4)
    ids = torch.tensor([base.tokenizer("Cats like long walks by the river with seven boats.")["input_ids"]])
    losses: list[float] = []
    for _ in range(20):
        loss = hf_model(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    finetuned = SteerableModel(hf_model.requires_grad_(False).eval(), base.tokenizer, name="mine")
    found = kinship(vector_of(base), finetuned)
    assert losses[-1] < losses[0] / 2, "it was trained"
    assert found.fits
    assert KIN < measured(found) < 0.999


@pytest.mark.real
def test_on_a_real_model_a_vector_of_the_quantized_file_fits_the_dequantised_one_and_the_other_way_round() -> None:
    with LlamaCppModel(smollm2_gguf(), n_ctx=256) as quantized:
        for made_in, used_in in ((quantized, smollm2()), (smollm2(), quantized)):
            found = kinship(named(vector_of(made_in), "x", made_in.identity.fingerprint + "x"), used_in)
            assert found.fits
            assert measured(found) > 0.99
            assert kinship(vector_of(made_in), used_in).exact, "both engines read the weights from one file"


def test_what_is_recorded_survives_files_and_sums(tmp_path: Path) -> None:
    model = pytorch(QWEN)
    vector = vector_of(model)
    for suffix in (".json", ".safetensors", ".gguf"):
        back = PersonaVector.load(vector.save(tmp_path / f"v{suffix}"))
        recorded = Lineage.recorded_in(back)
        assert recorded is not None
        assert recorded.residuals is not None
        assert likeness(recorded.residuals.values, residual_print(model).values).cosine > 0.9999
    for made in (-vector, vector * 2, vector + vector, vector.select([2]), vector.normalised()):
        assert Lineage.recorded_in(made) is not None
    assert Lineage.recorded_in(vector_of(model, recorded=False)) is None


def test_a_damaged_record_is_told() -> None:
    vector = vector_of(pytorch(QWEN))
    record = vector.provenance[KEY]
    for damaged in ({}, {**record, "residuals": {}}, {**record, "residuals": {**record["residuals"], "values": [[1.0]]}}):
        with pytest.raises(FileFormatError, match="damaged"):
            kinship(named(replace(vector, provenance={KEY: damaged}), "x"), pytorch(QWEN))
    assert ResidualPrint.from_json(record["residuals"]).layers == (1, 3, 5)


# -- where nothing is recorded, names ------------------------------------------------------------------------------------


def test_without_a_record_the_name_decides_and_that_is_said(gguf: Callable[[str, str], LlamaCppModel]) -> None:
    old = vector_of(pytorch(QWEN), recorded=False)
    quantized = LlamaCppModel(gguf(QWEN, "q8_0").path, name=f"{QWEN}-Q8_0")
    with quantized:
        found = kinship(old, quantized)
    assert (found.fits, found.measured) == (True, None)
    assert "not measured" in found.why


def test_an_unrelated_model_with_the_same_last_part_of_its_name_is_another_model() -> None:
    model = SteerableModel(pytorch(QWEN).hf_model, pytorch(QWEN).tokenizer, name="alice/chatty-1b")
    old = vector_of(model, recorded=False)
    assert kinship(named(old, "bob/chatty-1b"), model).fits is False
    assert kinship(named(old, "bob/chatty-1b", ""), model).fits is False
    assert kinship(named(old, "alice/chatty-1b"), model).fits
    assert not named(old, "bob/chatty-1b", "").same_basis(model.identity)


def test_vectors_of_another_depth_or_width_never_fit() -> None:
    vector = vector_of(pytorch(LLAMA))
    assert "width" in kinship(vector, pytorch(QWEN)).why
    shallow = replace(vector_of(pytorch(QWEN)).select([0, 1]), model=ModelIdentity("x", None, "f" * 64, 2, pytorch(QWEN).d_model))
    assert "2 layers" in kinship(shallow, pytorch(QWEN)).why
    assert kinship(shallow, pytorch(QWEN)).fits is False


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("Qwen/Qwen2.5-7B-Instruct", "Qwen2.5-7B-Instruct-Q4_K_M", True),
        ("Qwen/Qwen2.5-7B-Instruct", "qwen2.5 7b instruct", True),
        ("Qwen/Qwen2.5-7B-Instruct", "Qwen/Qwen2.5-7B-Instruct-AWQ", True),
        ("SmolLM2-135M-Instruct.Q4_1", "smollm2-135m-instruct", True),
        ("m-IQ2_XXS-GGUF", "m-bf16", True),
        ("Qwen/Qwen2.5-7B-Instruct", "Qwen/Qwen2.5-7B", False),
        ("alice/model", "bob/model", False),
        ("Qwen/Qwen2.5-7B", "Qwen/Qwen2.5-14B", False),
        ("", "", False),
    ],
)
def test_names_mean_one_model_whatever_form_its_weights_are_in(first: str, second: str, same: bool) -> None:
    assert same_name(first, second, form=False) is same
    assert same_name(second, first, form=False) is same


def test_a_form_is_part_of_the_name_elsewhere() -> None:
    assert not same_name("m-q8_0", "m")
    assert formless_name("Q4_K_M") == "q4-k-m"


def test_gguf_files_and_model_cards_say_what_a_model_was_made_from(tmp_path: Path) -> None:
    base = {"general.base_model.count": 1, "general.base_model.0.repo_url": "https://huggingface.co/Qwen/Qwen2.5-7B"}
    assert gguf_names({"general.name": "My Tune", "general.basename": "qwen2.5", "general.size_label": "7B", **base}) == (
        ("My Tune", "qwen2.5-7B"),
        ("Qwen/Qwen2.5-7B",),
    )
    assert gguf_names({}) == ((), ())
    (tmp_path / "README.md").write_text("---\nbase_model: Qwen/Qwen2.5-7B\n---\nA tune.\n", encoding="utf-8")

    class Config:
        _name_or_path = str(tmp_path)

    assert hf_names(Config()) == ((), (tmp_path.name, "Qwen/Qwen2.5-7B"))
    (tmp_path / "README.md").write_text("---\n: : [\n---\n", encoding="utf-8")
    assert hf_names(Config()) == ((), (tmp_path.name,))


# -- where a hint names an architecture ----------------------------------------------------------------------------------


def test_an_architecture_is_no_models_name() -> None:
    assert all(is_architecture(name) for name in ("qwen2", "llama", "mistral", "gpt2", "gemma3_text", "gpt_oss", "gpt-oss"))
    assert not any(is_architecture(name) for name in ("organism-qwen2", "Qwen/Qwen2.5-7B", "model-a", ""))


@pytest.mark.parametrize(("hint", "fits"), [("qwen2", None), ("Qwen2", None), ("llama", False), ("gpt2", False)])
def test_a_hint_at_an_architecture_is_compared_with_it(hint: str, fits: bool | None) -> None:
    vector = named(vector_of(pytorch(QWEN), recorded=False), "unknown", "")
    hinted = replace(vector, provenance={"model_hint": hint})
    found = kinship(hinted, pytorch(QWEN))
    assert found.fits is fits
    assert ("by shape only" in found.why) is (fits is None)


def test_llama_cpp_calls_mistral_a_llama() -> None:
    mistral = load_model("organism-mistral")
    vector = replace(named(vector_of(mistral, recorded=False), "unknown", ""), provenance={"model_hint": "llama"})
    assert kinship(vector, mistral).fits is None
