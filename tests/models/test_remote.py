"""nnsight's "local" takes the way of a remote run, short of the network: what was read must come back, not stay in copies.

In a process of its own: the shape checks of the tests hold references that cannot be serialised.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

SCRIPT = """
import sys
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from persona_interp.interventions.graph import Capture, InterventionGraph, Write
from persona_interp.interventions.operations import Add
from persona_interp.models.chat import TokenisedAnswer
from persona_interp.models.sampling import Sampling
from persona_interp.models.steerable import SteerableModel
from persona_interp.traits.conversation import Conversation

hf_model, tokenizer = (auto.from_pretrained(sys.argv[1]) for auto in (AutoModelForCausalLM, AutoTokenizer))
here, there = (SteerableModel(hf_model, tokenizer, name="m", remote=remote) for remote in (False, "local"))
graph = InterventionGraph((Write(1, Add(torch.ones(32)), 2.0, "response"), Capture("answer"), Capture("all", "none")))
asked = [Conversation.ask("How?"), Conversation.ask("Tell me about the moon")]
for one, other in zip(*(m.generate(asked, graph=graph, sampling=Sampling(5)) for m in (here, there))):
    assert one.answer_ids == other.answer_ids
    assert len(other.captured) == 2
    assert all(torch.equal(value, other.captured[capture]) for capture, value in one.captured.items())
one, other = (m.capture([TokenisedAnswer(tuple(range(20, 30)), 4)], graph)[0] for m in (here, there))
assert len(other) == 2 and all(torch.equal(value, other[capture]) for capture, value in one.items())
assert torch.equal(here.next_token_logits([[5, 6]], graph=graph), there.next_token_logits([[5, 6]], graph=graph))
print("same")
"""


def test_a_run_that_is_serialised_gives_the_same_results(tiny_model_path: Callable[[str], Path]) -> None:
    command = [sys.executable, "-c", SCRIPT, str(tiny_model_path("llama"))]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], check=False)
    assert done.stdout == "same\n", done.stderr
