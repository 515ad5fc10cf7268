"""Compiled models are steered like plain ones, and nothing of the steering stays compiled."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import CompileConfig, GenerationConfig

from persona_interp.errors import UnsupportedError
from persona_interp.interventions.compile.eager import uncompiled
from persona_interp.interventions.graph import InterventionGraph, Write
from persona_interp.interventions.operations import Add
from persona_interp.models.registry import load_model
from persona_interp.models.steered import steered

TinyHf = Callable[[str], tuple[Any, Any]]
IDS = torch.tensor([list(range(20, 33))])


def graph(hf_model: Any) -> InterventionGraph:
    direction = torch.randn(hf_model.config.hidden_size, generator=torch.Generator().manual_seed(0)) * 5
    return InterventionGraph((Write(1, Add(direction), 1.0, "response"),))


def wrapped(hf_model: Any, backend: str) -> Any:
    return torch.compile(hf_model, backend=backend)


def in_place(hf_model: Any, backend: str) -> Any:
    hf_model.compile(backend=backend)
    return hf_model


def forward_only(hf_model: Any, backend: str) -> Any:
    hf_model.forward = torch.compile(hf_model.forward, backend=backend)
    return hf_model


def each_block(hf_model: Any, backend: str) -> Any:
    for block in hf_model.model.layers:
        block.compile(backend=backend)
    return hf_model


def logits(model: Any) -> Tensor:
    with torch.no_grad():
        return model(IDS).logits


@pytest.fixture(autouse=True)
def _forget_compiled() -> Any:
    yield
    torch.compiler.reset()


@pytest.mark.filterwarnings("ignore")  # what torch says about its own compiling
@pytest.mark.parametrize("compiled", [wrapped, in_place, forward_only, each_block])
@pytest.mark.parametrize("when", ["before", "inside"])
def test_a_compiled_model_is_steered_and_is_not_afterwards(tiny_hf: TinyHf, compiled: Any, when: str) -> None:
    hf_model, tokenizer = tiny_hf("llama")
    plain = logits(hf_model)
    with steered(hf_model, graph(hf_model)):
        expected = logits(hf_model)
    if when == "before":
        model = compiled(hf_model, "eager")
        logits(model)
        with steered(model, graph(hf_model)):
            assert torch.equal(logits(model), expected)
    else:
        with steered(hf_model, graph(hf_model)):
            model = compiled(hf_model, "eager")
            assert torch.equal(logits(model), expected)
    assert torch.equal(logits(model), plain)
    assert not torch.equal(expected, plain)
    loaded = load_model(model, tokenizer=tokenizer)
    got = loaded.next_token_logits(IDS.tolist(), graph=graph(hf_model))
    torch.testing.assert_close(got, expected[:, -1], rtol=0, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_machine_code_is_not_run_while_steering(tiny_hf: TinyHf) -> None:
    """The default backend, which writes C++."""
    hf_model, _ = tiny_hf("llama")
    with steered(hf_model, graph(hf_model)):
        expected = logits(hf_model)
    model = torch.compile(hf_model)
    fast = logits(model)
    with steered(model, graph(hf_model)):
        assert torch.equal(logits(model), expected)
    assert torch.equal(logits(model), fast)


@pytest.mark.filterwarnings("ignore")
def test_generation_that_transformers_compiles_is_steered(tiny_hf: TinyHf) -> None:
    hf_model, _ = tiny_hf("llama")
    compile_config = CompileConfig(backend="eager", fullgraph=False)
    compile_config._compile_all_devices = True
    shared: dict[str, Any] = {"do_sample": False, "max_new_tokens": 6, "min_new_tokens": 6, "pad_token_id": 0}
    config = GenerationConfig(**shared)
    static = GenerationConfig(**shared, cache_implementation="static", compile_config=compile_config)
    with steered(hf_model, graph(hf_model)):
        expected = hf_model.generate(IDS, generation_config=config)
    plain = hf_model.generate(IDS, generation_config=static)
    with steered(hf_model, graph(hf_model)):
        assert torch.equal(hf_model.generate(IDS, generation_config=static), expected)
    assert torch.equal(hf_model.generate(IDS, generation_config=static), plain)
    assert not torch.equal(plain, expected)


def test_a_model_whose_blocks_hooks_do_not_see_is_refused(tiny_hf: TinyHf) -> None:
    hf_model, _ = tiny_hf("llama")
    outputs = hf_model(IDS)
    hf_model.forward = lambda *args, **kwargs: outputs
    with pytest.raises(UnsupportedError, match="without its block 1 being seen"), steered(hf_model, graph(hf_model)):
        hf_model(IDS)


@pytest.mark.filterwarnings("ignore")
def test_blocks_that_overlap_in_any_order_leave_compiling_as_it_was() -> None:
    """Each of two threads leaves while the other is still, or no longer, inside."""
    runs: list[str] = []

    def backend(graph_module: Any, inputs: Any) -> Any:
        runs.append("compiled")
        return graph_module.forward

    double = torch.compile(lambda x: x * 2, backend=backend)
    entered, left = threading.Event(), threading.Event()

    def other() -> None:
        with uncompiled():
            entered.set()
            left.wait(10)

    thread = threading.Thread(target=other)
    with uncompiled():
        thread.start()
        entered.wait(10)
    double(torch.ones(2))
    assert not runs
    left.set()
    thread.join()
    double(torch.ones(2))
    assert runs
