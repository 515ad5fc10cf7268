"""steered(): plain hooks for people's own code give the same tokens as SteerableModel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import oracle
import pytest
import torch

from persona_interp.errors import IncompatibleError, InvalidInputError, UnsupportedError
from persona_interp.interventions.graph import Capture, InterventionGraph, Write, WritePositions
from persona_interp.interventions.operations import Add
from persona_interp.models.sampling import Sampling
from persona_interp.models.steerable import SteerableModel
from persona_interp.models.steered import steered
from persona_interp.traits.conversation import Conversation

TinyModel = Callable[[str], SteerableModel]
ASKED = [Conversation.ask(text) for text in ("Tell me about the moon", "How?", "What is the capital of the country?")]
N = 7


def padded(model: SteerableModel, side: str) -> dict[str, torch.Tensor]:
    prompts = [model.chat.prompt_ids(conversation) for conversation in ASKED]
    width = max(map(len, prompts))
    ids, mask = torch.zeros(3, width, dtype=torch.long), torch.zeros(3, width, dtype=torch.long)
    for row, prompt in enumerate(prompts):
        where = slice(width - len(prompt), None) if side == "left" else slice(0, len(prompt))
        ids[row, where], mask[row, where] = torch.tensor(prompt), 1
    return {"input_ids": ids, "attention_mask": mask}


def second_block(model: SteerableModel, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    outputs: list[torch.Tensor] = []
    block = oracle.blocks_of(model.hf_model)[1]
    handle = block.register_forward_hook(lambda module, args, output: outputs.append(output.clone()))
    with torch.no_grad():
        model.hf_model(**batch)
    handle.remove()
    return outputs[0]


def mixed(model: SteerableModel, positions: WritePositions) -> InterventionGraph:
    seeds = torch.Generator().manual_seed(0)
    first, second = (Add(torch.randn(model.d_model, generator=seeds) * 3) for _ in range(2))
    return InterventionGraph(
        (Write(0, first, 0.5, positions, (0,)), Write(1, second, -1.0, positions), Write(2, first, 1.5, positions, (1, 2)))
    )


@pytest.mark.parametrize("positions", ["all", "prompt", "response"])
@pytest.mark.parametrize("use_cache", [True, False])
def test_hook_tokens_equal_nnsight_tokens(
    tiny_model: TinyModel, architecture: str, positions: WritePositions, use_cache: bool
) -> None:
    """Left-padded, with and without a KV cache."""
    model = tiny_model(architecture)
    graph, batch = mixed(model, positions), padded(model, "left")
    settings = {"max_new_tokens": N, "do_sample": False, "use_cache": use_cache, "pad_token_id": 0}
    with steered(model.hf_model, graph) as hf_model:
        tokens = hf_model.generate(**batch, **settings)[:, batch["input_ids"].shape[1] :]
    answers = model.generate(ASKED, graph=graph, sampling=Sampling(N, 0))
    for row, answer in enumerate(answers):
        assert tuple(tokens[row, : len(answer.answer_ids)].tolist()) == answer.answer_ids
    assert [a.answer_ids for a in answers] != [a.answer_ids for a in model.generate(ASKED, sampling=Sampling(N, 0))]


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("explicit", [True, False])
def test_pads_are_not_steered_in_a_plain_call(tiny_model: TinyModel, side: str, explicit: bool) -> None:
    model = tiny_model("llama")
    batch = padded(model, side)
    given = {"attention_mask": batch["attention_mask"]} if explicit else {}
    batch["position_ids"] = (batch["attention_mask"].cumsum(1) - 1).clamp(min=0)
    graph = InterventionGraph((Write(1, Add(torch.ones(model.d_model) * 2), 1.0, "response"),))
    before = second_block(model, batch)
    with steered(model.hf_model, graph, **given):
        after = second_block(model, batch)
    moved = (after - before).abs().amax(dim=-1) > 1
    real = batch["attention_mask"].bool()
    last = real & (batch["position_ids"] == real.sum(1, keepdim=True) - 1)
    assert torch.equal(moved, last)


def test_prompt_lengths_can_be_given_for_calls_that_hold_answers(tiny_model: TinyModel) -> None:
    model = tiny_model("gpt2")
    ids, vector = list(range(20, 32)), torch.ones(model.d_model)
    graph = InterventionGraph((Write(1, Add(vector), 2.0, "response"),))
    with torch.no_grad(), steered(model.hf_model, graph, n_prompt=[5]):
        logits = model.hf_model(torch.tensor([ids])).logits[0]
    torch.testing.assert_close(
        logits, oracle.forward(model.hf_model, ids, {1: (2 * vector, slice(4, None))})[0], rtol=1e-4, atol=1e-4
    )


def test_beams_are_steered_when_every_row_is(tiny_model: TinyModel) -> None:
    model = tiny_model("llama")
    graph = InterventionGraph((Write(1, Add(torch.ones(model.d_model) * 3)),))
    batch, settings = padded(model, "left"), {"num_beams": 2, "max_new_tokens": 4, "do_sample": False, "pad_token_id": 0}
    plain = model.hf_model.generate(**batch, **settings)
    with steered(model.hf_model, graph):
        moved = model.hf_model.generate(**batch, **settings)
    assert not torch.equal(plain, moved)


def test_hooks_are_gone_afterwards_and_after_errors(tiny_model: TinyModel) -> None:
    model = tiny_model("qwen2")
    batch, graph = padded(model, "left"), InterventionGraph((Write(0, Add(torch.ones(model.d_model)), rows=(5,)),))
    expected = model.hf_model(**batch).logits
    with (
        pytest.raises(InvalidInputError, match="names row 5, but this call of Qwen2ForCausalLM has 3 rows"),
        steered(model.hf_model, graph),
    ):
        model.hf_model(**batch)
    with pytest.raises(KeyError, match="mine"), steered(model.hf_model, InterventionGraph()):
        raise KeyError("mine")
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.hf_model.modules())
    assert torch.equal(model.hf_model(**batch).logits, expected)


def test_what_hooks_cannot_do_is_refused(tiny_model: TinyModel) -> None:
    model = tiny_model("llama")
    with (
        pytest.raises(UnsupportedError, match="writes only.*SteerableModel.capture"),
        steered(model.hf_model, InterventionGraph((Capture("all"),))),
    ):
        pass
    with (
        pytest.raises(IncompatibleError, match="width 3, but .*tiny-llama has d_model 32"),
        steered(model.hf_model, InterventionGraph((Write(0, Add(torch.ones(3))),))),
    ):
        pass
    graph = InterventionGraph((Write(0, Add(torch.ones(model.d_model))),))
    square: Any = torch.zeros(1, 1, 4, 4)
    with pytest.raises(UnsupportedError, match="not \\[batch pos\\].*pass attention_mask"), steered(model.hf_model, graph):
        model.hf_model(torch.tensor([[1, 2, 3, 4]]), attention_mask=square)
