"""A program: two replicas of organism-llama on the CPU, in processes of their own, beside PyTorch; an extraction goes on.

``python vllm_replicas.py FOLDER`` prints a line for each thing that holds.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.pop("VLLM_ENABLE_V1_MULTIPROCESSING", None)  # replicas are processes, as vLLM starts them unless told otherwise

import torch

from persona_interp.interventions.graph import Capture, InterventionGraph, Write
from persona_interp.interventions.operations import Add
from persona_interp.models.registry import load_model
from persona_interp.models.sampling import Sampling
from persona_interp.models.steerable import SteerableModel
from persona_interp.vectors.extract import extract

ASKED = ["How do bees make honey?", "How are you?", "What is a bicycle?", "Why?", "What is the moon?"]
OPTIONS = {"kv_cache_memory_bytes": 2**28, "max_num_batched_tokens": 512, "max_num_seqs": 16}
SAMPLING = Sampling(12, 1.0)


def main(folder: Path) -> None:
    ours = load_model("organism-llama", dtype="float32")
    with load_model("organism-llama", dtype="float32", engine="vllm", replicas=2, engine_options=OPTIONS) as theirs:
        same_rows(ours, theirs)
        stopped_and_resumed(ours, theirs, folder)


def same_rows(ours: SteerableModel, theirs: SteerableModel) -> None:
    direction = torch.randn(ours.d_model, generator=torch.Generator().manual_seed(0)) * 20
    graph = InterventionGraph((Write(1, Add(direction), 1.0, "response", (0, 3)), Capture("answer")))
    told: list[int] = []
    found = theirs.generate(ASKED, graph=graph, sampling=SAMPLING, on_text=lambda row, text: told.append(row))
    right = ours.generate(ASKED, graph=graph, sampling=SAMPLING)
    assert [answer.answer_ids for answer in found] == [answer.answer_ids for answer in right]
    assert set(told) == set(range(len(ASKED)))
    for one, other in zip(right, found, strict=True):
        for capture, value in one.captured.items():
            torch.testing.assert_close(other.captured[capture], value, atol=1e-4, rtol=1e-4)
    texts = list(zip(ASKED, [answer.text for answer in right], strict=True))
    for one, other in zip(ours.log_likelihood(texts), theirs.log_likelihood(texts), strict=True):
        torch.testing.assert_close(other.token_log_probs, one.token_log_probs, atol=1e-3, rtol=1e-3)
    sys.stdout.write("rows equal\n")


def stopped_and_resumed(ours: SteerableModel, theirs: SteerableModel, folder: Path) -> None:
    settings = {"samples": 1, "sampling": SAMPLING, "questions": ("What is a bicycle?", "Why?"), "minimum_pairs": 2}
    whole = extract(ours, "formal", folder=folder / "torch", **settings)
    generate, rounds = theirs.engine.generate, [0]

    def stops(*args: object, **options: object) -> object:
        rounds[0] += 1
        if rounds[0] > 2:
            raise KeyboardInterrupt
        return generate(*args, **options)  # type: ignore[arg-type]

    theirs.engine.generate = stops  # type: ignore[method-assign]
    try:
        extract(theirs, "formal", folder=folder / "vllm", batch_size=4, **settings)
        raise AssertionError("it was not stopped")
    except KeyboardInterrupt:
        pass
    rounds[0] = -1000
    vector = extract(theirs, "formal", folder=folder / "vllm", batch_size=4, **settings)
    made = 1000 + rounds[0]
    assert made == 3, f"of 20 answers in batches of 4 two batches were there: {made} more were made"
    torch.testing.assert_close(vector.directions, whole.directions, atol=1e-3, rtol=1e-3)
    assert sorted(path.name for path in (folder / "vllm").iterdir()) == sorted(path.name for path in (folder / "torch").iterdir())
    sys.stdout.write("resumed\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
