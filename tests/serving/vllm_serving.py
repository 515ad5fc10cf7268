"""The server on vLLM: the `openai` client is told what the engine alone says. Run by tests/models/engines/test_vllm.py."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from serving_crowd import crowd, questions
from serving_side import Running, made_vector, running
from vllm_models import vllm_model

from persona_interp.interventions.graph import Capture, InterventionGraph
from persona_interp.models.sampling import Sampling
from persona_interp.vectors.persona_vector import PersonaVector

TEXTS = ("What is the bicycle?", "Tell me about bees.", "How are you?", "Why does the river flow to the sea?")
ASK = [{"role": "user", "content": TEXTS[0]}]
LAYER = 2


@pytest.fixture(scope="module")
def vectors() -> dict[str, PersonaVector]:
    return {name: made_vector(vllm_model("organism-llama"), place, name) for place, name in enumerate(("silly", "calm"))}


@pytest.fixture(scope="module")
def server(vectors: dict[str, PersonaVector], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("personas")
    for name, vector in vectors.items():
        vector.save(folder / f"{name}.json")
    with running(vllm_model("organism-llama"), folder, name="organism-llama") as found:
        yield found


def test_served_clients_hear_no_other_while_personas_come_and_go(server: Running, vectors, tmp_path: Path) -> None:
    assert "vLLM" in server.served.backend.about
    model = server.served.model
    asked = questions(model, vectors, TEXTS, n=12, layer=LAYER, tokens=12)
    content = made_vector(model, 9).save(tmp_path / "v.json").read_bytes()

    async def both():
        with server.http() as http:

            async def others() -> None:
                """Uploads read the model, between the steps of what is under way."""
                for _ in range(3):
                    put = await asyncio.to_thread(http.put, "/v1/personas/passing", content=content)
                    assert put.status_code == 201, put.text
                    assert (await asyncio.to_thread(http.delete, "/v1/personas/passing")).status_code == 200

            return (await asyncio.gather(crowd(server.url, asked, clients=16, seconds=120, rounds=3), others()))[0]

    found = asyncio.run(both())
    assert (found.errors, found.wrong) == ([], [])
    assert found.right + found.cut == 48
    end = time.monotonic() + 20
    while any(server.served.backend.load().values()) and time.monotonic() < end:
        time.sleep(0.05)
    assert server.served.backend.load() == {"running": 0, "waiting": 0}


def test_served_projections_and_chances_are_the_engines_own(server: Running, vectors) -> None:
    model, graph = server.served.model, vectors["silly"].graph(0.8, layers=[LAYER])
    reads = (Capture("prompt_last", layers=(LAYER,)), Capture("answer", "none", (LAYER,)))
    sampling = Sampling(10, 0.0)
    (answer,) = model.generate(TEXTS[0], graph=graph + InterventionGraph(reads), sampling=sampling)
    body = {
        "persona": {"name": "silly", "coefficient": 0.8, "layers": [LAYER]},
        "monitor": {"personas": ["calm"], "per": "token", "layer": LAYER},
    }
    with server.http() as http:
        client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", http_client=http, max_retries=0)
        found = client.chat.completions.create(
            model="organism-llama", messages=ASK, temperature=0, max_tokens=10, logprobs=True, top_logprobs=2, extra_body=body
        )
    assert found.choices[0].message.content == answer.text
    unit = vectors["calm"].at(LAYER) / vectors["calm"].at(LAYER).norm()
    assert found.monitor[0]["tokens"] == pytest.approx((answer.captured[reads[1]][0] @ unit).tolist(), abs=1e-3)
    assert found.monitor[0]["prompt_last"] == pytest.approx(float(answer.captured[reads[0]][0] @ unit), abs=1e-3)
    (scores,) = model.log_likelihood([(TEXTS[0], answer.text)], graph=graph)
    told = [each.logprob for each in found.choices[0].logprobs.content]
    kept = min(len(told), len(scores.token_log_probs)) - 1
    assert told[:kept] == pytest.approx(scores.token_log_probs[:kept].tolist(), abs=1e-3)
    assert all(len(each.top_logprobs) == 2 for each in found.choices[0].logprobs.content)
