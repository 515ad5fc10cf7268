"""BlockWrites: a graph inside one's own nnsight trace or TransformerLens hooks does what SteerableModel does with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import naive_writes
import oracle
import pytest
import torch
from nnsight import TransformersModel, save

from persona_interp.errors import IncompatibleError, InvalidInputError, UnsupportedError
from persona_interp.interventions.compile.block_writes import BlockWrites
from persona_interp.interventions.conditions import ProjectionCondition
from persona_interp.interventions.graph import Capture, InterventionGraph, Write, WritePositions
from persona_interp.interventions.operations import Ablate, Add
from persona_interp.interventions.schedules import LinearRamp
from persona_interp.models.sampling import Sampling
from persona_interp.models.steerable import SteerableModel
from persona_interp.traits.conversation import Conversation

TinyModel = Callable[[str], SteerableModel]
ASKED = [Conversation.ask(text) for text in ("Tell me about the moon", "How?", "What is the capital of the country?")]
N = 6


def batch_of(model: SteerableModel) -> dict[str, torch.Tensor]:
    prompts = [model.chat.prompt_ids(conversation) for conversation in ASKED]
    width = max(map(len, prompts))
    ids, mask = torch.zeros(3, width, dtype=torch.long), torch.zeros(3, width, dtype=torch.long)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :], mask[row, width - len(prompt) :] = torch.tensor(prompt), 1
    return {"input_ids": ids, "attention_mask": mask}


def everything(model: SteerableModel, positions: WritePositions = "all") -> InterventionGraph:
    """Several writes at a layer, rows, a condition and a schedule."""
    seeds = torch.Generator().manual_seed(0)
    first, second = (torch.randn(model.d_model, generator=seeds) * 3 for _ in range(2))
    ramp = LinearRamp(start=0.2, end=1.5, steps=4)
    return InterventionGraph(
        (
            Write(0, Add(first), 0.5, positions, (0, 2)),
            Write(1, Ablate(first), positions=positions),
            Write(1, Add(second), -1.0, positions, schedule=ramp),
            Write(2, Add(first), 1.5, positions, (1,), condition=ProjectionCondition(second, threshold=0.0)),
        )
    )


def own_trace(model: SteerableModel) -> tuple[Any, Any]:
    """One's own nnsight model over the same weights, and its blocks."""
    traced = TransformersModel(model.hf_model, tokenizer=model.tokenizer, task="text-generation", dispatch=True)
    return traced, traced.get(model.layout.blocks)


@pytest.mark.parametrize("positions", ["all", "prompt", "response"])
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_ones_own_nnsight_generation_gives_the_tokens_of_steerable_model(
    tiny_model: TinyModel, name: str, positions: WritePositions
) -> None:
    model = tiny_model(name)
    graph, batch = everything(model, positions), batch_of(model)
    writes, (traced, blocks) = BlockWrites(graph, batch["attention_mask"]), own_trace(model)
    with traced.generate(max_new_tokens=N, min_new_tokens=N, do_sample=False, pad_token_id=0) as tracer:
        with tracer.invoke(**batch):
            for step in tracer.iter[:N]:
                for layer in writes.layers:
                    block = blocks[layer]
                    block.output = writes(layer, block.output, step)
        with tracer.invoke():
            ids = save(tracer.result)
    answers = model.generate(ASKED, graph=graph, sampling=Sampling(N, 0))
    assert answers != model.generate(ASKED, sampling=Sampling(N, 0))
    for row, answer in enumerate(answers):
        assert tuple(ids[row, batch["input_ids"].shape[1] :].tolist()) == answer.answer_ids


