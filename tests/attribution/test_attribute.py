"""attribute(): shares that sum to the whole, intervals over questions, and the very answers a vector was made from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from persona_interp.attribution.attribute import attribute
from persona_interp.attribution.attribution import Attribution
from persona_interp.attribution.component import Component
from persona_interp.errors import FileFormatError, IncompatibleError, InvalidInputError
from persona_interp.models.registry import load_model
from persona_interp.models.sampling import Sampling
from persona_interp.models.steerable import SteerableModel
from persona_interp.organisms.trait_texts import organism_trait
from persona_interp.traits.trait import Trait
from persona_interp.vectors.extract import extract
from persona_interp.vectors.persona_vector import PersonaVector
from persona_interp.vectors.rollouts.kept_pairs import KeptPairs, kept_pairs, made_pairs

Model = Callable[[str], SteerableModel]
Pairs = Callable[[SteerableModel], KeptPairs]
Vector = Callable[[SteerableModel], PersonaVector]
SHORT = Sampling(max_new_tokens=12)


def two_questions() -> Trait:
    whole = organism_trait("silly")
    return replace(whole, extraction_questions=whole.extraction_questions[:2])


@pytest.fixture(scope="module")
def extracted(tmp_path_factory: pytest.TempPathFactory) -> tuple[SteerableModel, PersonaVector, Path]:
    model, folder = load_model("organism-llama"), tmp_path_factory.mktemp("run") / "silly.run"
    return model, extract(model, two_questions(), samples=1, sampling=SHORT, folder=folder), folder


def test_the_whole_is_the_norm_of_a_vector_made_from_these_answers(
    extracted: tuple[SteerableModel, PersonaVector, Path],
) -> None:
    model, vector, folder = extracted
    pairs = kept_pairs(folder, vector)
    assert len(pairs) == vector.counts["kept_pairs"]
    for layer in (0, 2, 5):
        found = attribute(model, vector, pairs=pairs, layer=layer)
        assert found.whole.value == pytest.approx(float(vector.at(layer).norm()), rel=1e-5)
        assert sum(each.share.value or 0 for each in found.contributions) == pytest.approx(1, abs=1e-5)
        assert all(
            each.positive - each.negative == pytest.approx(each.difference.value, abs=1e-4) for each in found.contributions
        )


def test_with_the_folder_of_an_extraction_nothing_is_generated_again(
    extracted: tuple[SteerableModel, PersonaVector, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, vector, folder = extracted
    monkeypatch.setattr(SteerableModel, "generate", lambda *_args, **_options: pytest.fail("generated"))
    again = made_pairs(model, two_questions(), samples=1, sampling=SHORT, folder=folder)
    assert again == kept_pairs(folder, vector)


def test_without_pairs_answers_are_made_and_filtered(extracted: tuple[SteerableModel, PersonaVector, Path]) -> None:
    model, vector, _ = extracted
    found = attribute(model, vector, two_questions(), layer=2, sampling=Sampling(max_new_tokens=40))
    assert (found.judge, found.n_questions) == ("grammar", 2)
    assert 8 <= found.n_pairs <= 10


def test_intervals_are_over_questions_and_pairs_count_alike(tiny_model: Model, vector_of: Vector, pairs_of: Pairs) -> None:
    model = tiny_model("gpt2")
    found = attribute(model, vector_of(model), pairs=pairs_of(model), layer=2)
    assert (found.n_pairs, found.n_questions, found.judge) == (6, 3, None)
    for each in found.contributions:
        assert each.difference.n == 6
        if each.component.kind == "bias":
            assert each.difference.value == pytest.approx(0, abs=1e-6)
        else:
            low, value, high = each.difference.low, each.difference.value, each.difference.high
            assert low is not None
            assert value is not None
            assert high is not None
            assert low < value < high
    one = pairs_of(model)
    alone = attribute(model, vector_of(model), pairs=replace(one, positive=one.positive[:3], negative=one.negative[:3]), layer=2)
    assert alone.whole.low is None, "one question does not say how questions differ"


def test_components_are_found_by_name_and_ranked(tiny_model: Model, vector_of: Vector, pairs_of: Pairs) -> None:
    model = tiny_model("qwen2")
    found = attribute(model, vector_of(model), pairs=pairs_of(model), layer=1)
    assert [component.name for component in found.components[:6]] == ["embedding", "L0H0", "L0H1", "L0H2", "L0H3", "L0.mlp"]
    ranked = found.top(10)
    values = [each.difference.value or 0 for each in ranked]
    assert values == sorted(values, reverse=True)
    assert {each.component.kind for each in ranked} == {"head", "mlp"}
    assert found.of("L1H2").component == Component("head", 1, 2) == Component.named("L1H2")
    assert sum(found.share_of(kind) for kind in ("embedding", "head", "bias", "mlp")) == pytest.approx(1, abs=1e-5)
    with pytest.raises(InvalidInputError, match="L2H0 writes nothing into layer 1"):
        found.of("L2H0")
    with pytest.raises(InvalidInputError, match="top 11 of 10 components"):
        found.top(11)
    with pytest.raises(InvalidInputError, match="names no component"):
        found.of("head 3")
    with pytest.raises(InvalidInputError, match="no component is a 'head' of layer 1 and head None"):
        Component("head", 1)


def test_a_result_survives_its_json(tiny_model: Model, vector_of: Vector, pairs_of: Pairs) -> None:
    model = tiny_model("mistral")
    found = attribute(model, vector_of(model), pairs=pairs_of(model), layer=1)
    data = found.to_json()
    assert Attribution.from_json(data) == found
    assert "Attribution('loud' in tiny-mistral at layer 1, 6 pairs, most by L" in repr(found)
    for name in ("contributions", "gap", "whole"):
        with pytest.raises(FileFormatError, match=f"attribution: field '{name}' is missing"):
            Attribution.from_json({key: value for key, value in data.items() if key != name})
    with pytest.raises(FileFormatError, match="format_version 2 is not 1"):
        Attribution.from_json({**data, "format_version": 2})


def test_what_does_not_belong_together_is_refused(tiny_model: Model, vector_of: Vector, pairs_of: Pairs) -> None:
    model, other = tiny_model("qwen2"), tiny_model("llama")
    with pytest.raises(IncompatibleError, match="the answers are of model"):
        attribute(model, vector_of(model), pairs=pairs_of(other))
    with pytest.raises(IncompatibleError):
        attribute(tiny_model("gpt2"), vector_of(model), pairs=pairs_of(model))
    with pytest.raises(InvalidInputError, match="has no layer 9"):
        attribute(model, vector_of(model), pairs=pairs_of(model), layer=9)
    with pytest.raises(InvalidInputError, match="is zero at layer 1"):
        attribute(model, vector_of(model) * 0, pairs=pairs_of(model), layer=1)
    none = KeptPairs((), (), model.identity.fingerprint, "torch.float32", None)
    with pytest.raises(InvalidInputError, match="no pairs of answers"):
        attribute(model, vector_of(model), pairs=none)
