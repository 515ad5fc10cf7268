"""Judges are tried out on texts of known scores before answers are made for them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from persona_interp.errors import PersonaInterpError
from persona_interp.judges import registry
from persona_interp.judges.garbage import GuardedJudge
from persona_interp.judges.likelihood_contrast import LikelihoodContrastJudge
from persona_interp.judges.logprob import LogprobJudge
from persona_interp.judges.registry import default_judge, load_judge
from persona_interp.judges.trial import Trial, try_out
from persona_interp.models.steerable import SteerableModel
from persona_interp.organisms.grammar_judge import GrammarJudge
from persona_interp.organisms.trait_texts import resolve_trait
from persona_interp.traits.catalogue import load_trait, trait_names
from persona_interp.traits.judging import Judgement
from persona_interp.traits.specimens import specimens
from persona_interp.traits.trait import Trait

LIBRARY = [name for name, origin in trait_names().items() if origin == "library"]
KNOWN = {text.answer: text.shows for name in LIBRARY for text in specimens(load_trait(name))[1]}


class Knows:
    """Scores by what is known of the texts; `mistakes` of the whole ones are scored the wrong way round."""

    name = "knows"

    def __init__(self, mistakes: int = 0, *, coherence: bool = True, silent: bool = False) -> None:
        self.left, self.coherence, self.silent = mistakes, coherence, silent
        self.asked: list[tuple[Trait, str]] = []

    def judge(self, trait: Trait, exchanges: Sequence[tuple[str, str]]) -> list[Judgement]:
        found = []
        for _, answer in exchanges:
            self.asked.append((trait, answer))
            whole = answer in KNOWN
            high = KNOWN.get(answer, False)
            if whole and self.left > 0:
                high, self.left = not high, self.left - 1
            score = None if self.silent else 90.0 if high else 10.0
            found.append(Judgement(score, (95.0 if whole else 5.0) if self.coherence else None))
        return found


@pytest.mark.parametrize("name", LIBRARY)
def test_every_trait_of_the_library_has_texts_of_its_own(name: str) -> None:
    trait = load_trait(name)
    of, texts = specimens(trait)
    assert of == trait
    assert [text.shows for text in texts] == [True, False] * 4
    assert len({text.answer for text in texts}) == 8
    assert len({text.question for text in texts}) == 4
    asked = {*trait.extraction_questions, *trait.evaluation_questions}
    assert asked.isdisjoint(text.question for text in texts)
    lengths = [len(text.answer.split()) for text in texts]
    if name != "verbose":  # whose answers are told by their length
        assert 10 <= min(lengths) <= max(lengths) <= 35, "nothing is to be had by counting words"


def test_a_judge_that_can_tell_passes_on_twelve_texts() -> None:
    judge = Knows()
    found = try_out(judge, load_trait("evil"))
    assert found == Trial("evil", True, 12, 12, 1.0, 1.0)
    assert found.passed
    assert {trait.name for trait, _ in judge.asked} == {"evil"}
    assert sum(answer in KNOWN for _, answer in judge.asked) == 8


def test_the_bar_is_an_auroc_of_eight_tenths_for_trait_and_coherence() -> None:
    one_wrong, three_wrong = (try_out(Knows(mistakes), load_trait("silly")) for mistakes in (1, 3))
    assert one_wrong.trait_auroc == pytest.approx(14 / 16, abs=0.1)
    assert one_wrong.passed
    assert three_wrong.trait_auroc < 0.8
    assert not three_wrong.passed
    assert f"AUROC {three_wrong.trait_auroc:.2f} for the trait and 1.00 for coherence" in three_wrong.words
    blind = dataclasses.replace(one_wrong, coherence_auroc=0.6)
    assert not blind.passed
    assert try_out(Knows(coherence=False), load_trait("silly")).passed  # who says nothing of it says nothing wrong


def test_a_judge_without_numbers_is_asked_no_more() -> None:
    judge = Knows(silent=True)
    found = try_out(judge, load_trait("silly"))
    assert not found.passed
    assert len(judge.asked) == 4
    assert "none of 4 short texts written for 'silly' a number" in found.words


def test_for_a_trait_of_ones_own_silly_stands_in_and_it_is_said(trait: Trait) -> None:
    judge = Knows()
    mine = dataclasses.replace(trait, name="grumpy")
    assert try_out(judge, mine) == Trial("silly", False, 12, 12, 1.0, 1.0)
    assert {asked for asked, _ in judge.asked} == {load_trait("silly")}
    # the same name with another rubric is another trait
    assert not try_out(Knows(), trait).own


# -- what auto and local make of it --------------------

FAILED = Trial("silly", True, 12, 12, 0.5625, 0.9)


@pytest.fixture
def tiny(tiny_hf: Callable[[str], tuple[Any, Any]]) -> SteerableModel:
    return SteerableModel(*tiny_hf("llama"), name="small")


def test_auto_falls_back_to_the_contrast_judge_and_says_why(
    tiny: SteerableModel, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(registry, "try_out", lambda *_: FAILED)
    for _ in range(2):
        judge = load_judge("auto", tiny, trait=load_trait("silly"))
        assert judge.name == "contrast:small+perplexity:small (guarded)"
    said = capsys.readouterr().err
    assert (
        said.count("small cannot judge 'silly' by its rubric: on 12 short texts written for 'silly' it reached AUROC 0.56") == 1
    )
    assert "Judge auto is contrast+perplexity instead" in said


def test_auto_is_the_rubric_judge_where_that_can_tell(
    tiny: SteerableModel, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(registry, "try_out", lambda *_: dataclasses.replace(FAILED, trait_auroc=0.95))
    judge = load_judge("auto", tiny, trait=load_trait("silly"))
    assert isinstance(judge, GuardedJudge)
    assert isinstance(judge.inner, LogprobJudge)
    assert "cannot judge" not in capsys.readouterr().err


@pytest.mark.parametrize("spec", ["local", "logprob", "local+perplexity"])
def test_local_is_what_was_asked_for_with_a_warning(
    tiny: SteerableModel, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], spec: str
) -> None:
    monkeypatch.setattr(registry, "try_out", lambda *_: FAILED)
    assert load_judge(spec, tiny, trait=load_trait("silly")).name.startswith("local:small")
    assert "warning: local:small is a poor judge of 'silly': on 12 short texts" in capsys.readouterr().err


def test_a_rubric_that_does_not_fit_into_the_model_is_a_reason(tiny: SteerableModel, capsys: pytest.CaptureFixture[str]) -> None:
    assert load_judge("auto", tiny, trait=load_trait("silly")).name.startswith("contrast:small")
    assert "it could not rate 12 short texts written for 'silly' (row 0 does not fit into the context" in capsys.readouterr().err


def test_a_broken_model_is_an_error_and_no_reason(tiny: SteerableModel) -> None:
    tiny.hf_model.model.layers[0].mlp.down_proj.weight.data[0, 0] = float("nan")
    short = dataclasses.replace(load_trait("silly"), rubric="{question}{answer}", name="short")

    class Short(LogprobJudge):
        def scores(self, rubrics: Sequence[str]) -> list[float | None]:
            return super().scores(["How silly?"] * len(rubrics))

    with pytest.raises(PersonaInterpError, match="NaN or infinite"):
        try_out(Short(tiny), short)


def test_organisms_keep_their_exact_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    from persona_interp.models.registry import load_model

    monkeypatch.setattr(registry, "try_out", lambda *_: pytest.fail("nothing is to be tried out on an organism"))
    model = load_model("organism-qwen2")
    assert isinstance(load_judge("auto", model, trait=resolve_trait(model, "silly")), GrammarJudge)
    assert isinstance(default_judge(model), GrammarJudge)
    other = dataclasses.replace(load_trait("evil"), name="grumpy")
    assert isinstance(load_judge("auto", model, trait=other), LikelihoodContrastJudge)
