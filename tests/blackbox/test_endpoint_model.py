"""Models behind servers: a real llama.cpp server draws as asked, and servers that misbehave are told of in words."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from chat_server import Answer, completion, serving

from persona_interp.blackbox.endpoint import EndpointModel
from persona_interp.blackbox.logit_bias import LogitBiasModulator
from persona_interp.blackbox.parameters import ParameterModulator
from persona_interp.blackbox.token_texts import read_token_texts
from persona_interp.errors import InvalidInputError, PersonaInterpError, UnsupportedError
from persona_interp.models.chat_connection import OPENAI_URL
from persona_interp.models.engines.llama_cpp.server import SERVED, llama_server
from persona_interp.models.sampling import Sampling
from persona_interp.traits.conversation import Conversation

ASKED = [Conversation.ask("Please tell me about bees."), Conversation.ask("How are you?"), Conversation.ask("Hm?")]
ONE = ASKED[:1]


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr("persona_interp.models.chat_connection._BACK_OFF", 0.01)


@pytest.fixture(scope="module")
def url(gguf_path: Callable[..., Path]) -> Iterator[str]:
    with llama_server(gguf_path("organism-qwen2")) as address:
        yield address


def endpoint(url: str, name: str | None = "tea", **options: Any) -> EndpointModel:
    return EndpointModel(url, name, **{"api_key": "secret", "attempts": 2, **options})


# -- a real server ---------------------------------------------------------------------------------


def test_the_server_says_what_the_file_says(url: str, gguf_model) -> None:
    served, local = endpoint(url, None), gguf_model("organism-qwen2")
    assert served.name == SERVED
    for sampling in (Sampling(16, 0.0), Sampling(16, 0.0, logit_bias=biases(gguf_model, url))):
        found = served.generate(ASKED, sampling=sampling)
        assert [(a.text.strip(), a.finished) for a in found] == [
            (a.text.strip(), a.finished) for a in local.generate(ASKED, sampling=sampling)
        ]


def biases(gguf_model, url: str) -> dict[int, float]:
    """Ban the first token of the greedy answer, and make another one likelier."""
    first = gguf_model("organism-qwen2").generate(ONE, sampling=Sampling(8, 0.0))[0].answer_ids
    return {first[0]: -100.0, first[2]: 2.0}


def test_biases_made_with_the_files_tokenizer_reach_the_servers_tokens(url: str, gguf_path) -> None:
    texts = read_token_texts(gguf_path("organism-qwen2"))
    (token,) = texts.ids[" bees"] if " bees" in texts.ids else texts.ids[" a"]
    modulator = LogitBiasModulator({token: 50.0}, Sampling(6, 1.0))
    (answer,) = endpoint(url).generate(ONE, sampling=modulator.sampling(2.0))
    assert answer.text.split() == [texts.by_id[token].strip()] * 6
    assert not answer.finished


def test_parameters_reach_the_server(url: str) -> None:
    served, base = endpoint(url), Sampling(24, 0.9)
    plain = served.generate(ONE, sampling=base, seed=[5])[0].text
    assert served.generate(ONE, sampling=base, seed=[5])[0].text == plain
    assert len({served.generate(ONE, sampling=base, seed=[number])[0].text for number in range(5)}) > 1
    greedy = served.generate(ONE, sampling=Sampling(24, 0.0))[0].text
    assert served.generate(ONE, sampling=Sampling(24, 1.0, top_k=1), seed=[7])[0].text == greedy
    assert served.generate(ONE, sampling=Sampling(24, 1.0, top_p=1e-6), seed=[7])[0].text == greedy
    assert served.generate(ONE, sampling=Sampling(24, 0.0, repetition_penalty=1.9))[0].text != greedy
    modulated = ParameterModulator(9.0, 0.5, base).sampling(1.0)
    assert served.generate(ONE, sampling=modulated, seed=[5])[0].text != plain


def test_the_system_prompt_and_the_order_are_kept(url: str, gguf_model) -> None:
    asked = [Conversation.ask("How are you?", system="You are a helpful assistant."), *ASKED]
    sampling, seen = Sampling(12, 0.0), []
    found = endpoint(url).generate(asked, sampling=sampling, on_generation=lambda place, answer: seen.append((place, answer)))
    expected = gguf_model("organism-qwen2").generate(asked, sampling=sampling)
    assert [answer.text.strip() for answer in found] == [answer.text.strip() for answer in expected]
    assert sorted(place for place, _ in seen) == [0, 1, 2, 3]
    assert all(found[place] is answer for place, answer in seen)


# -- what is sent ----------------------------------------------------------------------------------


def test_every_parameter_is_said_even_where_it_does_nothing() -> None:
    with serving(lambda request, number: Answer(completion("tea"))) as server:
        endpoint(server.url).generate([Conversation.ask("Tea?", system="Be brief.")], sampling=Sampling(7), seed=[2**40 + 3])
        endpoint(server.url).generate(ONE, sampling=Sampling(7, 0.5, 0.9, 20, 1.2, {3: 1.5, 4: -100.0}))
    first, second = server.requests
    assert first["messages"] == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Tea?"}]
    assert {name: first[name] for name in ("model", "max_tokens", "temperature", "top_p", "seed", "top_k", "min_p")} == {
        "model": "tea", "max_tokens": 7, "temperature": 1.0, "top_p": 1.0, "seed": 3, "top_k": 0, "min_p": 0.0
    }  # fmt: skip
    assert first["repeat_penalty"] == first["repetition_penalty"] == 1.0
    assert "logit_bias" not in first
    assert second["logit_bias"] == {"3": 1.5, "4": -100.0}
    assert (second["top_k"], second["repeat_penalty"]) == (20, 1.2)


def refusing(*fields: str) -> Callable[[dict[str, Any], int], Answer]:
    def script(request: dict[str, Any], number: int) -> Answer:
        refused = [field for field in fields if field in request]
        said = {"error": {"message": f"Unrecognized request argument supplied: {refused[:1]}"}}
        return Answer(said, 400) if refused else Answer(completion("tea"))

    return script


def test_what_a_server_refuses_is_left_out_where_it_would_do_nothing() -> None:
    with serving(refusing("top_k", "min_p", "repetition_penalty")) as server:
        model = endpoint(server.url)
        assert model.generate(ONE, sampling=Sampling(repetition_penalty=1.3))[0].text == "tea"
        assert len(server.requests) == 4
        model.generate(ONE)
        assert len(server.requests) == 5
        with pytest.raises(UnsupportedError, match="takes no top_k, here 5: use another server"):
            model.generate(ONE, sampling=Sampling(top_k=5))
    with serving(refusing("repeat_penalty", "repetition_penalty")) as server:
        with pytest.raises(UnsupportedError, match=r"takes no repetition_penalty, here 1\.3"):
            endpoint(server.url).generate(ONE, sampling=Sampling(repetition_penalty=1.3))
        assert endpoint(server.url).generate(ONE)[0].text == "tea"


def test_openai_itself_is_not_sent_what_it_does_not_know() -> None:
    model = endpoint(OPENAI_URL)
    assert model._more(Sampling()) == {}
    with pytest.raises(UnsupportedError, match="takes no repetition_penalty"):
        model._more(Sampling(repetition_penalty=1.1))


# -- servers that fail -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Answer("{", 200), r"status 200, 2 attempts.*what came is no chat completion but '\{'"),
        (Answer({"choices": []}), r"no chat completion.*no choices\[0\].message"),
        (Answer("[1]"), r"a JSON list instead of an object"),
        (Answer({"error": {"message": "on fire"}}, 500), r"status 500, 2 attempts.*on fire.*look at its log"),
        (Answer({"error": {"message": "who?"}}, 401), r"status 401, 1 attempt\).*OPENAI_API_KEY"),
        (Answer({"error": {"message": "no such model"}}, 404), r"status 404, 1 attempt\).*Check the model's name"),
        (Answer({"error": {"message": "bad logit_bias"}}, 400), r"status 400, 1 attempt\).*bad logit_bias"),
        (Answer(completion("tea"), after=0.6), r"no status, 2 attempts.*no reply within 0.2 s"),
        (Answer(completion("tea"), hang_up=True), r"no status, 2 attempts.*no connection"),
    ],
)
def test_a_server_that_fails_is_an_error_in_words(answer: Answer, said: str) -> None:
    with serving(lambda request, number: answer) as server:
        model = endpoint(server.url, timeout=0.2 if answer.after else 20.0)
        with pytest.raises(PersonaInterpError, match=f"the model at {server.url}, model 'tea', failed .*{said}"):
            model.generate(ONE)


def test_a_server_that_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    with pytest.raises(PersonaInterpError, match=r"no status, 2 attempts.*Is the server running"):
        endpoint(url).generate(ASKED)
    with pytest.raises(PersonaInterpError, match=r"no status, 2 attempts.*Is the server running"):
        endpoint(url, None)


def test_a_server_that_recovers_is_asked_again() -> None:
    with serving(lambda request, number: Answer("busy", 503) if number == 0 else Answer(completion("tea"))) as server:
        assert endpoint(server.url).generate(ONE)[0].text == "tea"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: endpoint("localhost:8000"), "must begin with http"),
        (lambda: endpoint("http://localhost:1/v1", concurrency=0), "concurrency is 0"),
        (lambda: endpoint("http://localhost:1/v1", timeout=0.0), "timeout 0"),
        (
            lambda: endpoint("http://localhost:1/v1").generate(ONE, sampling=Sampling(logit_bias={1: 101.0})),
            "a logit bias is 101: servers take -100 to 100",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(make, said) -> None:
    with pytest.raises(InvalidInputError, match=said):
        make()