def test_ones_own_trace_reads_and_writes_in_between(tiny_model: TinyModel) -> None:
    """Prompt and answer in one call, against the oracle: later layers see the writes, and one's own."""
    model = tiny_model("qwen2")
    ids, n_prompt, graph = list(range(20, 32)), 5, everything(model, "response")
    writes = BlockWrites(graph.for_rows([0]), torch.ones(1, len(ids)).long(), n_prompt=[n_prompt])
    traced, blocks = own_trace(model)
    with traced.trace({"input_ids": torch.tensor([ids])}):
        kept = []
        for layer in range(model.n_layers):
            block = blocks[layer]
            block.output = writes(layer, block.output)
            kept.append(block.output)
        kept = save(kept)
        logits = save(traced.output.logits)
    expected, resid = naive_writes.forward(model.hf_model, ids, n_prompt, graph.for_rows([0]).writes)
    torch.testing.assert_close(logits[0], expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(torch.cat(kept), resid, rtol=1e-4, atol=1e-4)
    oracle.assert_not_close(logits[0].detach(), oracle.forward(model.hf_model, ids)[0])


def test_ones_own_transformer_lens_hooks_give_the_tokens_of_steerable_model(tiny_model: TinyModel) -> None:
    model = tiny_model("llama")
    graph, bridge = everything(model), model.bridge()
    prompt = torch.tensor([model.chat.prompt_ids(ASKED[0])])
    only = graph.for_rows([0])
    writes = BlockWrites(only, torch.ones_like(prompt))
    hooks = [(f"blocks.{layer}.hook_out", lambda resid, hook, at=layer: writes(at, resid)) for layer in writes.layers]
    logits = bridge.run_with_hooks(prompt, fwd_hooks=hooks)
    expected, _ = naive_writes.forward(model.hf_model, prompt[0].tolist(), prompt.shape[1], only.writes)
    torch.testing.assert_close(logits[0].detach(), expected, rtol=1e-4, atol=1e-4)


def test_pads_and_untouched_layers_stay_as_they_are() -> None:
    mask = torch.tensor([[0, 1, 1], [1, 1, 0]])
    writes = BlockWrites(InterventionGraph((Write(1, Add(torch.ones(4))),)), mask)
    resid = torch.zeros(2, 3, 4)
    assert torch.equal(writes(1, resid)[..., 0], mask.float())
    assert writes(0, resid) is resid
    assert writes.layers == (1,)
    assert not resid.any()


def test_what_does_not_fit_is_refused_in_words() -> None:
    graph, mask = InterventionGraph((Write(1, Add(torch.ones(4)), rows=(1,)),)), torch.ones(2, 3).long()
    writes = BlockWrites(graph, mask)
    with pytest.raises(InvalidInputError, match=r"\[2, 1\] at step 0, expected \[2, 3\]: step 0 is"):
        writes(1, torch.zeros(2, 1, 4))
    with pytest.raises(InvalidInputError, match=r"\[2, 3\] at step 2, expected \[2, 1\]"):
        writes(1, torch.zeros(2, 3, 4), 2)
    with pytest.raises(InvalidInputError, match="at step -1"):
        writes(1, torch.zeros(2, 1, 4), -1)
    with pytest.raises(IncompatibleError, match="directions have width 4, the output of block 1 5"):
        writes(1, torch.zeros(2, 3, 5))
    with pytest.raises(UnsupportedError, match=r"block 1 is shape \(6, 4\), expected one tensor \[batch pos d_model\]"):
        writes._check(1, torch.zeros(6, 4), 0)
    with pytest.raises(UnsupportedError, match="block 1 is a tuple"):
        writes._check(1, (torch.zeros(2, 3, 4),), 0)
    with pytest.raises(UnsupportedError, match="only writes"):
        BlockWrites(graph + InterventionGraph((Capture("answer"),)), mask)
    with pytest.raises(InvalidInputError, match="names row 1, but this call of the first direction has 1 rows"):
        BlockWrites(graph, mask[:1])
    with pytest.raises(InvalidInputError, match="n_prompt has 1 entries for 2 rows"):
        BlockWrites(graph, mask, n_prompt=[2])
    with pytest.raises(InvalidInputError, match="NaN"):
        BlockWrites(InterventionGraph((Write(0, Add(torch.full((4,), torch.nan))),)), mask)
