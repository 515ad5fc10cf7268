"""What engines say they can do is what the README says, what their models say, and what is refused in one manner."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from persona_interp.errors import UnsupportedError
from persona_interp.interventions.graph import InterventionGraph, Write
from persona_interp.interventions.operations import Add
from persona_interp.models.engines.capabilities import TORCH, Capabilities
from persona_interp.models.engines.llama_cpp.engine import LlamaEngine
from persona_interp.models.engines.registry import ENGINES, capability_table, check
from persona_interp.models.engines.transformer_lens import BridgeEngine
from persona_interp.models.registry import load_model
from persona_interp.models.sampling import Sampling
from persona_interp.models.steerable import SteerableModel
from persona_interp.traits.conversation import Conversation

README = Path(__file__).parents[3] / "README.md"
WRITE = InterventionGraph((Write(0, Add(torch.ones(4)), rows=(0,)),))


def test_the_table_of_the_readme_is_made_of_them() -> None:
    assert capability_table() in README.read_text(encoding="utf-8")


def test_a_model_says_what_its_engine_is_registered_with(tiny_model: Callable[[str], SteerableModel]) -> None:
    assert tiny_model("llama").capabilities is ENGINES["torch"].capabilities
    assert LlamaEngine.capabilities is ENGINES["llama.cpp"].capabilities
    assert BridgeEngine.capabilities is ENGINES["transformer_lens"].capabilities


@pytest.mark.parametrize(
    ("capabilities", "said"),
    [
        (replace(TORCH, engine="it", first_layer=2), "m runs in it, which steers from layer 2 on, and a Write is at layer 0"),
        (replace(TORCH, engine="it", rows=False), r"steers all rows of a call alike, and the Write at layer 0 is for rows \[0\]"),
        (replace(TORCH, engine="it", operations=frozenset()), "m runs in it, which cannot steer"),
        (replace(TORCH, engine="it", positions=("prompt",)), "steers the positions prompt, and the Write at layer 0 is at 'all'"),
    ],
)
def test_what_an_engine_cannot_do_is_named_with_one_that_can(capabilities: Capabilities, said: str) -> None:
    with pytest.raises(UnsupportedError, match=f"{said}.*on this machine engine 'torch'.* can .engine='torch', --engine torch"):
        check(WRITE, capabilities, "m")


def test_transformer_lens_answers_as_pytorch_does(tiny_model_path: Callable[[str], Path]) -> None:
    asked, sampling = [Conversation.ask("How do bees make honey?"), Conversation.ask("How?")], Sampling(6)
    texts = [
        [answer.text for answer in load_model(tiny_model_path("qwen2"), engine=engine).generate(asked, sampling=sampling)]
        for engine in ("torch", "transformer_lens")
    ]
    assert texts[0] == texts[1]
