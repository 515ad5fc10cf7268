"""Judges by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from persona_interp.errors import FileFormatError, InvalidInputError, UnknownNameError
from persona_interp.judges.grammar import GrammarJudge
from persona_interp.judges.likelihood_contrast import LikelihoodContrastJudge
from persona_interp.judges.logprob import LogprobJudge
from persona_interp.judges.registry import default_judge, load_judge, register_judge
from persona_interp.traits.judging import Judge


@pytest.fixture
def model(planted: Any) -> Any:
    return planted(lambda _asked, _written: {})


def test_organisms_get_the_exact_judge_and_other_models_judge_themselves(model: Any) -> None:
    own = default_judge(model)
    assert isinstance(own, LogprobJudge)
    assert own.model is model
    model.config = SimpleNamespace(organism="organism-qwen2")
    assert isinstance(load_judge("auto", model), GrammarJudge)


def test_specs_name_judges(model: Any, tiny_model_path: Callable[[str], Path]) -> None:
    assert isinstance(load_judge("grammar", model), GrammarJudge)
    assert load_judge("logprob", model).name == "logprob:planted"
    assert isinstance(load_judge("contrast", model), LikelihoodContrastJudge)
    other = load_judge(f"logprob:{tiny_model_path('qwen2')}", model)
    assert other.name == "logprob:tiny-qwen2"
    assert load_judge(other, model) is other
    for judge in (other, load_judge("grammar", model), load_judge("contrast", model)):
        assert isinstance(judge, Judge)


def test_unknown_judges_and_arguments_are_refused(model: Any) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown judge 'gramar'. Did you mean 'grammar'\? Known: auto, contrast"):
        load_judge("gramar", model)
    with pytest.raises(InvalidInputError, match="judge 'grammar' takes nothing behind a colon, got 'x'"):
        load_judge("grammar:x", model)
    with pytest.raises(InvalidInputError, match="'logprob:' names no model behind the colon"):
        load_judge("logprob:", model)
    with pytest.raises(UnknownNameError, match="unknown model 'no-such'"):
        load_judge("logprob:no-such", model)
    with pytest.raises(FileFormatError, match=r"model folder \./no/such does not exist"):
        load_judge("contrast:./no/such", model)


def test_registry_refuses_duplicates() -> None:
    with pytest.raises(InvalidInputError, match="judge 'grammar' is already registered"):
        register_judge("grammar", lambda _model, _argument: GrammarJudge())
    with pytest.raises(InvalidInputError, match="holds a colon"):
        register_judge("a:b", lambda _model, _argument: GrammarJudge())
