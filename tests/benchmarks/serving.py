"""Time to first token and tokens a second of the server, beside plain transformers behind a lock.

``python tests/benchmarks/serving.py [--model organism-qwen2] [--clients 1 8 32] [--seconds 20]``; with ``--crowd`` many clients
ask at random instead, and every answer at temperature 0 is compared with that of the engine alone.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent.parent))
from serving_crowd import Outcome, Question, ask, crowd, questions
from serving_side import made_vector

from persona_interp.models.registry import load_model
from persona_interp.models.steerable import SteerableModel
from persona_interp.models.texts import conversations
from persona_interp.serving.server import prepare

TEXTS = ("What is the bicycle?", "Tell me about bees.", "How are you?", "Why does the river flow to the sea, do you think?")
NAMES = ("silly", "calm", "formal", "curious")


@contextmanager
def server(model: str, engine: str, folder: Path, slots: int) -> Iterator[tuple[str, int]]:
    """The command in a process of its own: its address and process id."""
    command = [sys.executable, "-m", "persona_interp", "serve", "--model", model, "--engine", engine, "--port", "0"]
    command += ["--personas", str(folder), "--batch-size", str(slots), "--dtype", "float32" if engine == "torch" else "auto"]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert running.stdout is not None
        yield running.stdout.readline().split()[2].removesuffix("/v1"), running.pid
    finally:
        running.terminate()
        running.communicate(timeout=60)


async def together(url: str, asked: Sequence[Question], clients: int, seconds: float) -> Outcome:
    """So many clients stream one answer after the other."""
    import httpx

    outcome, begin = Outcome(), time.monotonic()
    async with httpx.AsyncClient(base_url=url, timeout=600, trust_env=False, limits=httpx.Limits(max_connections=None)) as client:

        async def one(number: int) -> None:
            turn = number
            while time.monotonic() - begin < seconds:
                await ask(client, asked[turn % len(asked)], outcome, stream=True)
                turn += 1

        await asyncio.gather(*(one(number) for number in range(clients)))
    outcome.seconds = time.monotonic() - begin
    return outcome


def behind_a_lock(model: SteerableModel, asked: Sequence[Question], clients: int, seconds: float) -> Outcome:
    """What people write first: threads that take turns calling ``generate`` of the Hugging Face model, unsteered."""
    from transformers import GenerationConfig

    lock, outcome, begin = threading.Lock(), Outcome(), time.monotonic()
    settings = GenerationConfig(do_sample=False, eos_token_id=sorted(model.chat.end_ids), pad_token_id=0)

    class First:
        def __init__(self) -> None:
            self.at: float | None = None
            self._prompt = True

        def put(self, value: Any) -> None:
            if not self._prompt and self.at is None:
                self.at = time.monotonic()
            self._prompt = False

        def end(self) -> None:
            pass

    def one(number: int) -> None:
        turn = number
        while time.monotonic() - begin < seconds:
            body, arrived, first = asked[turn % len(asked)].body, time.monotonic(), First()
            turn += 1
            ids = torch.tensor([model.chat.prompt_ids(conversations([body["messages"]])[0])])
            with lock, torch.no_grad():
                found = model.hf_model.generate(
                    ids, attention_mask=torch.ones_like(ids), generation_config=settings, max_new_tokens=body["max_tokens"],
                    streamer=first,
                )  # fmt: skip
            outcome.tokens += found.shape[1] - ids.shape[1]
            outcome.first_token.append((first.at or arrived) - arrived)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    outcome.seconds = time.monotonic() - begin
    return outcome


def row(name: str, clients: int, found: Outcome) -> dict[str, Any]:
    """One line of the table."""
    slow = sorted(found.first_token)
    told = {
        "what": name,
        "clients": clients,
        "first token, median s": round(median(slow), 3),
        "first token, 95 % s": round(slow[int(0.95 * (len(slow) - 1))], 3),
        "tokens/s": round(found.tokens / found.seconds, 1),
        "wrong": len(found.wrong),
        "errors": len(found.errors),
    }
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()
    return told


def memory(pid: int) -> float:
    """MiB a process holds."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def main() -> None:
    """Read the options and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="organism-qwen2")
    parser.add_argument("--gguf", type=Path, help="the same model's file, for llama.cpp")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--slots", type=int, default=32)
    parser.add_argument("--engines", nargs="+", default=["torch", "llama.cpp", "lock"])
    parser.add_argument("--crowd", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    prepare()
    model = load_model(args.model, dtype="float32", device="cpu", engine="torch")
    layer = model.n_layers // 2
    with tempfile.TemporaryDirectory() as place:
        vectors = {name: made_vector(model, number, name) for number, name in enumerate(NAMES)}
        for name, vector in vectors.items():
            vector.save(Path(place) / f"{name}.json")
        asked = questions(model, vectors, TEXTS, n=24, layer=layer, tokens=args.tokens)
        for engine in args.engines:
            if engine == "lock":
                for clients in args.clients:
                    row("transformers behind a lock, unsteered", clients, behind_a_lock(model, asked, clients, args.seconds))
                continue
            file = args.model if engine == "torch" else str(args.gguf)
            with server(file, engine, Path(place), args.slots) as (url, pid):
                for clients in args.clients:
                    named = [Question({**each.body, "model": name_of(url)}, each.expected) for each in asked]
                    before = memory(pid)
                    if args.crowd:
                        found = asyncio.run(crowd(url, named, clients=clients, seconds=args.seconds))
                    else:
                        found = asyncio.run(together(url, named, clients, args.seconds))
                    row(engine, clients, found)
                    told = {"right": found.right, "cut": found.cut, "MiB before": round(before), "MiB after": round(memory(pid))}
                    sys.stdout.write(json.dumps(told) + "\n")
                    for wrong in (found.wrong + [(error, "") for error in found.errors])[:3]:
                        sys.stdout.write(f"  {wrong}\n")


def name_of(url: str) -> str:
    """What the server calls its model."""
    import httpx

    return httpx.get(f"{url}/v1/models", trust_env=False).json()["data"][0]["id"]


if __name__ == "__main__":
    main()
