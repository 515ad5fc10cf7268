"""`fitted_to`: used as it is on copies of its own model, carried over to others, and a line that says which and why."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from persona_interp.errors import IncompatibleError, InvalidInputError, PersonaInterpError, UnknownNameError
from persona_interp.models.steerable import SteerableModel
from persona_interp.transfers import fitted_to as module
from persona_interp.transfers.anchors import Anchor
from persona_interp.transfers.fitted_to import copy_for, fitted_to
from persona_interp.transfers.reading import known_rows, read_rows
from persona_interp.vectors.layer_choice import choose_layer
from persona_interp.vectors.lineage import KEY, Lineage
from persona_interp.vectors.persona_vector import PersonaVector

TinyModel = Callable[[str], SteerableModel]
TEXTS = [Anchor("Write something.", f"The river number {n} is {'very ' * (n % 9)}bright. Bees like it.") for n in range(60)]


class Lent(SteerableModel):
    """A model that notes when it is closed."""

    closed = 0

    def close(self) -> None:
        self.closed += 1


class Library:
    """Opens models by name, and remembers which were asked for."""

    def __init__(self, **models: SteerableModel) -> None:
        self.models = {name: Lent(model.hf_model, model.tokenizer, name=name) for name, model in models.items()}
        self.asked: list[str] = []

    def __call__(self, name: str) -> SteerableModel:
        self.asked.append(name)
        if name not in self.models:
            raise PersonaInterpError(f"no model {name}")
        return self.models[name]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERSONA_INTERP_HOME", str(tmp_path / "home"))


@pytest.fixture
def source(tiny_model: TinyModel) -> SteerableModel:
    return tiny_model("qwen2")


@pytest.fixture
def near(source: SteerableModel) -> SteerableModel:
    """The source with every weight a little off, as quantization leaves it."""
    hf_model = copy.deepcopy(source.hf_model)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in hf_model.parameters():
            parameter += 0.01 * parameter.abs().mean() * torch.randn(parameter.shape, generator=generator)
    return SteerableModel(hf_model, source.tokenizer, name="near")


@pytest.fixture
def far(source: SteerableModel) -> SteerableModel:
    """Another draw of the source's weights: the same shape, another basis."""
    hf_model = copy.deepcopy(source.hf_model)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in hf_model.parameters():
            if parameter.dim() > 1:
                parameter.copy_(parameter.std() * torch.randn(parameter.shape, generator=generator))
    return SteerableModel(hf_model, source.tokenizer, name="far")


def vector_of(model: SteerableModel, *, recorded: bool = True) -> PersonaVector:
    directions = torch.randn(model.n_layers, model.d_model, generator=torch.Generator().manual_seed(2))
    provenance = {KEY: Lineage.of(model).to_json()} if recorded else {}
    return PersonaVector(directions, tuple(range(model.n_layers)), "loud", model.identity, provenance=provenance)


def test_a_vector_of_these_weights_is_used_without_a_word(source: SteerableModel) -> None:
    vector = vector_of(source)
    found = fitted_to(vector, source, load=Library())
    assert (found.vector, found.decision, found.layer) == (vector, "", None)


def test_on_a_copy_the_exact_vector_is_used_and_no_other_model_is_loaded(
    source: SteerableModel, near: SteerableModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "read_rows", None)  # not called
    vector, library = vector_of(source), Library()
    found = fitted_to(vector, near, load=library)
    assert torch.equal(found.vector.directions, vector.directions)
    assert found.vector.same_basis(near.identity)
    assert (found.report, library.asked) == (None, [])
    assert "in their basis" in found.decision
    assert found.decision.endswith(": used as it is")
    own = copy_for(vector, near)
    assert own is not None
    assert torch.equal(own.vector.directions, vector.directions)


def test_a_model_of_the_same_shape_in_another_basis_gets_the_vector_carried_over(
    source: SteerableModel, far: SteerableModel
) -> None:
    library = Library(**{source.name: source})
    vector = vector_of(source)
    found = fitted_to(vector, far, anchors=TEXTS, load=library)
    assert library.asked == [source.name]
    assert library.models[source.name].closed == 1, "the source is let go as soon as it has read"
    assert found.report is not None
    assert found.vector.model == far.identity
    assert choose_layer(found.vector).layer == found.layer
    assert f"another model than {far.name}" in found.decision
    assert "carried over" in found.decision
    assert copy_for(vector, far) is None
    again = fitted_to(found.vector, far, load=Library())
    assert again.vector is found.vector, "what was carried over is of the target"


