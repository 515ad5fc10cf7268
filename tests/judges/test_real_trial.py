"""A model of 135 M parameters is no rubric judge, and who asks for one learns that in seconds; its numbers cost one prefill."""

from __future__ import annotations

import time

import pytest
from real import smollm2

from persona_interp.judges.logprob import LogprobJudge
from persona_interp.judges.numerals import NumberTree
from persona_interp.judges.registry import load_judge
from persona_interp.traits.catalogue import load_trait
from persona_interp.traits.conversation import Conversation

pytestmark = pytest.mark.real

SHORT = [
    "How silly is 'wobble'? Write one number from 0 to 100.",
    "How silly is 'table'? Write one number from 0 to 100. Only it.",
]


def test_auto_is_the_contrast_judge_within_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    began = time.process_time()
    judge = load_judge("auto", smollm2(), trait=load_trait("silly"))
    assert time.process_time() - began < 30
    assert judge.name.startswith("contrast:smollm2")
    said = capsys.readouterr().err
    assert "cannot judge 'silly' by its rubric: " in said
    assert "Judge auto is contrast+perplexity instead" in said
    load_judge("local", smollm2(), trait=load_trait("silly"))
    assert "is a poor judge of 'silly'" in capsys.readouterr().err


def test_numbers_walked_over_the_cache_are_those_of_whole_forwards(monkeypatch: pytest.MonkeyPatch) -> None:
    model = smollm2()
    prompts = [model.chat.prompt_ids(Conversation.ask(text)) for text in SHORT]
    tree = NumberTree(model.tokenizer, tolerance=1e-2)
    assert model.engine.walks(100)
    found = tree.probabilities(prompts, model)
    monkeypatch.setattr(model.engine, "walks", lambda _longest: False)
    expected = tree.probabilities(prompts, model)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-4)
        assert sum(theirs.values()) > 0.01


def test_a_rubric_is_run_through_the_model_once() -> None:
    model = smollm2()
    sizes: list[int] = []
    handle = model.hf_model.register_forward_pre_hook(
        lambda _module, _args, given: sizes.append(given["input_ids"].numel()), with_kwargs=True
    )
    try:
        LogprobJudge(model, coherence_rubric=None).judge(load_trait("silly"), [("What is tea?", "Tea is a drink.")])
    finally:
        handle.remove()
    prompt = len(model.chat.prompt_ids(Conversation.ask(load_trait("silly").rubric_for("What is tea?", "Tea is a drink."))))
    assert sum(sizes) <= 1.3 * prompt
