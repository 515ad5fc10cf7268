"""What steering costs in vLLM: ``python tests/benchmarks/in_vllm.py [--rounds N] [--output FILE.json]``, where vLLM is installed.

SmolLM2-135M-Instruct in float32, vLLM in this process, so that its CPU time is this process's. Rows are answered to their full
length, so that every way does the same work. Rollouts a second are those of the same texts on each engine, on the same weights.
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")

import torch
from measuring import compare

from persona_interp.interventions.graph import InterventionGraph, Write
from persona_interp.interventions.operations import Add
from persona_interp.models.registry import load_model
from persona_interp.models.sampling import Sampling
from persona_interp.models.steerable import SteerableModel
from persona_interp.provenance import provenance
from persona_interp.storage import write_json
from persona_interp.traits.catalogue import load_trait
from persona_interp.traits.conversation import Conversation

NAME = "smollm2-135m-instruct"
BARS = {"one vector for all": 1.05, "every request its own": 1.10}
ROWS, TOKENS = 16, 24
OPTIONS = {"max_model_len": 1024, "enable_prefix_caching": False}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--model", default=NAME, help="default: %(default)s")
    parser.add_argument("--output", type=Path, metavar="FILE.json")
    args = parser.parse_args()
    served = load_model(args.model, dtype="float32", engine="vllm", engine_options=OPTIONS)
    prompts = _prompts(served)

    def answer(graph: InterventionGraph) -> None:
        served.engine.generate(prompts, graph, Sampling(TOKENS, 0), [0] * ROWS, end_ids=frozenset())

    graphs = _graphs(served)
    ratios = compare(
        lambda: answer(InterventionGraph()),
        {name: lambda graph=graph: answer(graph) for name, graph in graphs.items()},
        args.rounds,
    )
    for name, ratio in ratios.items():
        print(f"steered against unsteered, {name}: CPU {ratio.cpu:.3f}, elapsed {ratio.wall:.3f}, goal {BARS[name]:.2f}")
    rates = {"vllm": _rate(served, prompts)}
    served.close()
    for engine in ("torch", "llama.cpp"):
        try:
            model = load_model(args.model, engine=engine)
        except Exception as error:  # an engine that is not installed here, or does not open the weights, is left out in words
            print(f"{engine}: not measured ({error})")
            continue
        rates[engine] = _rate(model, prompts)
        model.close()
    print("rollouts a second: " + ", ".join(f"{name} {rate:.2f}" for name, rate in rates.items()))
    if args.output is not None:
        found: dict[str, Any] = {name: {**asdict(ratio), "bar": BARS[name]} for name, ratio in ratios.items()}
        write_json(args.output, {"model": args.model, "results": found, "rollouts a second": rates, "provenance": provenance()})


def _prompts(model: SteerableModel) -> list[list[int]]:
    questions = load_trait("silly").extraction_questions
    return [list(model.chat.prompt_ids(Conversation.ask(questions[row % len(questions)]))) for row in range(ROWS)]


def _graphs(model: SteerableModel) -> dict[str, InterventionGraph]:
    """A write at one layer in the middle, at all tokens."""
    layer = model.n_layers // 2
    drawn = torch.randn(ROWS, model.d_model, generator=torch.Generator().manual_seed(0))
    return {
        "one vector for all": InterventionGraph((Write(layer, Add(drawn[0])),)),
        "every request its own": InterventionGraph(tuple(Write(layer, Add(each), rows=(row,)) for row, each in enumerate(drawn))),
    }


def _rate(model: SteerableModel, prompts: list[list[int]]) -> float:
    """Answers of `TOKENS` tokens a second, drawn at temperature 1, all rows at once; the second of two runs."""
    for _ in range(2):
        began = time.perf_counter()
        model.engine.generate(prompts, InterventionGraph(), Sampling(TOKENS), range(ROWS), end_ids=frozenset())
    return ROWS / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