def test_the_source_is_closed_also_when_reading_fails(
    source: SteerableModel, far: SteerableModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_args: object, **_options: object) -> None:
        raise RuntimeError("no")

    library = Library(**{source.name: source})
    monkeypatch.setattr(module, "read_rows", fails)
    with pytest.raises(RuntimeError, match="no"):
        fitted_to(vector_of(source), far, anchors=TEXTS, load=library)
    assert library.models[source.name].closed == 1


def test_never_uses_it_as_it_is_where_the_shape_allows_and_says_so(
    source: SteerableModel, far: SteerableModel, tiny_model: TinyModel
) -> None:
    vector, library = vector_of(source), Library()
    found = fitted_to(vector, far, transfer="never", load=library)
    assert found.vector is vector
    assert "another model than far" in found.decision
    assert "because transfer is off" in found.decision
    wide = replace(vector, directions=torch.ones(1, 7), layers=(0,), model=replace(vector.model, d_model=7))
    with pytest.raises(IncompatibleError, match="width 7"):
        fitted_to(wide, far, transfer="never", load=library)
    assert library.asked == []


def test_always_carries_a_vector_to_a_copy_too(source: SteerableModel, near: SteerableModel) -> None:
    library = Library(**{source.name: source})
    found = fitted_to(vector_of(source), near, transfer="always", anchors=TEXTS, load=library)
    assert found.report is not None
    with pytest.raises(InvalidInputError, match="made in these very weights"):
        fitted_to(vector_of(source), source, transfer="always", load=library)
    nameless = replace(vector_of(source, recorded=False), model=replace(source.identity, name="unknown", fingerprint=""))
    with pytest.raises(IncompatibleError, match="names no model"):
        fitted_to(nameless, source, transfer="always", load=library)
    with pytest.raises(UnknownNameError, match="auto"):
        fitted_to(nameless, source, transfer="perhaps", load=library)


def test_where_nothing_is_recorded_the_loaded_source_is_measured_before_anything_is_carried(
    source: SteerableModel, near: SteerableModel, far: SteerableModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, library = vector_of(source, recorded=False), Library(**{source.name: source})
    with monkeypatch.context() as patch:
        patch.setattr(module, "read_rows", None)  # not called
        found = fitted_to(old, near, anchors=TEXTS, load=library)
    assert torch.equal(found.vector.directions, old.directions)
    assert "in their basis" in found.decision
    assert fitted_to(old, far, anchors=TEXTS, load=library).report is not None


def test_rows_that_its_own_model_left_behind_are_measured_too(
    source: SteerableModel, near: SteerableModel, far: SteerableModel
) -> None:
    read_rows(source, TEXTS)
    assert known_rows(source.identity.fingerprint, TEXTS) is not None
    old, library = vector_of(source, recorded=False), Library()
    assert torch.equal(fitted_to(old, near, anchors=TEXTS, load=library).vector.directions, old.directions)
    assert fitted_to(old, far, anchors=TEXTS, load=library).report is not None
    assert library.asked == []


def test_other_weights_under_the_name_of_its_model_are_refused(
    source: SteerableModel, near: SteerableModel, far: SteerableModel
) -> None:
    with pytest.raises(IncompatibleError, match="loaded by that name holds other weights"):
        fitted_to(vector_of(source), far, anchors=TEXTS, load=Library(**{source.name: far}))
    carried = fitted_to(vector_of(source), far, anchors=TEXTS, load=Library(**{source.name: near}))
    assert carried.report is not None, "a copy of its model reads for it"


def test_a_source_that_cannot_be_loaded_is_told_with_the_ways_out(source: SteerableModel, far: SteerableModel) -> None:
    with pytest.raises(PersonaInterpError, match=r"cannot be loaded to carry it to far.*align.*extract.*--transfer never"):
        fitted_to(vector_of(source), far, anchors=TEXTS, load=Library())
