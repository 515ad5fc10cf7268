"""A program: organism-llama in vLLM under torch.compile on the CPU, steered, against this package's own engine.

Prints how often the custom operation was called from compiled code in one forward pass, and that the tokens are equal.
"""

from __future__ import annotations

import sys
from collections import Counter

import torch
from torch.profiler import ProfilerActivity, profile

from persona_interp.interventions.graph import Capture, InterventionGraph, Write
from persona_interp.interventions.operations import Add, Cap
from persona_interp.models.registry import load_model
from persona_interp.models.sampling import Sampling

ASKED = ["How do bees make honey?", "How are you?", "What is a bicycle?"]
OPTIONS = {"enforce_eager": False, "kv_cache_memory_bytes": 2**28, "max_num_batched_tokens": 512, "max_num_seqs": 8}


def main() -> None:
    ours = load_model("organism-llama", dtype="float32")
    theirs = load_model("organism-llama", dtype="float32", engine="vllm", engine_options=OPTIONS)
    direction = torch.randn(ours.d_model, generator=torch.Generator().manual_seed(0))
    graph = InterventionGraph(
        (
            Write(2, Add(direction / direction.norm() * 12), 0.9, "response", (0, 2)),
            Write(3, Cap(direction, 0.0), 1.0, "all", (1,)),
            Capture("answer"),
        )
    )
    for steered in (None, graph):
        with profile(activities=[ProfilerActivity.CPU]) as seen:
            found = theirs.generate(ASKED, graph=steered, sampling=Sampling(16, 0))
        right = ours.generate(ASKED, graph=steered, sampling=Sampling(16, 0))
        assert [answer.answer_ids for answer in found] == [answer.answer_ids for answer in right]
        for one, other in zip(right, found, strict=True):
            for capture, value in one.captured.items():
                torch.testing.assert_close(other.captured[capture], value, atol=1e-4, rtol=1e-4)
        calls = Counter(event.name for event in seen.events())
        # what is not compiled calls the function behind the operation, which the profiler does not see
        passes = max(len(answer.answer_ids) for answer in found)
        sys.stdout.write(f"compiled with {calls['persona_interp::block'] / passes:g} calls of persona_interp::block\n")
    sys.stdout.write("tokens equal\n")
    theirs.close()


if __name__ == "__main__":
    main()
