"""model.bridge() and transformer_lens_hooks(): TransformerLens over the same weights reads and steers as the other engines do."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import oracle
import pytest
import torch
from snapshot import snapshot
from torch import Tensor
from transformers import LlamaForCausalLM

from persona_interp.errors import IncompatibleError, InvalidInputError, UnsupportedError
from persona_interp.interventions.compile.transformer_lens import transformer_lens_hooks
from persona_interp.interventions.conditions import ProjectionCondition
from persona_interp.interventions.graph import Capture, InterventionGraph, Write, WritePositions
from persona_interp.interventions.operations import Ablate, Add, Clamp
from persona_interp.interventions.schedules import LinearRamp, StepTable
from persona_interp.models.bridge import transformer_lens_bridge
from persona_interp.models.chat import TokenisedAnswer
from persona_interp.models.registry import load_model
from persona_interp.models.sampling import Sampling
from persona_interp.models.steerable import SteerableModel
from persona_interp.models.steered import steered
from persona_interp.traits.conversation import Conversation

IDS = list(range(20, 33))
TEXTS = ["Tell me about the moon", "How?", "What is the capital of the country?"]
READ = Capture("all", "none")

# In float32, relative to the largest value. The engines run the same operations in the same order, so llama, mistral and qwen2
# agree to the last bit; TransformerLens multiplies by GPT-2's query, key and value weights one by one, which rounds differently.
CLOSE = 1e-6


def assert_close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=CLOSE * float(expected.abs().max()))


@pytest.fixture(scope="module")
def eager(tiny_hf: Callable[[str], Any]) -> Callable[[str], SteerableModel]:
    """Models with eager attention, which TransformerLens always uses: another attention sums in another order."""
    loaded: dict[str, SteerableModel] = {}

    def load(architecture: str) -> SteerableModel:
        if architecture not in loaded:
            hf_model, tokenizer = tiny_hf(architecture)
            hf_model.set_attn_implementation("eager")
            loaded[architecture] = SteerableModel(hf_model, tokenizer, name=f"tiny-{architecture}")
        return loaded[architecture]

    return load


Eager = Callable[[str], SteerableModel]


def direction(model: SteerableModel, seed: int = 0) -> Tensor:
    return torch.randn(model.d_model, generator=torch.Generator().manual_seed(seed)) * 3


def mixed(model: SteerableModel, positions: WritePositions) -> InterventionGraph:
    first, second = Add(direction(model)), Add(direction(model, 1))
    return InterventionGraph(
        (Write(0, first, 0.5, positions, (0,)), Write(1, second, -1.0, positions), Write(2, first, 1.5, positions, (1, 2)))
    )


def through_transformer_lens(bridge: Any, ids: list[int], graph: InterventionGraph) -> tuple[Tensor, Tensor]:
    """(logits ``[pos vocab]``, residuals ``[layer pos d_model]``) of one text."""
    with torch.no_grad(), transformer_lens_hooks(bridge, graph):
        logits, cache = bridge.run_with_cache(torch.tensor([ids]))
    return logits[0], torch.stack([cache[f"blocks.{layer}.hook_resid_post"][0] for layer in range(len(bridge.blocks))])


def test_residuals_and_logits_agree_at_every_layer(eager: Eager, architecture: str) -> None:
    """Plain hooks, nnsight and TransformerLens: not steered, steered at each layer, and steered at all of them."""
    model = eager(architecture)
    bridge = model.bridge()
    each = [Write(layer, Add(direction(model, layer)), 0.7) for layer in range(model.n_layers)]
    for writes in [(), *((write,) for write in each), tuple(each)]:
        edits = {write.layer: (write.coefficient * write.operation.direction, slice(None)) for write in writes}
        expected_logits, expected = oracle.forward(model.hf_model, IDS, edits)
        logits, residuals = through_transformer_lens(bridge, IDS, InterventionGraph(writes))
        assert_close(residuals, expected)
        assert_close(logits, expected_logits)
        (captured,) = model.capture([TokenisedAnswer(tuple(IDS), len(IDS))], InterventionGraph((*writes, READ)))
        assert_close(residuals, captured[READ])
        assert_close(logits[-1:], model.next_token_logits([IDS], graph=InterventionGraph(writes)))
        with torch.no_grad(), steered(model.hf_model, InterventionGraph(writes)):
            assert_close(logits, model.hf_model(torch.tensor([IDS])).logits[0])
        if writes:
            oracle.assert_not_close(logits, oracle.forward(model.hf_model, IDS)[0])


@pytest.mark.parametrize("positions", ["all", "prompt", "response"])
@pytest.mark.parametrize("cache", [True, False])
def test_it_generates_the_tokens_that_plain_hooks_give(
    eager: Eager, architecture: str, positions: WritePositions, cache: bool
) -> None:
    """Texts of different lengths, which TransformerLens pads on the left; each row is steered in its own way."""
    model = eager(architecture)
    bridge, graph = model.bridge(), mixed(model, positions)
    settings = {"max_new_tokens": 6, "do_sample": False, "stop_at_eos": False, "use_past_kv_cache": cache}
    ids = bridge.to_tokens(TEXTS, padding_side="left", prepend_bos=False)
    mask = torch.stack([torch.arange(ids.shape[1]) >= ids.shape[1] - len(model.tokenizer(text)["input_ids"]) for text in TEXTS])
    given = {"input_ids": ids, "attention_mask": mask.long()}
    plainly = {"max_new_tokens": 6, "do_sample": False, "use_cache": cache, "eos_token_id": None, "pad_token_id": 0}
    bridge.cfg.default_prepend_bos = False
    plain = bridge.generate(TEXTS, **settings, verbose=False, return_type="tokens")
    with transformer_lens_hooks(bridge, graph):
        tokens = bridge.generate(TEXTS, **settings, verbose=False, return_type="tokens")
        again = bridge.hf_generate(ids, attention_mask=given["attention_mask"], **settings, return_type="tokens")
    with steered(model.hf_model, graph):
        expected = model.hf_model.generate(**given, **plainly)
    assert tokens.tolist() == expected.tolist() == again.tolist()
    assert tokens.tolist() != plain.tolist()


@pytest.mark.parametrize("cache", [True, False])
def test_other_operations_conditions_and_schedules_work_too(eager: Eager, cache: bool) -> None:
    """Their arithmetic is the one every engine shares; the step of generation is right with and without a KV cache."""
    model = eager("qwen2")
    bridge, asked = model.bridge(), Conversation.ask(TEXTS[0])
    graph = InterventionGraph(
        (
            Write(0, Add(direction(model)), 1.5, "response", schedule=StepTable((0.0, 1.0, -1.0, 2.0))),
            Write(1, Clamp(direction(model, 1), 5.0), condition=ProjectionCondition(direction(model, 2), 0.0)),
            Write(2, Ablate(direction(model, 3)), schedule=LinearRamp(0, 1, 4)),
        )
    )
    (expected,) = model.generate([asked], graph=graph, sampling=Sampling(7, 0))
    ids = torch.tensor([expected.prompt_ids])
    settings = {"max_new_tokens": 7, "do_sample": False, "verbose": False, "return_type": "tokens"}
    with transformer_lens_hooks(bridge, graph):
        tokens = bridge.generate(ids, use_past_kv_cache=cache, **settings)[0, ids.shape[1] :].tolist()
    assert tokens[: len(expected.answer_ids)] == list(expected.answer_ids)
    assert expected.answer_ids != model.generate([asked], sampling=Sampling(7, 0))[0].answer_ids


@pytest.mark.parametrize("positions", ["all", "response"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_pads_are_not_steered(eager: Eager, positions: WritePositions, side: str) -> None:
    model = eager("llama")
    bridge = model.bridge()
    graph = InterventionGraph((Write(1, Add(torch.ones(model.d_model) * 2), 1.0, positions),))
    ids = bridge.to_tokens(TEXTS, padding_side=side)
    mask = ids != model.tokenizer.pad_token_id
    name = "blocks.1.hook_resid_post"
    before = bridge.run_with_cache(ids, attention_mask=mask.long(), names_filter=name)[1][name]
    with transformer_lens_hooks(bridge, graph):
        after = bridge.run_with_cache(ids, attention_mask=mask.long(), names_filter=name)[1][name]
    moved = (after - before).abs().amax(dim=-1) > 1
    last = mask & (mask.long().cumsum(1) == mask.sum(1, keepdim=True))
    assert torch.equal(moved, mask if positions == "all" else last)


def test_pads_that_nothing_marks_are_refused_and_can_be_marked(eager: Eager) -> None:
    """TransformerLens makes no attention mask where it pads on the right."""
    model = eager("llama")
    bridge, graph = model.bridge(), mixed(model, "response")
    ids = bridge.to_tokens(TEXTS, padding_side="right")
    with (
        pytest.raises(UnsupportedError, match="2 of the 3 rows end in the pad token 2,.*padding_side='left'"),
        transformer_lens_hooks(bridge, graph),
    ):
        bridge(TEXTS, padding_side="right")
    with torch.no_grad(), transformer_lens_hooks(bridge, graph, attention_mask=ids != model.tokenizer.pad_token_id):
        logits = bridge(TEXTS, padding_side="right")
    for row, text in enumerate(TEXTS):
        with torch.no_grad(), transformer_lens_hooks(bridge, graph.for_rows([row])):
            alone = bridge(text)[0]
        torch.testing.assert_close(logits[row, : len(alone)], alone, rtol=1e-4, atol=1e-4)


def test_texts_that_all_end_in_the_pad_token_are_not_padded(eager: Eager) -> None:
    """In GPT-2 one token begins, ends and pads; and rows whose answer has ended go on with it."""
    model = eager("gpt2")
    bridge, graph = model.bridge(), InterventionGraph((Write(1, Add(direction(model))),))
    end = model.tokenizer.eos_token_id
    ids = torch.tensor([[*IDS[:4], end], [*IDS[4:8], end]])
    with torch.no_grad(), steered(model.hf_model, graph):
        expected = model.hf_model(ids).logits
    with torch.no_grad(), transformer_lens_hooks(bridge, graph):
        assert_close(bridge(ids), expected)
        bridge(ids[:, :4])
        bridge(torch.cat([ids[:, :4], torch.tensor([[end], [7]])], dim=1))


def test_prompt_lengths_can_be_given_for_calls_that_hold_answers(eager: Eager) -> None:
    model = eager("gpt2")
    vector = direction(model)
    graph = InterventionGraph((Write(1, Add(vector), 2.0, "response"),))
    with torch.no_grad(), transformer_lens_hooks(model.bridge(), graph, n_prompt=[5]) as bridge:
        logits = bridge(torch.tensor([IDS]))[0]
    assert_close(logits, oracle.forward(model.hf_model, IDS, {1: (2 * vector, slice(4, None))})[0])


def test_hooks_of_ones_own_run_beside_and_see_the_steered_stream(eager: Eager) -> None:
    model = eager("qwen2")
    bridge, vector = model.bridge(), direction(model)
    seen: list[Tensor] = []
    mine = [("blocks.1.hook_resid_post", lambda resid, hook: seen.append(resid.clone()))]
    with torch.no_grad(), transformer_lens_hooks(bridge, InterventionGraph((Write(1, Add(vector)),))):
        bridge.run_with_hooks(torch.tensor([IDS]), fwd_hooks=mine)
    assert_close(seen[0][0], oracle.forward(model.hf_model, IDS, {1: (vector, slice(None))})[1][1])


def test_compatibility_mode_is_steered_once_and_rewrites_copies(eager: Eager, architecture: str) -> None:
    """It folds and centres weights, and calls a hook once for every name it was given under."""
    model = eager(architecture)
    before = {name: value.clone() for name, value in model.hf_model.state_dict().items()}
    bridge, vector = model.bridge(), direction(model)
    bridge.enable_compatibility_mode()
    expected = oracle.forward(model.hf_model, IDS, {1: (vector, slice(None))})[0].log_softmax(-1)
    with torch.no_grad(), transformer_lens_hooks(bridge, InterventionGraph((Write(1, Add(vector)),))):
        logits = bridge(torch.tensor([IDS]))[0].log_softmax(-1)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
    assert all(torch.equal(value, before[name]) for name, value in model.hf_model.state_dict().items())


def test_the_weights_are_shared_and_the_model_keeps_everything_else(tiny_hf: Callable[[str], Any], architecture: str) -> None:
    hf_model, tokenizer = tiny_hf(architecture)
    hf_model.train()
    model = SteerableModel(hf_model, tokenizer, name="mine")
    before = snapshot(hf_model, tokenizer)
    bridge = model.bridge()
    with torch.no_grad(), transformer_lens_hooks(bridge, mixed(model, "all").for_rows([0])):
        bridge(torch.tensor([IDS]))
    assert snapshot(hf_model, tokenizer) == before
    assert hf_model.config._attn_implementation != "eager"
    theirs = {parameter.untyped_storage().data_ptr() for parameter in torch.nn.Module.parameters(bridge)}
    assert theirs == {parameter.untyped_storage().data_ptr() for parameter in hf_model.parameters()}
    with torch.no_grad():
        logits = bridge(torch.tensor([IDS]))
        for parameter in hf_model.parameters():
            parameter.mul_(1.1)
        oracle.assert_not_close(bridge(torch.tensor([IDS])), logits)


def test_nothing_is_left_on_the_bridge_after_the_block_or_an_error(eager: Eager) -> None:
    model = eager("mistral")
    bridge, ids = model.bridge(), torch.tensor([IDS])
    with torch.no_grad():
        expected = bridge(ids)
        with (
            pytest.raises(InvalidInputError, match="names row 5, but this call of MistralForCausalLM has 1 rows"),
            transformer_lens_hooks(bridge, InterventionGraph((Write(0, Add(direction(model)), rows=(5,)),))),
        ):
            bridge(ids)
        with pytest.raises(KeyError, match="mine"), transformer_lens_hooks(bridge, mixed(model, "all").for_rows([0])):
            raise KeyError("mine")
        assert torch.equal(bridge(ids), expected)
    assert not bridge.original_model._forward_pre_hooks
    assert not any(point.fwd_hooks for point in bridge.hook_points())


def test_what_transformer_lens_cannot_do_is_refused(eager: Eager, tiny_hf: Callable[[str], Any]) -> None:
    model = eager("llama")
    bridge = model.bridge()
    with pytest.raises(UnsupportedError, match="writes only.*run_with_cache"):
        transformer_lens_hooks(bridge, InterventionGraph((Capture("all"),))).__enter__()
    with pytest.raises(IncompatibleError, match="width 3, but tiny-llama has d_model 32"):
        transformer_lens_hooks(bridge, InterventionGraph((Write(0, Add(torch.ones(3))),))).__enter__()
    with pytest.raises(UnsupportedError, match="LlamaForCausalLM has no model with blocks.*SteerableModel.bridge"):
        transformer_lens_hooks(model.hf_model, InterventionGraph()).__enter__()

    class HomeMade(LlamaForCausalLM):
        pass

    with pytest.raises(UnsupportedError, match="TransformerLens 4.* has no adapter for HomeMade, the class of mine"):
        transformer_lens_bridge(HomeMade(model.config), model.tokenizer, name="mine")
    with torch.device("meta"):
        elsewhere = LlamaForCausalLM(model.config)
    with pytest.raises(UnsupportedError, match="weights of mine are not in memory"):
        transformer_lens_bridge(elsewhere, model.tokenizer, name="mine")


@pytest.mark.parametrize("kind", ["8bit", "4bit"])
def test_quantized_weights_are_shared_and_left_as_they_are(tiny_model_path: Callable[[str], Path], kind: str) -> None:
    model = load_model(tiny_model_path("llama"), quantization=kind, device="cpu")
    model.hf_model.set_attn_implementation("eager")
    graph = InterventionGraph((Write(1, Add(direction(model))),))
    with torch.no_grad(), steered(model.hf_model, graph):
        expected = model.hf_model(torch.tensor([IDS])).logits
    before = snapshot(model.hf_model, model.tokenizer)
    with torch.no_grad(), transformer_lens_hooks(model.bridge(), graph) as bridge:
        assert_close(bridge(torch.tensor([IDS])), expected)
    assert snapshot(model.hf_model, model.tokenizer) == before
    gpt2 = load_model(tiny_model_path("gpt2"), quantization=kind, device="cpu")
    with pytest.raises(UnsupportedError, match="cannot use the weights of tiny-gpt2 as they are loaded: .*QKV"):
        gpt2.bridge()


def test_a_tokenizer_made_in_memory_will_do(eager: Eager) -> None:
    """TransformerLens by itself would read it again from its folder."""
    from tiny import tiny_tokenizer

    model = eager("mistral")
    bridge = transformer_lens_bridge(model.hf_model, tiny_tokenizer("mistral"), name="mine")
    assert bridge.to_tokens("How?", prepend_bos=False).tolist() == [model.tokenizer("How?")["input_ids"]]
    assert bridge.tokenizer.pad_token == "</s>"


def test_transformer_lens_is_loaded_only_when_it_is_asked_for() -> None:
    code = (
        "import sys, persona_interp.models.bridge, persona_interp.interventions.compile.transformer_lens\n"
        "print('transformer_lens' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
