"""``judge`` and ``trait`` mean the same in every function that takes them."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from typing import Any

import pytest
import torch

import persona_interp
from persona_interp.errors import InvalidInputError, UnknownNameError
from persona_interp.judges.registry import judge_parts, load_judge, optional_judge, register_judge
from persona_interp.measure.protocol import Protocol
from persona_interp.models.sampling import Sampling
from persona_interp.models.steerable import SteerableModel
from persona_interp.organisms.grammar_judge import GrammarJudge
from persona_interp.organisms.trait_texts import resolve_trait
from persona_interp.traits.judging import Judgement
from persona_interp.traits.trait import Trait
from persona_interp.vectors.persona_vector import PersonaVector

UNJUDGED_BY_DEFAULT = {"extract", "made_pairs", "scored_vector", "kept_file"}
"""Functions that can do their work without scores."""
VLLM = "persona_interp.models.engines.vllm."
"""Some of these modules are imported by vLLM alone, which is not installed here; none takes a judge."""
SHORT = Sampling(max_new_tokens=6)


def functions_with_a_judge() -> Iterator[tuple[str, dict[str, inspect.Parameter]]]:
    """Public functions of the library that take a judge which is still to be loaded, with their parameters."""
    for module in walk_packages(persona_interp.__path__, "persona_interp."):
        if module.name.split(".")[1] in ("studies", "cli", "demo", "__main__") or module.name.startswith(VLLM):
            continue
        for name, found in inspect.getmembers(import_module(module.name), inspect.isfunction):
            if found.__module__ == module.name and not name.startswith("_"):
                taken = dict(inspect.signature(found).parameters)
                taken |= protocol_options(found, taken.get("options"))
                if "judge" in taken and "str" in str(taken["judge"].annotation):
                    yield name, taken


def protocol_options(function: Any, options: inspect.Parameter | None) -> dict[str, inspect.Parameter]:
    """The attributes of `Protocol` that a function takes by name."""
    if options is None or not str(options.annotation).startswith("Unpack["):
        return {}
    kind = vars(import_module(function.__module__))[options.annotation.removeprefix("Unpack[").removesuffix("]")]
    assert issubclass(kind, dict)
    defaults = {each.name: each.default for each in dataclasses.fields(Protocol)}
    return {
        name: inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=defaults[name], annotation=given.__forward_arg__)
        for name, given in kind.__annotations__.items()
        if name in defaults
    }


def test_every_function_takes_judge_and_trait_in_the_same_forms() -> None:
    found = dict(functions_with_a_judge())
    assert {"evaluate", "dose_response", "diagnose", "attribute", "predict_expression", *UNJUDGED_BY_DEFAULT} <= set(found)
    for name, taken in found.items():
        assert taken["judge"].annotation == "str | Judge | None", name
        assert taken["judge"].default in ([None, inspect.Parameter.empty] if name in UNJUDGED_BY_DEFAULT else ["auto"]), name
        assert taken["trait"].annotation.startswith("Trait | str | Path"), name


@pytest.fixture(scope="module")
def model() -> SteerableModel:
    from persona_interp.models.registry import load_model

    return load_model("organism-qwen2")


@pytest.fixture(scope="module")
def vector(model: SteerableModel) -> PersonaVector:
    push = torch.randn(model.n_layers, model.d_model, generator=torch.Generator().manual_seed(0))
    layers = tuple(range(model.n_layers))
    norms = {"resid_norm": tuple([10.0] * model.n_layers)}
    return PersonaVector(directions=push, layers=layers, trait="silly", model=model.identity, statistics=norms)


def calls(model: SteerableModel, vector: PersonaVector, **given: Any) -> dict[str, Callable[[], Any]]:
    from persona_interp.measure.coherence_cliff import coherence_cliff
    from persona_interp.measure.dose import dose_response
    from persona_interp.measure.evaluate import evaluate
    from persona_interp.measure.layer_effectiveness import sweep_layers
    from persona_interp.measure.layer_scan import scan_layers

    options = {"questions": ["What is tea?"], "sampling": SHORT, **given}
    trait = options.pop("trait", "silly")
    return {
        "dose_response": lambda: dose_response(model, vector, trait, [0.0, 1.0], layers=[2], **options),
        "scan_layers": lambda: scan_layers(model, vector.select([2]), trait, [0.0, 1.0], **options),
        "sweep_layers": lambda: sweep_layers(model, vector.select([2]), trait, ratios=[0.2], **options),
        "coherence_cliff": lambda: coherence_cliff(model, vector, trait, 2, **options),
        "evaluate": lambda: evaluate(model, vector, trait, [1.0], layers=[2], n_random=1, **options),
    }


@pytest.mark.parametrize("none", [None, "none"])
@pytest.mark.parametrize("name", ["dose_response", "scan_layers", "sweep_layers", "coherence_cliff", "evaluate"])
def test_no_judging_is_refused_where_scores_are_needed(
    model: SteerableModel, vector: PersonaVector, name: str, none: str | None
) -> None:
    with pytest.raises(InvalidInputError, match="means that nothing is judged, but this is made of scores: give 'auto'"):
        calls(model, vector, judge=none)[name]()


@pytest.mark.parametrize("name", ["dose_response", "scan_layers"])
def test_the_default_is_auto_and_a_name_a_spec_or_a_judge_are_the_same(
    model: SteerableModel, vector: PersonaVector, tmp_path: Path, name: str
) -> None:
    trait = resolve_trait(model, "silly")
    file = trait.save(tmp_path / "silly.json")
    kinds = ({}, {"judge": "auto"}, {"judge": "grammar"}, {"judge": GrammarJudge()}, {"trait": trait}, {"trait": file})
    found = [calls(model, vector, **given)[name]() for given in kinds]
    assert {each.judge for each in found} == {"grammar"}
    scores = [{key: value for key, value in each.to_json().items() if key != "provenance"} for each in found]
    assert all(each == scores[0] for each in scores)


def test_extract_takes_a_spec_and_a_judge_that_does_not_know_the_trait_says_so_first(
    model: SteerableModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    from persona_interp.vectors.extract import extract

    options: dict[str, Any] = {"samples": 1, "questions": ["What is tea?"], "minimum_pairs": 1}
    options["sampling"] = Sampling(max_new_tokens=48)
    found = extract(model, "silly", judge="auto", **options)
    assert found.provenance["filter"]["judge"] == "grammar"
    assert extract(model, "silly", judge="none", **options).provenance["filter"] == {"judge": None}
    monkeypatch.setattr(model, "generate", lambda *_, **__: pytest.fail("nothing is to be generated"))
    with pytest.raises(UnknownNameError, match="trait of the grammar judge"):
        extract(model, "evil", judge="grammar", **options)
    with pytest.raises(UnknownNameError, match="judge 'gramar'"):
        extract(model, "silly", judge="gramar", **options)


def test_none_is_no_judge_and_no_name_for_one(model: SteerableModel) -> None:
    assert optional_judge(None, model) is None
    assert optional_judge("none", model) is None
    own = GrammarJudge()
    assert optional_judge(own, model) is own
    assert isinstance(optional_judge("auto", model), GrammarJudge)
    with pytest.raises(InvalidInputError, match="judge is None, which means that nothing is judged"):
        load_judge(None, model)
    with pytest.raises(InvalidInputError, match="cannot be called 'none'"):
        register_judge("none", lambda _model, _argument: own)


def test_a_joined_judge_is_known_before_a_model_is_loaded() -> None:
    """Extraction refused ``contrast+perplexity`` as unknown, which it recommends."""
    assert judge_parts("contrast+perplexity") == ("contrast", "", True)
    assert judge_parts("local:org/model+perplexity") == ("local", "org/model", True)


def test_a_judge_that_does_not_know_the_trait_says_so_when_it_is_loaded(model: SteerableModel) -> None:
    class Picky:
        name = "picky"

        def judge(self, trait: Trait, exchanges: Sequence[tuple[str, str]]) -> list[Judgement]:
            raise InvalidInputError(f"not {trait.name}")

    with pytest.raises(InvalidInputError, match="not silly"):
        load_judge(Picky(), model, trait=resolve_trait(model, "silly"))


def test_a_trait_is_its_name_its_file_or_itself(model: SteerableModel, tmp_path: Path) -> None:
    trait = resolve_trait(model, "silly")
    assert resolve_trait(model, trait) is trait
    file = trait.save(tmp_path / "mine.json")
    assert resolve_trait(model, file) == resolve_trait(model, str(file)) == trait
