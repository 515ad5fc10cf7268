"""A model in the hands of others too: in training mode, shared by wrappers and threads, its results used for training.

That nothing is changed and nothing stays attached, on every engine, is in `test_exactness`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch

from persona_interp.interventions.graph import Capture, InterventionGraph, Write
from persona_interp.interventions.operations import Add
from persona_interp.models.chat import TokenisedAnswer
from persona_interp.models.sampling import Sampling
from persona_interp.models.steerable import SteerableModel
from persona_interp.traits.conversation import Conversation

ASKED = [Conversation.ask("Tell me about the moon"), Conversation.ask("How?")]
GREEDY = Sampling(6, 0)
TEXT = [TokenisedAnswer(tuple(range(20, 30)), 4)]


def steering(model: SteerableModel) -> InterventionGraph:
    return InterventionGraph((Write(1, Add(torch.ones(model.d_model) * 2), positions="response"), Capture("all")))


def test_dropout_is_off_even_when_the_model_was_left_in_training_mode(tiny_hf: Callable[[str], Any]) -> None:
    hf_model, tokenizer = tiny_hf("gpt2")  # its dropout is on by default
    model = SteerableModel(hf_model, tokenizer, name="mine")
    expected = model.next_token_logits([[5, 6, 7]])
    hf_model.train()
    assert torch.equal(model.next_token_logits([[5, 6, 7]]), expected)


def test_two_wrappers_and_several_threads_may_share_one_model(tiny_hf: Callable[[str], Any]) -> None:
    hf_model, tokenizer = tiny_hf("qwen2")
    models = [SteerableModel(hf_model, tokenizer, name=f"wrapper {i}") for i in range(2)]
    expected = [answer.answer_ids for answer in models[0].generate(ASKED, graph=steering(models[0]), sampling=GREEDY)]
    results: list[Any] = []

    def work(model: SteerableModel) -> None:
        for _ in range(3):
            results.append([answer.answer_ids for answer in model.generate(ASKED, graph=steering(model), sampling=GREEDY)])

    threads = [threading.Thread(target=work, args=(models[i % 2],)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [expected] * 12


def test_results_can_be_trained_on(tiny_model: Callable[[str], SteerableModel]) -> None:
    """They are ordinary tensors, not inference-mode ones."""
    (got,) = tiny_model("llama").capture(TEXT, InterventionGraph((Capture("all"),)))
    weight = torch.ones(32, requires_grad=True)
    (got[Capture("all")] @ weight).sum().backward()
    assert weight.grad is not None
