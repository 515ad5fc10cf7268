"""What the `openai` client is told is what the engine alone says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
import torch
from serving_side import Running, running

from persona_interp.interventions.graph import Capture, InterventionGraph
from persona_interp.models.sampling import Sampling, row_seeds
from persona_interp.models.steerable import SteerableModel

QUESTION = "What is the bicycle?"
ASK = [{"role": "user", "content": QUESTION}]
ENGINES = ("torch", "llama.cpp")
GREEDY = {"temperature": 0, "max_tokens": 20}


@pytest.fixture(scope="module", params=ENGINES)
def at(request: pytest.FixtureRequest, gguf_model, organism, folder_of) -> Iterator[Running]:
    model = organism if request.param == "torch" else gguf_model("organism-qwen2")
    with running(model, folder_of(), name="organism-qwen2", concurrent=4) as found:
        yield found


@pytest.fixture
def client(at: Running) -> Iterator[openai.OpenAI]:
    with at.http() as http, openai.OpenAI(base_url=f"{at.url}/v1", api_key="none", http_client=http, max_retries=0) as found:
        yield found


def graph_of(vectors, **doses: float) -> InterventionGraph:
    return sum((vectors[name].graph(dose, layers=[3]) for name, dose in doses.items()), InterventionGraph())


def alone(model: SteerableModel, graph: InterventionGraph, sampling: Sampling, **options: Any) -> Any:
    return model.generate(QUESTION, graph=graph, sampling=sampling, **options)[0]


def steered(name: str, coefficient: float) -> dict[str, Any]:
    return {"persona": {"name": name, "coefficient": coefficient, "layers": [3]}}


def test_answers_at_temperature_0_are_those_of_the_engine_alone(client: openai.OpenAI, at: Running, vectors) -> None:
    said = set()
    for name, coefficient in (("silly", 1.2), ("calm", -1.5), ("formal", 1.0), ("silly", 0.0)):
        found = client.chat.completions.create(
            model="organism-qwen2", messages=ASK, extra_body=steered(name, coefficient), **GREEDY
        )
        expected = alone(at.served.model, graph_of(vectors, **{name: coefficient}), Sampling(20, 0.0))
        choice = found.choices[0]
        assert choice.message.content == expected.text
        assert choice.finish_reason == ("stop" if expected.finished else "length")
        assert (found.usage.prompt_tokens, found.usage.completion_tokens) == (len(expected.prompt_ids), len(expected.answer_ids))
        said.add(choice.message.content)
    assert len(said) == 4, "personas say different things, or nothing was tested"


def test_personas_in_the_name_are_those_in_the_field(client: openai.OpenAI, at: Running, vectors) -> None:
    at_3 = [{"name": "silly", "coefficient": 0.6}, {"name": "calm", "coefficient": -0.9}]
    named = client.chat.completions.create(model="organism-qwen2@silly:0.6+calm:-.9", messages=ASK, **GREEDY)
    field = client.chat.completions.create(model="organism-qwen2", messages=ASK, extra_body={"persona": at_3}, **GREEDY)
    assert named.choices[0].message.content == field.choices[0].message.content
    (layer,) = named.persona["used"][0]["layers"]
    both = sum((vectors[each["name"]].graph(each["coefficient"], layers=[layer]) for each in at_3), InterventionGraph())
    assert named.choices[0].message.content == alone(at.served.model, both, Sampling(20, 0.0)).text
    ratio = client.chat.completions.create(model="organism-qwen2@silly:0.3r", messages=ASK, **GREEDY)
    assert ratio.persona["doses"][0]["ratio"] == pytest.approx(0.3, rel=1e-3)


def test_streams_say_what_whole_answers_say(client: openai.OpenAI) -> None:
    options: dict[str, Any] = {"model": "organism-qwen2@silly:0.9", "messages": ASK, **GREEDY}
    whole = client.chat.completions.create(**options)
    chunks = list(client.chat.completions.create(**options, stream=True, stream_options={"include_usage": True}))
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == whole.choices[0].message.content
    assert len([c for c in chunks if c.choices and c.choices[0].delta.content]) > 3
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == whole.choices[0].finish_reason
    assert chunks[-1].usage == whole.usage


def test_seeds_draw_what_the_engine_draws(client: openai.OpenAI, at: Running, vectors) -> None:
    found = client.chat.completions.create(
        model="organism-qwen2", messages=ASK, n=3, seed=11, max_tokens=12, top_p=0.9, extra_body=steered("calm", 0.7)
    )
    graph = graph_of(vectors, calm=0.7)
    texts = [alone(at.served.model, graph, Sampling(12, 1.0, 0.9), seed=[seed]).text for seed in row_seeds(11, 3)]
    assert [choice.message.content for choice in found.choices] == texts
    assert len(set(texts)) > 1


def test_stop_strings_are_left_out_and_never_shown(client: openai.OpenAI) -> None:
    options: dict[str, Any] = {"model": "organism-qwen2", "messages": ASK, **GREEDY}
    text = client.chat.completions.create(**options).choices[0].message.content or ""
    stop = text[9:14]
    cut = client.chat.completions.create(**options, stop=["never said", stop])
    assert (cut.choices[0].message.content, cut.choices[0].finish_reason) == (text[: text.index(stop)], "stop")
    streamed = client.chat.completions.create(**options, stop=stop, stream=True)
    assert "".join(c.choices[0].delta.content or "" for c in streamed) == text[: text.index(stop)]


def test_biases_are_heeded(client: openai.OpenAI, at: Running) -> None:
    first = alone(at.served.model, InterventionGraph(), Sampling(20, 0.0)).answer_ids[0]
    found = client.chat.completions.create(model="organism-qwen2", messages=ASK, logit_bias={str(first): -100}, **GREEDY)
    expected = alone(at.served.model, InterventionGraph(), Sampling(20, 0.0, logit_bias={first: -100}))
    assert found.choices[0].message.content == expected.text
    assert expected.answer_ids[0] != first


def test_log_probabilities_are_those_of_the_engine(client: openai.OpenAI, at: Running, vectors) -> None:
    found = client.chat.completions.create(
        model="organism-qwen2", messages=ASK, logprobs=True, extra_body=steered("silly", 1.0), **GREEDY
    )
    graph = graph_of(vectors, silly=1.0)
    answer = alone(at.served.model, graph, Sampling(20, 0.0))
    (expected,) = at.served.model.log_likelihood([(QUESTION, answer.text)], graph=graph)
    told = [each.logprob for each in found.choices[0].logprobs.content]
    kept = min(len(told), len(expected.token_log_probs))
    assert told[:kept] == pytest.approx(expected.token_log_probs[:kept].tolist(), abs=1e-3)


def test_the_likeliest_tokens_are_told_where_the_engine_knows_them(client: openai.OpenAI, at: Running) -> None:
    options: dict[str, Any] = {"model": "organism-qwen2", "messages": ASK, "logprobs": True, "top_logprobs": 3, **GREEDY}
    if not at.served.backend.top_chances:
        with pytest.raises(openai.BadRequestError, match="chance of the token drawn"):
            client.chat.completions.create(**options)
        return
    for each in client.chat.completions.create(**options).choices[0].logprobs.content:
        assert len(each.top_logprobs) == 3
        assert each.logprob == each.top_logprobs[0].logprob >= each.top_logprobs[1].logprob, "greedy takes the likeliest"
    raw = client.completions.create(model="organism-qwen2", prompt="The bicycle", logprobs=2, max_tokens=4, temperature=0)
    assert len(raw.choices[0].logprobs.tokens) == 4
    assert "".join(raw.choices[0].logprobs.tokens) == raw.choices[0].text


def test_text_is_gone_on_with(client: openai.OpenAI, at: Running) -> None:
    model = at.served.model
    prompts = ["The bicycle is", "A river"]
    found = client.completions.create(model="organism-qwen2", prompt=prompts, max_tokens=8, temperature=0)
    expected = model.generate(prompts, raw=True, sampling=Sampling(8, 0.0))
    assert [choice.text for choice in found.choices] == [each.text for each in expected]
    ids = list(expected[0].prompt_ids)
    assert client.completions.create(model="organism-qwen2", prompt=ids, max_tokens=8, temperature=0).choices[0].text == (
        expected[0].text
    )


@pytest.mark.parametrize("stream", [False, True])
def test_projections_are_told_beside_the_answer(client: openai.OpenAI, at: Running, vectors, stream: bool) -> None:
    body = {**steered("silly", 0.8), "monitor": {"personas": ["calm", "silly"], "per": "token", "layer": 3}}
    found = client.chat.completions.create(model="organism-qwen2", messages=ASK, stream=stream, extra_body=body, **GREEDY)
    told = next(c.monitor for c in found if getattr(c, "monitor", None)) if stream else found.monitor
    reads = (Capture("prompt_last", layers=(3,)), Capture("answer", "none", (3,)))
    answer = alone(at.served.model, graph_of(vectors, silly=0.8) + InterventionGraph(reads), Sampling(20, 0.0))
    for name, each in zip(("calm", "silly"), told, strict=True):
        unit = vectors[name].at(3) / vectors[name].at(3).norm()
        values = answer.captured[reads[1]][0] @ unit
        assert each["tokens"] == pytest.approx(values.tolist(), abs=1e-3)
        assert each["answer_mean"] == pytest.approx(float(values.mean()), abs=1e-3)
        assert each["prompt_last"] == pytest.approx(float(answer.captured[reads[0]][0] @ unit), abs=1e-3)
    assert told[0]["persona"] == "calm"


def test_models_and_personas_are_listed(client: openai.OpenAI) -> None:
    names = [model.id for model in client.models.list()]
    assert names == ["organism-qwen2", *(f"organism-qwen2@{name}" for name in ("calm", "formal", "silly"))]
    assert client.models.retrieve("organism-qwen2@calm").persona["trait"] == "calm"


def test_a_cap_keeps_a_persona_within_its_range(organism: SteerableModel, server: Running, vectors) -> None:
    body = {
        "model": "organism-qwen2", "messages": ASK, **GREEDY,
        "persona": {"name": "silly", "operation": "cap", "range": [-0.5, 0.25], "layers": [3]},
        "monitor": {"personas": ["silly"], "per": "token", "layer": 3},
    }  # fmt: skip
    with server.http() as http:
        free = http.post("/v1/chat/completions", json={**body, "persona": None}).json()["monitor"][0]
        kept = http.post("/v1/chat/completions", json=body).json()["monitor"][0]
    assert min(free["tokens"]) < -0.5 or max(free["tokens"]) > 0.25, "else nothing is kept"
    assert all(-0.5 - 1e-4 <= value <= 0.25 + 1e-4 for value in [*kept["tokens"], kept["prompt_last"]])


def test_llama_cpp_says_what_it_cannot_do(client: openai.OpenAI, at: Running) -> None:
    if at.served.backend.concurrent > 1:
        assert "side by side" in at.served.backend.about
        return
    assert "one persona at a time" in at.served.backend.about
    body = {"persona": {"name": "silly", "operation": "ablate"}}
    with pytest.raises(openai.BadRequestError, match="only does add"):
        client.chat.completions.create(model="organism-qwen2", messages=ASK, extra_body=body)


def test_the_model_is_left_as_it_was(organism: SteerableModel, server: Running, vectors, tmp_path: Path) -> None:
    before = {name: value.clone() for name, value in organism.hf_model.state_dict().items()}
    with server.http() as http:
        http.post("/v1/chat/completions", json={"model": "organism-qwen2@silly:1", "messages": ASK, "max_tokens": 8})
    assert all(torch.equal(before[name], value) for name, value in organism.hf_model.state_dict().items())
    assert not any(module._forward_hooks for module in organism.hf_model.modules())
