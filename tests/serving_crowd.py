"""Many clients at once, each with personas of its own, and what became of what they were told."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import httpx

from persona_interp.interventions.graph import InterventionGraph
from persona_interp.models.sampling import Sampling
from persona_interp.models.steerable import SteerableModel
from persona_interp.vectors.persona_vector import PersonaVector


@dataclass(frozen=True)
class Question:
    """A request at temperature 0, and what the engine alone answers to it."""

    body: dict[str, Any]
    expected: str


@dataclass
class Outcome:
    """What a crowd was told."""

    right: int = 0
    wrong: list[tuple[str, str]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    cut: int = 0
    first_token: list[float] = field(default_factory=list)
    tokens: int = 0
    seconds: float = 0.0


def questions(
    model: SteerableModel,
    vectors: dict[str, PersonaVector],
    texts: Sequence[str],
    *,
    n: int,
    layer: int,
    tokens: int,
) -> list[Question]:
    """Requests with a random persona, dose and place of steering each; answered one by one by the engine alone."""
    rng = random.Random(0)
    found: list[Question] = []
    for number in range(n):
        text, name = texts[number % len(texts)], rng.choice([*vectors, ""])
        dose, positions = rng.choice((-1.2, -0.6, 0.6, 1.2)), rng.choice(("all", "response", "prompt"))
        length = rng.randrange(tokens // 2, tokens + 1)
        graph, body = (
            InterventionGraph(),
            {"messages": [{"role": "user", "content": text}], "temperature": 0, "max_tokens": length},
        )
        if name:
            graph = vectors[name].graph(dose, layers=[layer], positions=positions)
            body["persona"] = {"name": name, "coefficient": dose, "layers": [layer], "positions": positions}
        body["model"] = model.name
        (answer,) = model.generate(text, graph=graph, sampling=Sampling(length, 0.0))
        found.append(Question(body, answer.text))
    return found


async def ask(client: httpx.AsyncClient, question: Question, outcome: Outcome, *, stream: bool, cut: bool = False) -> None:
    """One request, whole or streamed, or streamed and left behind after a little."""
    begin = time.monotonic()
    if not stream:
        response = await client.post("/v1/chat/completions", json=question.body)
        said = response.json()["choices"][0]["message"]["content"] if response.status_code == 200 else response.text
        outcome.tokens += response.json()["usage"]["completion_tokens"] if response.status_code == 200 else 0
    else:
        said, first = "", True
        body = {**question.body, "stream": True, "stream_options": {"include_usage": True}}
        async with client.stream("POST", "/v1/chat/completions", json=body) as response:
            async for line in response.aiter_lines():
                if not line.startswith("data: {"):
                    continue
                data = json.loads(line[6:])
                if first:
                    outcome.first_token.append(time.monotonic() - begin)
                    first = False
                    if cut:
                        outcome.cut += 1
                        return
                said += "".join(choice["delta"].get("content") or "" for choice in data.get("choices", ()))
                outcome.tokens += (data.get("usage") or {}).get("completion_tokens", 0)
    if response.status_code != 200:
        outcome.errors.append(f"{response.status_code} {said[:200]}")
    elif said == question.expected:
        outcome.right += 1
    else:
        outcome.wrong.append((said, question.expected))


async def crowd(url: str, asked: Sequence[Question], *, clients: int, seconds: float, rounds: int | None = None) -> Outcome:
    """So many clients ask at random until the time is over, or each has asked `rounds` times."""
    outcome, begin = Outcome(), time.monotonic()
    limits = httpx.Limits(max_connections=clients + 8)
    async with httpx.AsyncClient(base_url=url, timeout=300, limits=limits, trust_env=False) as client:

        async def one(number: int) -> None:
            rng = random.Random(number)
            done = 0
            while time.monotonic() - begin < seconds and (rounds is None or done < rounds):
                done += 1
                try:
                    await ask(client, rng.choice(asked), outcome, stream=rng.random() < 0.5, cut=rng.random() < 0.1)
                except httpx.HTTPError as error:
                    outcome.errors.append(f"{type(error).__name__} {error}")

        await asyncio.gather(*(one(number) for number in range(clients)))
    outcome.seconds = time.monotonic() - begin
    return outcome


def run_crowd(work: Coroutine[Any, Any, Outcome]) -> Outcome:
    """`work` to its end, in a thread of its own: a browser in the same process may keep an event loop running in this one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()
