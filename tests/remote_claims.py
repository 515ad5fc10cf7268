"""A program: the verbs, extraction and a layer scan, here and remotely, compared. Prints one JSON object of claims.

``python remote_claims.py local FOLDER WORK`` rehearses with nnsight's ``remote="local"``; ``ndif`` runs ``remote=True`` at the
stand-in of `ndif`. A process of its own, because the shape checks of the tests hold references that cannot be serialised.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ |= {"HF_HUB_OFFLINE": "1", "NDIF_API_KEY": "made-up"}

import torch
from ndif import standing_in
from torch import Tensor

from persona_interp.interventions.graph import Capture, InterventionGraph, Write
from persona_interp.interventions.operations import Ablate, Add
from persona_interp.measure.layer_scan import scan_layers
from persona_interp.models.chat import TokenisedAnswer
from persona_interp.models.registry import load_model
from persona_interp.models.sampling import Sampling
from persona_interp.models.steerable import SteerableModel
from persona_interp.traits.conversation import Conversation
from persona_interp.traits.judging import Judgement
from persona_interp.traits.trait import InstructionPair, Trait
from persona_interp.vectors.extract import extract

HUB_ID = "somebody/tiny"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
ASKED = [Conversation.ask("How?"), Conversation.ask("Tell me about the moon")]
TEXTS = [TokenisedAnswer(tuple(range(20, 30)), 4), TokenisedAnswer(tuple(range(40, 46)), 2)]
TRAIT = Trait(
    name="silly",
    description="Says silly things.",
    instructions=tuple(InstructionPair(f"Answer in a silly way, {i}.", f"Answer in a formal way, {i}.") for i in range(5)),
    extraction_questions=("What is the moon?", "How do bees make honey?"),
    evaluation_questions=("What is a city?",),
    rubric="{question} {answer}",
)


class Lengths:
    """Scores an answer by its length: what matters is that equal answers get equal scores."""

    name = "lengths"

    def judge(self, trait: Trait, exchanges: Sequence[tuple[str, str]]) -> list[Judgement]:
        return [Judgement(float(len(answer) % 100), 100.0) for _, answer in exchanges]


@contextmanager
def pair(how: str, folder: Path, work: Path) -> Iterator[tuple[SteerableModel, SteerableModel, list[Any]]]:
    """The model here, the model there, and what NDIF was asked."""
    if how == "local":
        yield load_model(folder), load_model(folder, remote="local"), []
        return
    snapshot = work / f"models--{HUB_ID.replace('/', '--')}"
    (snapshot / "snapshots").mkdir(parents=True)
    (snapshot / "snapshots" / COMMIT).symlink_to(folder)
    (snapshot / "refs").mkdir()
    (snapshot / "refs" / "main").write_text(COMMIT)
    with standing_in(folder, HUB_ID, work) as requests:
        there = load_model(HUB_ID, cache_dir=work, remote=True)
        here = load_model(HUB_ID, cache_dir=work)
        here.hf_model.set_attn_implementation(there.config._attn_implementation)
        yield here, there, requests


def same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.allclose(one, other, rtol=1e-5, atol=1e-5)


def verbs(here: SteerableModel, there: SteerableModel) -> Iterator[tuple[str, bool]]:
    write = Write(1, Add(torch.ones(here.d_model)), 2.0, "response", (0,))
    graph = InterventionGraph(
        (write, Write(2, Ablate(torch.linspace(-1, 1, here.d_model))), Capture("answer"), Capture("all", "none"))
    )
    ours, theirs = (m.generate(ASKED, graph=graph, sampling=Sampling(6, top_k=30), seed=3) for m in (here, there))
    yield "answers", [a.answer_ids for a in ours] == [a.answer_ids for a in theirs]
    yield (
        "steered",
        [a.answer_ids for a in ours] != [a.answer_ids for a in here.generate(ASKED, sampling=Sampling(6, top_k=30), seed=3)],
    )
    pairs = [(a.captured, b.captured) for a, b in zip(ours, theirs, strict=True)]
    yield (
        "captured while generating",
        all(set(a) == set(b) == set(graph.captures) for a, b in pairs)
        and all(same(value, b[capture]) for a, b in pairs for capture, value in a.items()),
    )
    pairs = list(zip(here.capture(TEXTS, graph), there.capture(TEXTS, graph), strict=True))
    yield "captured from texts", all(len(b) == 2 and all(same(v, b[c]) for c, v in a.items()) for a, b in pairs)
    likelihoods = zip(here.log_likelihood(TEXTS, graph=graph), there.log_likelihood(TEXTS, graph=graph), strict=True)
    yield "log likelihood", all(same(a.token_log_probs, b.token_log_probs) for a, b in likelihoods)
    graphs = [graph, InterventionGraph()]
    under = zip(here.log_likelihoods(TEXTS, graphs), there.log_likelihoods(TEXTS, graphs), strict=True)
    pairs = [pair for a, b in under for pair in zip(a, b, strict=True)]
    yield "likelihoods under graphs", all(same(a.token_log_probs, b.token_log_probs) for a, b in pairs)
    ids = [[5, 6], [7, 8, 9]]
    yield "next token", same(here.next_token_logits(ids, graph=graph), there.next_token_logits(ids, graph=graph))


def experiments(here: SteerableModel, there: SteerableModel) -> Iterator[tuple[str, bool]]:
    vectors = [extract(m, TRAIT, samples=1, sampling=Sampling(6)) for m in (here, there)]
    yield "vector", same(vectors[0].directions, vectors[1].directions)
    statistics = [{name: torch.as_tensor(values) for name, values in v.statistics.items()} for v in vectors]
    yield "statistics", all(same(values.float(), statistics[1][name].float()) for name, values in statistics[0].items())
    scans = [
        scan_layers(m, v, TRAIT, [-20.0, 20.0], judge=Lengths(), sampling=Sampling(6))
        for m, v in zip((here, there), (vectors[0], vectors[0]), strict=True)
    ]
    yield "layer scores", scans[0].by_layer == scans[1].by_layer and len({point.trait for _, point in scans[0].cells}) > 1


def main(how: str, folder: Path, work: Path) -> None:
    torch.set_num_threads(1)
    with pair(how, folder, work) as (here, there, requests):
        claims: dict[str, Any] = {**dict(verbs(here, there)), **dict(experiments(here, there))}
        claims["fingerprints"] = [here.identity.fingerprint, there.identity.fingerprint]
        claims["keys"] = sorted({request["key"] for request in requests})
    sys.stdout.write(json.dumps(claims))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
