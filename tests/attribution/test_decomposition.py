"""The parts of the stream are those that were written: they sum to it, in every family, whatever runs beside a row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from snapshot import snapshot
from tiny import ARCHITECTURES, MORE_ARCHITECTURES

from persona_interp.attribution.component import Component
from persona_interp.attribution.decomposition import decompose
from persona_interp.errors import InvalidInputError, UnsupportedError
from persona_interp.interventions.graph import InterventionGraph
from persona_interp.models.chat import TokenisedAnswer
from persona_interp.models.registry import load_model
from persona_interp.models.steerable import SteerableModel
from persona_interp.residuals.pooling import POOLINGS

Model = Callable[[str], SteerableModel]
ROWS = [
    TokenisedAnswer(tuple(range(20, 33)), 4),
    TokenisedAnswer(tuple(range(50, 57)), 3),
    TokenisedAnswer(tuple(range(90, 111)), 9),
]


def direction(model: SteerableModel) -> torch.Tensor:
    return 3 * torch.randn(model.d_model, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("architecture", [*ARCHITECTURES, *MORE_ARCHITECTURES])
def test_the_parts_sum_to_the_stream_that_a_capture_reads(tiny_model: Model, architecture: str) -> None:
    """Grouped queries, biases, learned positions, experts, sinks, parallel blocks, and norms behind attention."""
    model = tiny_model(architecture)
    layer, pushed = model.n_layers - 1, direction(model)
    found = decompose(model, model.bridge(), ROWS, layer, pushed)
    capture = POOLINGS["response_avg"]
    whole = [read[capture][layer] @ (pushed / pushed.norm()) for read in model.capture(ROWS, InterventionGraph((capture,)))]
    # relative to the largest part, of which many cancel; the model itself may run another attention than the bridge
    close = {"rtol": 0, "atol": 2e-6 * float(found.parts.abs().max()) + 1e-6 * found.resid_norm}
    torch.testing.assert_close(found.parts.sum(dim=1), torch.stack(whole).double(), **close)
    torch.testing.assert_close(found.parts.sum(dim=1), found.whole, **close)
    assert found.gap < 1e-6
    assert float(found.parts.abs().min(dim=0).values.max()) > 1e-3, "the parts are not all zero"


@pytest.mark.parametrize("architecture", ["llama", "gemma2", "olmo2"])
def test_in_sixteen_bits_the_parts_miss_the_stream_by_roundings_only(
    tiny_hf: Callable[[str], tuple[Any, Any]], architecture: str
) -> None:
    hf_model, tokenizer = tiny_hf(architecture)
    model = SteerableModel(hf_model.to(torch.bfloat16), tokenizer, name="half")
    exact = decompose(model, model.bridge(), ROWS, 3, direction(model))
    assert 0 < exact.gap < 0.01


@pytest.mark.parametrize("name", ["organism-qwen2", "organism-llama", "organism-mistral", "organism-gpt2"])
def test_it_is_exact_on_the_organisms_at_their_planted_width(name: str) -> None:
    model = load_model(name)
    found = decompose(model, model.bridge(), ROWS, model.n_layers // 2, direction(model))
    assert found.gap < 1e-6


def test_each_part_is_what_a_hook_reads_by_hand(tiny_model: Model) -> None:
    """Head by head through the slices of the output matrix, on the Hugging Face model itself."""
    model = tiny_model("qwen2")
    pushed, read = direction(model), {}
    unit = pushed / pushed.norm()
    attention = model.hf_model.model.layers[1].self_attn.o_proj
    handles = [
        attention.register_forward_pre_hook(lambda _m, args: read.update(z=args[0].detach())),
        model.hf_model.model.layers[1].mlp.register_forward_hook(lambda _m, _a, out: read.update(mlp=out.detach())),
    ]
    row = ROWS[0]
    with torch.no_grad():
        model.hf_model(torch.tensor([row.ids[:-1]]))
    for handle in handles:
        handle.remove()
    found = decompose(model, model.bridge(), [row], 2, pushed)
    width = attention.weight.shape[1] // 4
    answer = slice(row.n_prompt, len(row.ids) - 1)
    for head in range(4):
        place = slice(head * width, (head + 1) * width)
        by_hand = float((read["z"][0, answer, place] @ attention.weight[:, place].detach().T @ unit).mean())
        assert float(found.parts[0, found.components.index(Component("head", 1, head))]) == pytest.approx(by_hand, abs=1e-5)
    by_hand = float((read["mlp"][0, answer] @ unit).mean())
    assert float(found.parts[0, found.components.index(Component("mlp", 1))]) == pytest.approx(by_hand, abs=1e-5)


def test_the_bias_of_attention_is_a_part_of_its_own(tiny_model: Model) -> None:
    model = tiny_model("gpt2")
    pushed = direction(model)
    found = decompose(model, model.bridge(), ROWS, 1, pushed)
    for layer in (0, 1):
        bias = model.hf_model.transformer.h[layer].attn.c_proj.bias.detach() @ (pushed / pushed.norm())
        column = found.parts[:, found.components.index(Component("bias", layer))]
        torch.testing.assert_close(column, bias.double().expand(3), rtol=1e-5, atol=1e-6)
    assert not any(component.kind == "bias" for component in decompose(
        tiny_model("llama"), tiny_model("llama").bridge(), ROWS, 1, pushed).components)  # fmt: skip


@pytest.mark.parametrize("architecture", ["mistral", "gpt2", "gemma2"])
@pytest.mark.parametrize("positions", ["response_avg", "prompt_last"])
def test_batched_is_one_by_one(tiny_model: Model, architecture: str, positions: str) -> None:
    model = tiny_model(architecture)
    bridge, pushed = model.bridge(), direction(model)
    together = decompose(model, bridge, ROWS, 2, pushed, positions=positions)
    alone = decompose(model, bridge, ROWS, 2, pushed, positions=positions, batch_size=1)
    torch.testing.assert_close(together.parts, alone.parts, rtol=1e-5, atol=1e-5)


def test_later_blocks_write_nothing_and_are_not_run(tiny_model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("llama")
    bridge = model.bridge()
    ran: list[int] = []
    for number, block in enumerate(bridge.blocks):
        block.hook_in.register_forward_hook(lambda _m, _a, _o, number=number: ran.append(number))
    found = decompose(model, bridge, ROWS, 1, direction(model))
    assert {component.layer for component in found.components} == {None, 0, 1}
    assert ran == [0, 1]


def test_the_users_model_stays_as_it_was_and_no_hook_is_left(tiny_hf: Callable[[str], tuple[Any, Any]]) -> None:
    hf_model, tokenizer = tiny_hf("gpt2")
    model = SteerableModel(hf_model, tokenizer, name="mine")
    hf_model.train()
    bridge = model.bridge()
    before, hooks = snapshot(hf_model, tokenizer), n_hooks(bridge)
    decompose(model, bridge, ROWS, 1, direction(model))
    with pytest.raises(RuntimeError):
        decompose(model, bridge, ROWS, 1, torch.ones(model.d_model + 1))  # fails inside a hook
    assert snapshot(hf_model, tokenizer) == before
    assert n_hooks(bridge) == hooks


def n_hooks(bridge: Any) -> int:
    return sum(len(point.fwd_hooks) for point in bridge.hook_dict.values())


def test_something_that_writes_unseen_is_an_error_not_a_number(tiny_model: Model) -> None:
    """As in an architecture that scales its stream, or adds to it outside attention and MLP."""
    model = tiny_model("qwen2")
    bridge = model.bridge()
    bridge.blocks[1].hook_out.register_forward_hook(lambda _m, _a, out: out * 1.01)
    with pytest.raises(UnsupportedError, match="tiny-qwen2 write does not add up to its residual stream at layer 2"):
        decompose(model, bridge, ROWS, 2, direction(model))


def test_what_cannot_be_read_is_refused(tiny_model: Model) -> None:
    model = tiny_model("qwen2")
    bridge = model.bridge()
    with pytest.raises(InvalidInputError, match="0 answers along a direction of norm"):
        decompose(model, bridge, [], 1, direction(model))
    with pytest.raises(InvalidInputError, match="norm 0: give answers and a direction"):
        decompose(model, bridge, ROWS, 1, torch.zeros(model.d_model))
    with pytest.raises(InvalidInputError, match="1 answers have no position to read for response_avg"):
        decompose(model, bridge, [*ROWS, TokenisedAnswer((20, 21, 22), 2)], 1, direction(model))
