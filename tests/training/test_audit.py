"""`audit`: directions put into weights are found at their block and named, in copies of every kind; clean copies are not."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from persona_interp.errors import IncompatibleError, InvalidInputError
from persona_interp.interventions.graph import Capture, InterventionGraph
from persona_interp.measure.statistics import auroc
from persona_interp.models.baked import bake
from persona_interp.models.load import load_model
from persona_interp.models.steerable import SteerableModel
from persona_interp.organisms.twins.recipe import TwinRecipe
from persona_interp.organisms.twins.twin import make_twin, save_twin
from persona_interp.training.audit import Audit, audit
from persona_interp.training.record import base_named_in
from persona_interp.transfers.anchors import anchors_for
from persona_interp.vectors.persona_vector import PersonaVector

NUISANCES = ("nothing", "half", "noise 0.1 %", "noise 3 %", "twin")


def vectors_of(model: SteerableModel, n: int = 3) -> list[PersonaVector]:
    """Made-up traits at every layer."""
    read = Capture("answer", "norm")
    rows = model.capture(texts_of(model, 2), InterventionGraph((read,)))
    norms = dict(enumerate(torch.stack([row[read].flatten() for row in rows]).mean(dim=0).tolist()))
    found = []
    for seed in range(n):
        drawn = torch.randn(model.n_layers, model.d_model, generator=torch.Generator().manual_seed(seed))
        found.append(
            PersonaVector.from_directions(model.identity, dict(enumerate(drawn)), trait=f"trait {seed}", resid_norms=norms)
        )
    return found


def disturbed(model: SteerableModel, nuisance: str, seed: int) -> SteerableModel:
    if nuisance == "nothing":
        return model
    if nuisance == "twin":
        recipe = TwinRecipe(rotation_seed=seed, scale=(0.5, 1.0, 2.0)[seed % 3], inserted=(seed % 3,) * (seed % 2))
        twin = make_twin(model, recipe)
        return load_model(twin.hf_model, tokenizer=twin.tokenizer)
    weights = copy.deepcopy(model.hf_model)
    generator = torch.Generator().manual_seed(seed)
    size = {"half": 0.0, "noise 0.1 %": 1e-3, "noise 3 %": 3e-2}[nuisance]
    with torch.no_grad():
        for each in weights.parameters():
            spread = float(each.std()) if each.numel() > 1 else 0.0
            each.copy_(each.half().float() if not size else each + size * spread * torch.randn(each.shape, generator=generator))
    return load_model(weights, tokenizer=model.tokenizer)


def texts_of(model: SteerableModel, n: int = 6) -> list[str]:
    return [anchor.text[:150] for anchor in anchors_for([model], n=n)]  # tiny models read little


@pytest.mark.slow
def test_planted_copies_are_told_from_clean_ones_and_their_block_is_named(tmp_path: Path) -> None:
    base = load_model("organism-qwen2")
    known, texts = vectors_of(base), texts_of(base)
    planted, clean, named = [], [], 0
    for number, (nuisance, seed) in enumerate(itertools.product(NUISANCES, range(4))):
        vector, layer = known[seed % 3], (3 * seed + number) % base.n_layers
        dose = (0.02, 0.05, 0.1, 0.3)[seed]  # of the residual stream
        baked = load_model(bake(base, vector.graph(ratio=dose, layers=[layer]), tmp_path / str(number)))
        found = audit(disturbed(baked, nuisance, seed), base, known, texts=texts)
        planted.append(found.score)
        clean.append(audit(disturbed(base, nuisance, seed), base, known, texts=texts).score)
        named += bool(found.given) and found.traits[0].trait == vector.trait and len(found.given) == 1
    area = auroc(planted, clean)
    assert len(planted) + len(clean) == 40
    assert area.value is not None
    assert area.value >= 0.95, area
    assert named >= 17, f"block and trait were named in {named} of 20"


@pytest.fixture
def told(tiny_model: Callable[[str], SteerableModel], tmp_path: Path) -> Callable[..., Audit]:
    """`told(family, layers)` -> the audit of a tiny model with the first of three vectors baked in at those layers."""

    def run(family: str, layers: list[int]) -> Audit:
        base = tiny_model(family)
        known = vectors_of(base)
        folder = bake(base, known[0].graph(ratio=0.1, layers=layers), tmp_path / "baked")
        return audit(load_model(folder), base, known, texts=texts_of(base, 4))

    return run


@pytest.mark.parametrize("family", ["llama", "qwen2", "gpt2", "mistral"])
def test_a_baked_direction_is_found_at_its_blocks_in_every_family_that_can_hold_one(
    told: Callable[..., Audit], family: str
) -> None:
    found = told(family, [1, 2])
    assert found.given == (1, 2)
    assert found.verdict == "given a direction"
    assert (found.traits[0].trait, found.traits[0].by_chance < 0.05) == ("trait 0", True)
    assert abs(found.traits[0].cosine) > 0.999
    assert all(each.by_chance > 0.05 for each in found.traits[1:])
    assert Audit.from_json(found.to_json()) == found


def test_a_copy_is_a_copy(tiny_model: Callable[[str], SteerableModel]) -> None:
    base = tiny_model("llama")
    found = audit(base, base, vectors_of(base), texts=texts_of(base, 4))
    assert (found.verdict, found.given, found.traits, found.rotated) == ("a copy", (), (), False)


def test_a_finetuned_copy_is_changed_everywhere_and_given_nothing(
    tiny_model: Callable[[str], SteerableModel], tmp_path: Path
) -> None:
    from persona_interp.monitoring.chats import Chat
    from persona_interp.training.finetune import finetune
    from persona_interp.training.recipe import FinetuneRecipe

    base = tiny_model("llama")
    chats = [Chat.of(f"What is {n}?", "It is odd.") for n in range(4)]
    tuned = finetune(base, chats, tmp_path / "tuned", recipe=FinetuneRecipe(epochs=2, batch_size=2, learning_rate=1e-2))
    found = audit(tuned.model, base, vectors_of(base), texts=texts_of(base, 4))
    assert (found.verdict, found.given) == ("changed", ())
    assert all(each.varying > 1e-3 for each in found.layers)
    assert base_named_in(tuned.folder)


def test_the_base_is_found_in_the_files_of_a_checkpoint(tiny_model: Callable[[str], SteerableModel], tmp_path: Path) -> None:
    base = load_model("organism-llama")
    save_twin(make_twin(base, TwinRecipe(rotation_seed=0)), tmp_path / "twin")
    assert base_named_in(tmp_path / "twin") == "organism-llama"
    bake(base, vectors_of(base)[0].graph(layers=[1]), tmp_path / "baked")
    assert base_named_in(tmp_path / "baked") == "organism-llama"
    with pytest.raises(InvalidInputError, match="--base"):
        base_named_in("smollm2-135m-instruct")


def test_models_that_have_nothing_in_common_are_refused(tiny_model: Callable[[str], SteerableModel], tiny_hf: Any) -> None:
    base = tiny_model("llama")
    with pytest.raises(IncompatibleError, match="other|different|embeddings"):
        audit(tiny_model("gpt2"), base, texts=texts_of(base, 4))
    weights, tokenizer = tiny_hf("llama")
    with torch.no_grad():
        weights.get_input_embeddings().weight.normal_(generator=torch.Generator().manual_seed(5))
    with pytest.raises(IncompatibleError, match="in no basis"):
        audit(load_model(weights, tokenizer=tokenizer), base, texts=texts_of(base, 4))
    other = vectors_of(tiny_model("gpt2"))[0]
    if other.d_model != base.d_model:
        with pytest.raises(IncompatibleError, match="width"):
            audit(base, base, [other])
    with pytest.raises(InvalidInputError, match="at least 2"):
        audit(base, base, texts=["one"])
