"""Judges by name."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from persona_interp.errors import FileFormatError, InvalidInputError, UnknownNameError
from persona_interp.judges.cached import CachedJudge
from persona_interp.judges.endpoint import EndpointJudge
from persona_interp.judges.garbage import GuardedJudge
from persona_interp.judges.likelihood_contrast import LikelihoodContrastJudge
from persona_interp.judges.logprob import LogprobJudge
from persona_interp.judges.registry import default_judge, load_judge, register_judge
from persona_interp.models.steerable import SteerableModel
from persona_interp.organisms.grammar_judge import GrammarJudge
from persona_interp.traits.judging import Judge


@pytest.fixture
def model(planted: Any) -> Any:
    return planted(lambda _asked, _written: {})


def test_organisms_get_the_exact_judge_and_other_models_judge_themselves(model: Any) -> None:
    own = default_judge(model)
    assert isinstance(own, GuardedJudge)
    assert isinstance(own.inner, LogprobJudge)
    assert own.model is own.inner.model is model
    model.config = SimpleNamespace(organism="organism-qwen2")
    for exact in (default_judge(model), load_judge("auto", model), load_judge("grammar", model)):
        assert isinstance(exact, GrammarJudge)


def test_specs_name_judges(model: Any, tiny_model_path: Callable[[str], Path]) -> None:
    for spec in ("local", "logprob"):
        own = load_judge(spec, model)
        assert isinstance(own, GuardedJudge)
        assert isinstance(own.inner, LogprobJudge)
        assert own.name == "local:planted (guarded)"
    assert isinstance(load_judge("contrast", model), LikelihoodContrastJudge)
    other = load_judge(f"local:{tiny_model_path('qwen2')}", model, guard=False)
    assert other.name == "local:tiny-qwen2"
    assert load_judge(other, model) is other
    for judge in (other, load_judge("grammar", model), load_judge("contrast", model), load_judge("perplexity", model)):
        assert isinstance(judge, Judge)


@pytest.mark.parametrize("kind", ["local", "logprob", "contrast"])
def test_a_model_loaded_for_a_judge_is_closed_with_it_and_the_callers_own_never(
    model: Any, tiny_model_path: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    closed: list[str] = []
    monkeypatch.setattr(SteerableModel, "close", lambda self: closed.append(self.name))
    own, named = load_judge(kind, model), load_judge(f"{kind}:{tiny_model_path('qwen2')}", model)
    del own
    gc.collect()
    assert closed == []
    del named
    gc.collect()
    assert closed == ["tiny-qwen2"]


def test_a_model_of_which_no_judge_can_be_made_is_closed_at_once(
    model: Any, tiny_model_path: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[str] = []

    def refuse(*_: Any, **__: Any) -> None:
        raise InvalidInputError("no numbers")

    monkeypatch.setattr(SteerableModel, "close", lambda self: closed.append(self.name))
    monkeypatch.setattr("persona_interp.judges.logprob.NumberTree", refuse)
    with pytest.raises(InvalidInputError, match="no numbers"):
        load_judge(f"local:{tiny_model_path('qwen2')}", model)
    assert closed == ["tiny-qwen2"]


def test_the_guard_is_that_of_the_model_that_answered(model: Any, tiny_model_path: Callable[[str], Path]) -> None:
    other = load_judge(f"contrast:{tiny_model_path('qwen2')}", model, guard=True)
    assert isinstance(other, GuardedJudge)
    assert other.guard.model is model
    assert other.inner.model.name == "tiny-qwen2"


def test_coherence_is_joined_to_a_judge_that_gives_none(model: Any) -> None:
    joined = load_judge("contrast+perplexity", model)
    assert isinstance(joined, GuardedJudge)
    assert joined.name == "contrast:planted+perplexity:planted (guarded)"


def test_scores_are_kept_where_the_caller_says(model: Any, tmp_path: Path) -> None:
    judge = load_judge("contrast", model, cache=tmp_path / "scores.jsonl")
    assert isinstance(judge, CachedJudge)
    assert judge.name == "contrast:planted"
    guarded = load_judge("local", model, cache=tmp_path / "scores.jsonl")
    assert isinstance(guarded, GuardedJudge)
    assert isinstance(guarded.inner, CachedJudge)


def test_scores_of_a_server_are_kept_without_asking(model: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PERSONA_INTERP_HOME", str(tmp_path))
    monkeypatch.setenv("OPENAI_BASE_URL", "http://localhost:9/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    judge = load_judge("endpoint:org/a model", model)
    assert isinstance(judge, GuardedJudge)
    assert isinstance(judge.inner, CachedJudge)
    assert isinstance(judge.inner.inner, EndpointJudge)
    assert judge.inner.inner.endpoint.model == "org/a model"
    assert judge.inner.path == tmp_path / "judgements" / "org-a-model.jsonl"
    with pytest.raises(InvalidInputError, match="'endpoint' needs the name of a model: write endpoint:MODEL"):
        load_judge("endpoint", model)


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
    with pytest.raises(InvalidInputError, match="holds a plus sign"):
        register_judge("a+b", lambda _model, _argument: GrammarJudge())
