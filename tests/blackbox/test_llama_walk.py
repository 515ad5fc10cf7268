"""Continuations walked in llama.cpp, against plain forwards there and the walk of the same weights in PyTorch."""

from __future__ import annotations

import pytest
import torch
from gguf_organisms import pytorch

from persona_interp.judges.logprob import LogprobJudge

TREE = {(): (21, 22, 23), (22,): (31, 21), (22, 31): (41,), (23,): (21,)}
PROMPTS = [[5, 6, 7, 8, 9, 10], [5, 6, 7, 30], [5, 6, *range(40, 120)]]
ASKED = [("What is a bicycle?", "A bicycle is a merry machine."), ("What is tea?", "Tea is a warm drink that people like.")]


def walked(model, prompts, likely=()):
    seen = {}

    def grow(row, path, logits):
        seen[row, path] = logits
        return TREE.get(path, ())

    model.walk(prompts, grow, depth=3, likely=likely)
    return seen


@pytest.mark.parametrize("name", ["organism-llama", "organism-gpt2"])
@pytest.mark.parametrize("prompts", [PROMPTS, PROMPTS[:1]], ids=["shared beginning", "alone"])
def test_every_path_has_the_logits_of_its_own_forward(name, prompts, gguf_model):
    native = gguf_model(name)
    before = native.next_token_logits(prompts)
    found = walked(native, prompts, likely=[(22,)])
    assert len(found) == 8 * len(prompts)
    for (row, path), logits in found.items():
        plain = native.next_token_logits([[*prompts[row], *path]])[0]
        torch.testing.assert_close(logits, plain, rtol=0, atol=1e-3)
    assert torch.equal(native.next_token_logits(prompts), before)
    for key, logits in walked(pytorch(name), prompts).items():
        torch.testing.assert_close(found[key], logits, rtol=0, atol=2e-3)


def test_more_paths_than_run_together_are_walked_all(gguf_model):
    native, seen = gguf_model("organism-llama"), {}

    def grow(row, path, logits):
        seen[path] = logits
        return range(20, 140) if not path else ()

    native.walk([PROMPTS[0]], grow, depth=1)
    assert len(seen) == 121
    for token in (20, 67, 68, 139):
        torch.testing.assert_close(seen[token,], native.next_token_logits([[*PROMPTS[0], token]])[0], rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", ["organism-llama", "organism-gpt2"])
def test_the_rubric_judge_scores_as_in_pytorch(name, gguf_model):
    rubrics = ["How silly is this, from 0 to 100? A merry machine.", "How silly is this, from 0 to 100? A warm drink."]
    scores = [LogprobJudge(model, min_mass=1e-6, tolerance=0).scores(rubrics) for model in (gguf_model(name), pytorch(name))]
    assert scores[0] == pytest.approx(scores[1], abs=0.05)
