"""(e) Sweeps: every layer and coefficient in one batched run against a loop over cells, and likelihoods restarted in mid-model.

The loop's cells all cost the same, so on a large model only some are run and their time is scaled up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from measuring import Ratio, compare
from subjects import Subject

from persona_interp.interventions.graph import InterventionGraph
from persona_interp.measure.layer_scan import scan_layers
from persona_interp.models.chat import TokenisedAnswer
from persona_interp.models.sampling import Sampling
from persona_interp.traits.conversation import Conversation
from persona_interp.traits.judging import Judgement
from persona_interp.traits.trait import Trait
from persona_interp.vectors.persona_vector import PersonaVector

N_QUESTIONS = 8
COEFFICIENTS = (-1.0, -0.75, -0.5, -0.25, 0.25, 0.5, 0.75, 1.0)
SAMPLING = Sampling(max_new_tokens=32)
SWEEP_BARS = {"organism-qwen2": 1 / 4, "random-qwen2-100m": 1 / 1.5}
RESTART_BARS = {"random-qwen2-100m": 1 / 1.7}
CELLS_TIMED = {"random-qwen2-100m": 8}
N_TEXTS, N_ANSWER = 16, 48
CLOSE = 1e-4


class NoJudge:
    """Costs nothing, so that only the model is measured."""

    name = "none"

    def judge(self, trait: Trait, exchanges: Sequence[tuple[str, str]]) -> list[Judgement]:
        return [Judgement(50.0, 100.0)] * len(exchanges)


def measure(subject: Subject, rounds: int) -> dict[str, tuple[Ratio, float | None]]:
    """Name -> ratio, and the bar it is held against for this subject."""
    return {**_sweep(subject, rounds), **_restart(subject, rounds)}


def _vector(subject: Subject) -> PersonaVector:
    model = subject.model
    directions = torch.randn(model.n_layers, model.d_model, generator=torch.Generator().manual_seed(0)) / model.d_model**0.5
    return PersonaVector(directions, tuple(range(model.n_layers)), "silly", model.identity)


def _sweep(subject: Subject, rounds: int) -> dict[str, tuple[Ratio, float | None]]:
    model, vector = subject.model, _vector(subject)
    questions = subject.trait.extraction_questions[:N_QUESTIONS]
    cells = [(layer, value) for layer in vector.layers for value in COEFFICIENTS]
    timed = cells[:: max(1, len(cells) // CELLS_TIMED.get(subject.name, len(cells)))]

    def batched() -> None:
        scan_layers(
            model,
            vector,
            subject.trait,
            COEFFICIENTS,
            questions=questions,
            judge=NoJudge(),
            positions="response",
            sampling=SAMPLING,
        )

    def one_cell_at_a_time() -> None:
        for layer, value in timed:
            graph = vector.graph(value, layers=[layer], positions="response")
            model.generate([Conversation.ask(question) for question in questions], graph=graph, sampling=SAMPLING)

    def unsteered() -> None:
        model.generate([Conversation.ask(question) for question in questions] * (len(cells) + 1), sampling=SAMPLING)

    accelerator = model.device.type == "cuda"
    found = compare(
        one_cell_at_a_time,
        {"sweep in one run": batched, "as many answers in one run, unsteered": unsteered},
        rounds,
        accelerator=accelerator,
    )
    share = len(timed) / len(cells)
    scaled = {
        name: replace(
            ratio,
            cpu=None if ratio.cpu is None else ratio.cpu * share,
            wall=ratio.wall * share,
            reference_seconds=ratio.reference_seconds / share,
        )
        for name, ratio in found.items()
    }
    bars = {"sweep in one run": SWEEP_BARS.get(subject.name)}
    return {f"{name}, against a loop over cells": (ratio, bars.get(name)) for name, ratio in scaled.items()}


def _restart(subject: Subject, rounds: int) -> dict[str, tuple[Ratio, float | None]]:
    model, vector = subject.model, _vector(subject)
    prompts = [model.chat.prompt_ids(conversation) for conversation in subject.conversations(N_TEXTS)]
    answers = torch.randint(5, 500, (N_TEXTS, N_ANSWER), generator=torch.Generator().manual_seed(0)).tolist()
    texts = [TokenisedAnswer((*prompt, *answer), len(prompt)) for prompt, answer in zip(prompts, answers, strict=True)]
    graphs: list[InterventionGraph] = [vector.graph(1.0, layers=[layer]) for layer in vector.layers]

    def restarted() -> list[torch.Tensor]:
        return [x.token_log_probs for found in model.log_likelihoods(texts, graphs) for x in found]

    def full() -> list[torch.Tensor]:
        return [x.token_log_probs for graph in graphs for x in model.log_likelihood(texts, graph=graph)]

    worst = max(float((a - b).abs().max()) for a, b in zip(restarted(), full(), strict=True))
    if worst > CLOSE:
        raise SystemExit(f"restarted likelihoods differ from those of full forwards by up to {worst:g}")
    ratios = compare(full, {"restarted likelihoods": restarted}, rounds, accelerator=model.device.type == "cuda")
    return {f"{name}, against full forwards": (ratio, RESTART_BARS.get(subject.name)) for name, ratio in ratios.items()}
