"""(g) A model as a GGUF file: generation under a control vector against none, and reading every block against reading none."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from measuring import Ratio, compare
from subjects import Subject

from persona_interp.interventions.graph import Capture, InterventionGraph, Write
from persona_interp.interventions.operations import Add
from persona_interp.models.chat import TokenisedAnswer
from persona_interp.models.engines.llama_cpp.model import LlamaCppModel
from persona_interp.models.sampling import Sampling
from persona_interp.organisms.gguf_export import export_gguf

N_ROWS = 16
N_ANSWER = 48
BAR = 1.03
SAMPLING = Sampling(max_new_tokens=32, temperature=0)
FAINT = 1e-5
"""Length of what is added: it costs what any vector costs, and changes no token, so that both run the same steps."""


def measure(subject: Subject, rounds: int) -> dict[str, tuple[Ratio, float | None]]:
    """Name -> ratio, and the bar where one is held."""
    with tempfile.TemporaryDirectory() as folder:
        path = export_gguf(subject.model, Path(folder) / "subject.gguf")
        with LlamaCppModel(path, n_threads=torch.get_num_threads()) as native:
            return {**_steering(native, subject, rounds), **_reading(native, subject, rounds)}


def _steering(native: LlamaCppModel, subject: Subject, rounds: int) -> dict[str, tuple[Ratio, float | None]]:
    conversations = subject.conversations(N_ROWS)
    direction = torch.randn(native.d_model, generator=torch.Generator().manual_seed(0))
    direction *= FAINT / direction.norm()

    def generating(layers: Iterable[int], *reads: Capture) -> Callable[[], list[tuple[int, ...]]]:
        graph = InterventionGraph((*(Write(layer, Add(direction)) for layer in layers), *reads))

        def run() -> list[tuple[int, ...]]:
            made = native.generate(conversations, graph=graph, sampling=SAMPLING, batch_size=N_ROWS)
            return [answer.answer_ids for answer in made]

        return run

    unsteered = generating(())
    things = {
        "control vector, one layer": generating([native.n_layers // 2]),
        "control vector, all layers": generating(range(1, native.n_layers)),
        "generation that reads all layers": generating((), Capture("answer")),
    }
    expected = unsteered()
    for name, thing in things.items():
        if thing() != expected:
            raise SystemExit(f"{name} gave other tokens than plain generation, so the two cannot be compared")
    found = compare(unsteered, things, rounds)
    return {f"{name}, against none": (ratio, BAR if "vector" in name else None) for name, ratio in found.items()}


def _reading(native: LlamaCppModel, subject: Subject, rounds: int) -> dict[str, tuple[Ratio, float | None]]:
    prompts = [native.chat.prompt_ids(conversation) for conversation in subject.conversations(N_ROWS)]
    answers = torch.randint(5, 500, (N_ROWS, N_ANSWER), generator=torch.Generator().manual_seed(0)).tolist()
    texts = [TokenisedAnswer((*prompt, *answer), len(prompt)) for prompt, answer in zip(prompts, answers, strict=True)]
    read = [text.ids[:-1] for text in texts]  # the last id is never read

    def decode() -> Any:
        return native.next_token_logits(read, batch_size=N_ROWS)

    def capturing() -> Any:
        return native.capture(texts, InterventionGraph((Capture("answer"),)), batch_size=N_ROWS)

    found = compare(decode, {"capture of all layers from texts, against plain decode": capturing}, rounds)
    return {name: (ratio, None) for name, ratio in found.items()}
