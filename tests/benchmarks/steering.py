"""(c) Steered generation, against the same generation with bare forward hooks, and against none."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from measuring import Ratio, compare
from subjects import Subject
from transformers import GenerationConfig

from persona_interp.interventions.graph import InterventionGraph, Write
from persona_interp.interventions.operations import Add
from persona_interp.models.batching import pad
from persona_interp.models.sampling import Sampling

N_ROWS = 32
BAR = 1.05
SAMPLING = Sampling(max_new_tokens=32, temperature=0)


def measure(subject: Subject, rounds: int) -> dict[str, dict[str, Ratio]]:
    model = subject.model
    conversations = subject.conversations(N_ROWS)
    prompts = [model.chat.prompt_ids(conversation) for conversation in conversations]
    order = sorted(range(N_ROWS), key=lambda i: (-len(prompts[i]), i))  # as the package batches them
    batch = pad([prompts[i] for i in order], [len(prompts[i]) for i in order], 0, model.device)
    direction = torch.randn(model.d_model, generator=torch.Generator().manual_seed(0)) / model.d_model**0.5
    settings = GenerationConfig(
        max_new_tokens=SAMPLING.max_new_tokens, do_sample=False, eos_token_id=sorted(model.chat.end_ids), pad_token_id=0
    )

    def ours(layers: Iterable[int]) -> Callable[[], list[tuple[int, ...]]]:
        graph = InterventionGraph(tuple(Write(layer, Add(direction)) for layer in layers))

        def run() -> list[tuple[int, ...]]:
            made = model.generate(conversations, graph=graph, sampling=SAMPLING, batch_size=N_ROWS)
            return [made[i].answer_ids for i in order]

        return run

    def hooked(layers: Iterable[int]) -> Callable[[], Any]:
        wanted = set(layers)
        push = direction.to(model.device)

        def run() -> Any:
            blocks = subject.bare.model.layers
            handles = [blocks[i].register_forward_hook(lambda _module, _args, output: output + push) for i in wanted]
            try:
                with torch.no_grad():
                    ids = subject.bare.generate(batch.ids, attention_mask=batch.attention_mask, generation_config=settings)
            finally:
                for handle in handles:
                    handle.remove()
            return ids[:, batch.ids.shape[1] :]

        return run

    ratios: dict[str, dict[str, Ratio]] = {}
    unsteered = hooked(())
    for name, layers in (("one layer", [model.n_layers // 2]), ("all layers", range(model.n_layers))):
        _check_same(ours(layers)(), hooked(layers)(), name)
        accelerator = model.device.type == "cuda"
        ratios[name] = compare(hooked(layers), {f"steering, {name}": ours(layers)}, rounds, accelerator=accelerator)
        against = compare(unsteered, {f"steering, {name}, against no steering": ours(layers)}, rounds, accelerator=accelerator)
        ratios[f"{name}, unsteered"] = against
    return ratios


def _check_same(rows: list[tuple[int, ...]], ids: Any, name: str) -> None:
    """Two things that do not give the same tokens cannot be compared."""
    for row, reference in zip(rows, ids.tolist(), strict=True):
        if tuple(reference[: len(row)]) != row:
            raise SystemExit(f"steering at {name} gave other tokens than bare hooks: {row} against {reference}")
