"""A user's model is as it was: after loading, after every verb, after an error at any point."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
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


def state(hf_model: Any, tokenizer: Any) -> dict[str, Any]:
    digest = hashlib.sha256()
    for name, value in hf_model.state_dict().items():
        digest.update(name.encode() + value.contiguous().numpy().tobytes())
    return {
        "weights": digest.hexdigest(),
        "requires_grad": [parameter.requires_grad for parameter in hf_model.parameters()],
        "grads": [parameter.grad for parameter in hf_model.parameters()],
        "training": [module.training for module in hf_model.modules()],
        "hooks": [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in hf_model.modules()],
        "generation": hf_model.generation_config.to_dict(),
        "config": hf_model.config.to_dict(),
        "padding": (tokenizer.padding_side, tokenizer.pad_token, len(tokenizer)),
        "random": torch.get_rng_state().tolist(),
    }


def steering(model: SteerableModel) -> InterventionGraph:
    return InterventionGraph((Write(1, Add(torch.ones(model.d_model) * 2), positions="response"), Capture("all")))


@pytest.fixture(params=["llama", "gpt2"])
def loaded(request: pytest.FixtureRequest, tiny_hf: Callable[[str], Any]) -> Iterator[tuple[Any, Any, dict[str, Any]]]:
    """A model with everything set the unusual way, its tokenizer, and their state; compared again at the end."""
    hf_model, tokenizer = tiny_hf(request.param)
    hf_model.train()
    next(iter(hf_model.parameters())).requires_grad_(False)
    tokenizer.padding_side = "right"
    before = state(hf_model, tokenizer)
    yield hf_model, tokenizer, before
    assert state(hf_model, tokenizer) == before


def test_verbs_leave_the_model_as_it_was(loaded: tuple[Any, Any, dict[str, Any]]) -> None:
    hf_model, tokenizer, before = loaded
    model = SteerableModel(hf_model, tokenizer, name="mine")
    assert state(hf_model, tokenizer) == before
    first = model.generate(ASKED, graph=steering(model), sampling=Sampling(6))
    model.capture(TEXT, steering(model))
    model.log_likelihood(TEXT, graph=steering(model))
    model.next_token_logits([[5, 6]], graph=steering(model))
    assert [a.answer_ids for a in model.generate(ASKED, graph=steering(model), sampling=Sampling(6))] == [
        a.answer_ids for a in first
    ]


def test_dropout_is_off_even_when_the_model_was_left_in_training_mode(tiny_hf: Callable[[str], Any]) -> None:
    hf_model, tokenizer = tiny_hf("gpt2")  # its dropout is on by default
    model = SteerableModel(hf_model, tokenizer, name="mine")
    expected = model.next_token_logits([[5, 6, 7]])
    hf_model.train()
    assert torch.equal(model.next_token_logits([[5, 6, 7]]), expected)


@pytest.mark.parametrize("step", [0, 1, 3])
def test_nothing_stays_attached_after_an_error_inside_the_model(
    loaded: tuple[Any, Any, dict[str, Any]], monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """The error comes from the last block, in the prefill or later, when writes and captures are under way."""
    hf_model, tokenizer, before = loaded
    model = SteerableModel(hf_model, tokenizer, name="mine")
    expected = [answer.answer_ids for answer in model.generate(ASKED, sampling=GREEDY)]
    calls: list[int] = []
    handle = hf_model.get_submodule(model.layout.final_norm).register_forward_pre_hook(lambda *_: _fail_at(calls, step))
    with pytest.raises(KeyError, match="broken"):
        model.generate(ASKED, graph=steering(model), sampling=GREEDY)
    handle.remove()
    assert state(hf_model, tokenizer) == before
    assert [answer.answer_ids for answer in model.generate(ASKED, sampling=GREEDY)] == expected


def _fail_at(calls: list[int], step: int) -> None:
    calls.append(1)
    if len(calls) > step:
        raise KeyError("broken")


def test_nothing_stays_attached_after_an_error_in_an_operation_or_a_callback(loaded: tuple[Any, Any, dict[str, Any]]) -> None:
    hf_model, tokenizer, before = loaded
    model = SteerableModel(hf_model, tokenizer, name="mine")

    class Broken(Add):
        @staticmethod
        def transform(resid: Any, direction: Any, coefficient: Any) -> Any:
            raise ZeroDivisionError("my operation")

    def broken(row: int, answer: Any) -> None:
        raise LookupError("my callback")

    graph = InterventionGraph((Write(2, Broken(torch.ones(model.d_model))),))
    for run in (
        lambda: model.generate(ASKED, graph=graph, sampling=GREEDY),
        lambda: model.capture(TEXT, graph + steering(model)),
        lambda: model.log_likelihood(TEXT, graph=graph),
    ):
        with pytest.raises(ZeroDivisionError, match="my operation"):
            run()
        assert state(hf_model, tokenizer) == before
    with pytest.raises(LookupError, match="my callback"):
        model.generate(ASKED, sampling=GREEDY, on_generation=broken)
    assert len(model.generate(ASKED, sampling=GREEDY)) == 2


def test_an_interrupt_leaves_the_model_usable(loaded: tuple[Any, Any, dict[str, Any]]) -> None:
    hf_model, tokenizer, before = loaded
    model = SteerableModel(hf_model, tokenizer, name="mine")

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    handle = hf_model.get_submodule(model.layout.final_norm).register_forward_pre_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        model.generate(ASKED, graph=steering(model), sampling=GREEDY)
    handle.remove()
    assert state(hf_model, tokenizer) == before
    assert len(model.generate(ASKED, graph=steering(model), sampling=GREEDY)) == 2


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
