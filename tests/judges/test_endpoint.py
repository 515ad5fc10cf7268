"""The endpoint judge against a real HTTP server on this machine, which misbehaves on purpose."""

from __future__ import annotations

import re
import socket
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from chat_server import Answer, Script, asked, completion, serving

from persona_interp.errors import InvalidInputError, MissingExtraError, PersonaInterpError
from persona_interp.judges.cached import CachedJudge
from persona_interp.judges.endpoint import EndpointJudge
from persona_interp.models.chat_connection import NO_KEY
from persona_interp.traits.judging import Judge, Judgement
from persona_interp.traits.trait import Trait

EXCHANGES = [("What is tea?", f"answer {number}.") for number in range(6)]
ONE = EXCHANGES[:1]


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr("persona_interp.models.chat_connection._BACK_OFF", 0.01)


def always(*answers: Answer) -> Script:
    """The answers in turn, the last of them for ever."""
    return lambda _request, number: answers[min(number, len(answers) - 1)]


def judge_at(url: str, **options: Any) -> EndpointJudge:
    settings: dict[str, Any] = {"base_url": url, "api_key": "secret", "coherence_rubric": None, **options}
    return EndpointJudge("tea-judge", **settings)


def scored(trait: Trait, script: Script, **options: Any) -> Judgement:
    with serving(script) as server:
        return judge_at(server.url, **options).judge(trait, ONE)[0]


# -- scores --------------------


def test_the_score_is_the_papers_weighted_mean_over_the_likeliest_tokens(trait: Trait) -> None:
    steps = [{"90": 0.5, " 70": 0.25, "0": 0.05, "The": 0.1, "101": 0.05, "007": 0.05}, {"<end>": 1.0}]
    found = scored(trait, always(Answer(completion("90", steps))))
    assert found.trait == pytest.approx((90 * 0.5 + 70 * 0.25) / 0.8)
    assert found.coherence is None


def test_numbers_with_less_than_a_quarter_of_the_probability_are_no_score(trait: Trait) -> None:
    refusal = [{"REF": 0.76, "85": 0.24}, {"USAL": 1.0}]
    assert scored(trait, always(Answer(completion("REFUSAL", refusal)))).trait is None
    assert scored(trait, always(Answer(completion("REFUSAL", refusal))), min_mass=0.2).trait == pytest.approx(85)


def test_digits_one_at_a_time_are_a_number_of_the_digits_written(trait: Trait) -> None:
    steps = [{"8": 0.6, "1": 0.3, "R": 0.1}, {"5": 0.5, "3": 0.25, "<end>": 0.25}, {"<end>": 0.9, "0": 0.1}]
    found = scored(trait, always(Answer(completion("85", steps))))
    # 85: .5 * .9, 83: .25 (taken to end there), 8: .25; the first digit alone would have said 5.7
    assert found.trait == pytest.approx((85 * 0.45 + 83 * 0.25 + 8 * 0.25) / 0.95)
    hundred = [{"1": 1.0}, {"0": 1.0}, {"0": 0.8, "<end>": 0.2}, {"<end>": 1.0}]
    assert scored(trait, always(Answer(completion("100", hundred)))).trait == pytest.approx(100 * 0.8 + 10 * 0.2)
    spaced = [{" ": 1.0}, {"7": 1.0}, {"<end>": 1.0}]
    assert scored(trait, always(Answer(completion(" 7", spaced)))).trait == pytest.approx(7)


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("72", 72.0),
        (" 0\n", 0.0),
        ("72.5", 72.5),
        ("**Score: 72/100**", 72.0),
        ("I would say 72 out of 100.", 72.0),
        ("<think>Is it 10? No, 20.</think>\n72", 72.0),
        ("REFUSAL", None),
        ("I must refuse to rate this. 0", None),
        ("between 60 and 80", None),
        ("172", None),
        ("-5", None),
        ("seventy", None),
        ("", None),
        (None, None),
    ],
)
def test_without_probabilities_the_number_written_is_read_and_nothing_else_is_a_score(
    trait: Trait, text: str | None, score: float | None
) -> None:
    found = scored(trait, always(Answer(completion(text))))
    assert found == Judgement(score, None)


def test_a_number_cut_off_by_the_limit_of_tokens_is_asked_for_again(trait: Trait) -> None:
    with serving(always(Answer(completion("The score is", finish="length")), Answer(completion("The score is 85")))) as server:
        judge = judge_at(server.url, concurrency=1)
        assert [each.trait for each in judge.judge(trait, EXCHANGES[:2])] == [85.0, 85.0]
        assert [request.get("logprobs") for request in server.requests] == [True, None, None]
        assert server.requests[0]["top_logprobs"] == 20
        assert server.requests[1]["max_tokens"] > server.requests[0]["max_tokens"]
        assert {request["temperature"] for request in server.requests} == {0.0}


def test_trait_and_coherence_are_asked_apart_and_answers_keep_their_order(trait: Trait) -> None:
    def script(request: dict[str, Any], _number: int) -> Answer:
        text = asked(request)
        number = int(re.findall(r"answer (\d)\.", text)[0])
        return Answer(completion(str(number + (50 if "coherent" in text else 0))), after=0.02 * (6 - number))

    with serving(script) as server:
        judge = EndpointJudge("tea-judge", base_url=server.url, api_key="secret")
        assert isinstance(judge, Judge)
        assert judge.name == "endpoint:tea-judge"
        assert judge.judge(trait, EXCHANGES) == [Judgement(float(n), float(n + 50)) for n in range(6)]
        assert judge.judge(trait, []) == []


def test_no_more_requests_are_under_way_than_allowed(trait: Trait) -> None:
    with serving(lambda _request, _number: Answer(completion("50"), after=0.05)) as server:
        judge_at(server.url, concurrency=3).judge(trait, EXCHANGES * 2)
        assert 2 <= server.most_under_way <= 3


# -- servers that know less --------------------


@pytest.mark.parametrize("status", [400, 422])
def test_options_a_server_does_not_know_are_left_out(trait: Trait, status: int) -> None:
    def script(request: dict[str, Any], _number: int) -> Answer:
        for name, words in {
            "logprobs": "logprobs are not supported",
            "temperature": "Unsupported value: 'temperature' does not support 0",
            "max_tokens": "'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
        }.items():
            if name in request:
                return Answer({"error": {"message": words}}, status)
        return Answer(completion("64"))

    with serving(script) as server:
        judge = judge_at(server.url, concurrency=1)
        assert [each.trait for each in judge.judge(trait, EXCHANGES[:3])] == [64.0] * 3
        assert len(server.requests) == 3 + 3  # learned once
        assert "max_completion_tokens" in server.requests[-1]


# -- servers in trouble --------------------


def test_a_busy_server_is_asked_again_and_its_wait_is_kept_to(trait: Trait) -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=1), usegmt=True)
    busy = [Answer("busy", 429, {"Retry-After": "0.3"}), Answer("busy", 503, {"Retry-After": soon}), Answer("oops", 500)]
    with serving(always(*busy, Answer(completion("40")))) as server:
        assert judge_at(server.url).judge(trait, ONE) == [Judgement(40.0, None)]
        assert len(server.requests) == 4
        assert server.times[1] - server.times[0] >= 0.3


def test_waits_grow(trait: Trait, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("persona_interp.models.chat_connection._BACK_OFF", 0.1)
    with serving(always(*[Answer("oops", 500)] * 3, Answer(completion("40")))) as server:
        judge_at(server.url).judge(trait, ONE)
        gaps = [later - earlier for earlier, later in zip(server.times, server.times[1:], strict=False)]
    assert gaps[0] >= 0.075
    assert gaps[1] >= 0.15
    assert gaps[2] >= 0.3


@pytest.mark.parametrize(
    ("answer", "words", "n_requests"),
    [
        (Answer("slow down", 429), r"\(status 429, 3 attempts in .* s\): slow down.* or lower the concurrency", 3),
        (Answer("slow down", 429, {"Retry-After": "4000"}), r"status 429, 1 attempt.*It asks to wait 4000 s", 1),
        (Answer({"error": {"code": "insufficient_quota"}}, 429), r"status 429, 1 attempt.*insufficient_quota", 1),
        (Answer("down for repair", 503), r"status 503.*down for repair.*look at its log, or try later", 3),
        (Answer({"error": {"message": "bad key"}}, 401), r"status 401.*bad key.*Set OPENAI_API_KEY to a key", 1),
        (Answer("no", 403), r"status 403.*The key may not use this model", 1),
        (Answer({"error": {"message": "no such model"}}, 404), r"status 404.*no such model.*Check the model's name", 1),
        (Answer({"error": {"message": "too long"}}, 413), r"status 413.*too long for this server", 1),
        (Answer("{'not': json", 200), r"status 200.*no chat completion but .*not.*OPENAI_BASE_URL", 3),
        (Answer("<html>hello</html>", 200, {"Content-Type": "text/html"}), r"status 200.*<html>.*OPENAI_BASE_URL", 3),
        (Answer({"choices": []}), r"status 200.*no choices\[0\]\.message", 3),
        (Answer({"choices": [{"message": {"content": 85}}]}), r"status 200.*content is a int", 3),
        (Answer([1, 2]), r"status 200.*a JSON list instead of an object", 3),
        (Answer({"error": "model crashed"}), r"status 200.*an error: model crashed", 3),
        (Answer(b"\xff\xfe\x00", 200), r"status 200.*no chat completion", 3),
        (Answer("{", hang_up=True), r"no status, 3 attempts.*no connection", 3),
        (Answer(completion("50"), after=0.5), r"no status.*no reply within 0.1 s.*raise the timeout", 3),
    ],
)
def test_trouble_is_an_error_that_names_server_model_status_and_remedy(
    trait: Trait, answer: Answer, words: str, n_requests: int
) -> None:
    with serving(always(answer)) as server:
        timeout = 0.1 if answer.after else 20.0
        with pytest.raises(PersonaInterpError, match=words) as raised:
            judge_at(server.url, attempts=3, timeout=timeout).judge(trait, ONE)
        assert f"the judge at {server.url}, model 'tea-judge', failed" in str(raised.value)
        assert "secret" not in str(raised.value)
        assert len(server.requests) == n_requests


def test_no_server_at_all(trait: Trait) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    with pytest.raises(PersonaInterpError, match=f"the judge at {url}.*no status, 2 attempts.*Is the server running"):
        judge_at(url, attempts=2).judge(trait, ONE)


def test_one_malformed_reply_among_good_ones_is_only_asked_for_again(trait: Trait) -> None:
    assert scored(trait, always(Answer("{"), Answer(completion("31")))) == Judgement(31.0, None)


def test_a_model_that_never_gives_a_number_is_no_judge(trait: Trait) -> None:
    with serving(always(Answer(completion("What a lovely answer!")))) as server:
        judge = judge_at(server.url, concurrency=2)
        assert judge.judge(trait, EXCHANGES) == [Judgement(None, None)] * 6  # too few to tell
        with pytest.raises(PersonaInterpError, match="replied 8 times .*without one number.*'What a lovely answer!'"):
            judge.judge(trait, EXCHANGES * 4)


def test_refusals_are_no_sign_of_that(trait: Trait) -> None:
    found = scored_many(trait, always(Answer(completion("REFUSAL"))), 20)
    assert found == [Judgement(None, None)] * 20


def test_text_among_numbers_is_a_missing_score(trait: Trait) -> None:
    texts = always(*[Answer(completion("Lovely!"))] * 5, Answer(completion("12")))
    found = scored_many(trait, texts, 20)
    assert sorted(found, key=lambda each: each.trait or -1) == [Judgement(None, None)] * 5 + [Judgement(12.0, None)] * 15


def scored_many(trait: Trait, script: Script, n: int) -> list[Judgement]:
    with serving(script) as server:
        return judge_at(server.url).judge(trait, [("q", f"a {number}") for number in range(n)])


# -- what is kept --------------------


def test_what_came_before_a_failure_is_kept(trait: Trait, tmp_path: Path) -> None:
    exchanges = [("q", f"a {number}") for number in range(30)]
    path = tmp_path / "scores.jsonl"

    def fails_late(request: dict[str, Any], number: int) -> Answer:
        return Answer("no credit", 402) if number >= 20 else Answer(completion(asked(request).rpartition(" ")[2]))

    with serving(fails_late) as server:
        judge = judge_at(server.url, concurrency=4)
        with pytest.raises(PersonaInterpError, match="status 402.*Scores that came before are kept"):
            CachedJudge(judge, path).judge(trait, exchanges)
        assert len(path.read_text().splitlines()) == 20
        assert len(server.requests) <= 24  # what was under way, and nothing after
        server.requests.clear()
        server.script = lambda request, _number: Answer(completion(asked(request).rpartition(" ")[2]))
        again = CachedJudge(judge_at(server.url), path)
        assert [each.trait for each in again.judge(trait, exchanges)] == [float(n) for n in range(30)]
        assert len(server.requests) == 10


def test_replies_of_what_proves_to_be_no_judge_are_not_kept(trait: Trait, tmp_path: Path) -> None:
    with serving(always(Answer(completion("Lovely!")))) as server:
        judge = CachedJudge(judge_at(server.url), tmp_path / "scores.jsonl")
        with pytest.raises(PersonaInterpError, match="without one number"):
            judge.judge(trait, EXCHANGES * 1 + [("q", f"a {n}") for n in range(9)])
    assert not (tmp_path / "scores.jsonl").exists()


def test_another_server_or_model_of_the_same_name_is_another_judge(trait: Trait) -> None:
    here, there = judge_at("http://localhost:1/v1/"), judge_at("http://localhost:2/v1")
    assert here.determinants(trait) != there.determinants(trait)
    assert here.determinants(trait) == judge_at("http://localhost:1/v1").determinants(trait)


# -- settings --------------------


def test_address_and_key_come_from_the_environment(
    trait: Trait, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(always(Answer(completion("5")))) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        EndpointJudge("m", coherence_rubric=None).judge(trait, ONE)
        assert server.keys[-1] == f"Bearer {NO_KEY}"
        assert "OPENAI_API_KEY is not set: a placeholder goes to" in capsys.readouterr().err
        monkeypatch.setenv("OPENAI_API_KEY", "mine")
        EndpointJudge("m", coherence_rubric=None).judge(trait, ONE)
        assert server.keys[-1] == "Bearer mine"
        assert "placeholder" not in capsys.readouterr().err


def test_the_servers_own_address_without_a_key_is_refused_before_anything_is_sent() -> None:
    with pytest.raises(InvalidInputError, match="no key for https://api.openai.com/v1: set OPENAI_API_KEY, or OPENAI_BASE_URL"):
        EndpointJudge("gpt-4.1-mini")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"concurrency": 0}, "concurrency is 0: give at least 1"),
        ({"attempts": 0}, "attempts is 0"),
        ({"timeout": 0.0}, "timeout 0"),
        ({"min_mass": 0.0}, "min_mass is 0"),
        ({"coherence_rubric": "{question}"}, r"does not contain \{answer\}"),
        ({"base_url": "localhost:8000"}, "must begin with http:// or https://"),
    ],
)
def test_bad_settings_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        judge_at("http://localhost:1/v1", **options)


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(MissingExtraError, match=r'endpoint judge needs .*pip install "persona-interp\[endpoint\]"'):
        judge_at("http://localhost:1/v1")


def test_the_guard_comes_before_the_server(trait: Trait, planted: Callable[..., Any]) -> None:
    from persona_interp.judges.garbage import GARBAGE, guarded

    with serving(always(Answer(completion("80")))) as server:
        judge = guarded(judge_at(server.url), planted(lambda _asked, _written: {}))
        assert judge.judge(trait, [("q", ""), ("q", " ... ")]) == [GARBAGE, GARBAGE]
        assert server.requests == []


# -- numbers that are not the first token --------------------


def sure(*tokens: str) -> list[dict[str, float]]:
    return [{token: 1.0} for token in tokens]


@pytest.mark.parametrize(
    "tokens",
    [
        ("**", "85", "**"),
        ("Score", ":", " ", "85"),
        ("Score", ":", " 85"),
        ("85", "/", "100"),
        ("{", '"score', '":', " ", "85", "}"),
        ('{"score":', " 85}"),
        ("<think>", "</think>", "85"),
        ("<think>", "10", " or", " 20", "?", "</think>", "\n\n", "8", "5"),
        ("It", " is", " 3", "?", "</think>", "85"),
    ],
)
def test_a_number_is_found_with_probabilities_as_without_them(trait: Trait, tokens: tuple[str, ...]) -> None:
    text = "".join(tokens)
    without = scored(trait, always(Answer(completion(text))))
    assert without.trait == 85
    assert scored(trait, always(Answer(completion(text, sure(*tokens))))).trait == pytest.approx(85)


def test_probabilities_are_those_where_the_number_begins(trait: Trait) -> None:
    steps = [{"**": 0.9, "50": 0.1}, {"80": 0.5, "90": 0.25, "x": 0.25}, {"**": 1.0}]
    found = scored(trait, always(Answer(completion("**80**", steps))))
    assert found.trait == pytest.approx((80 * 0.5 + 90 * 0.25) / 0.75)
    unsure = [{"**": 1.0}, {"80": 0.2, "x": 0.2, "y": 0.2, "z": 0.4}, {"**": 1.0}]
    assert scored(trait, always(Answer(completion("**80**", unsure)))).trait is None


def test_tokens_of_a_thought_given_apart_are_passed_over(trait: Trait) -> None:
    body = completion("85", [{"Is it": 1.0}, {" 20": 1.0}, {"? ": 1.0}, {"85": 1.0}])
    assert scored(trait, always(Answer(body))).trait == pytest.approx(85)


def test_nan_among_probabilities_leaves_the_number_written(trait: Trait) -> None:
    body = completion("85", [{"85": 0.5, "20": 0.5}])
    body["choices"][0]["logprobs"]["content"][0]["top_logprobs"][1]["logprob"] = float("nan")
    assert scored(trait, always(Answer(body))).trait == 85


def test_a_reply_cut_short_before_its_number_is_asked_for_at_greater_length(trait: Trait) -> None:
    cut = Answer(completion("The score is 8", sure("The", " score", " is", " ", "8"), finish="length"))
    whole = Answer(completion("The score is 85.", sure("The", " score", " is", " ", "8", "5", ".")))
    with serving(always(cut, whole)) as server:
        judge = judge_at(server.url, concurrency=1)
        assert [each.trait for each in judge.judge(trait, EXCHANGES[:2])] == pytest.approx([85, 85])
        assert [request["max_tokens"] for request in server.requests] == [5, 64, 64]  # learned once


def test_a_thought_is_given_room(trait: Trait) -> None:
    def script(request: dict[str, Any], _number: int) -> Answer:
        if request["max_tokens"] < 1024:
            return Answer(completion("<think>Let me see", sure("<think>", "Let", " me", " see"), finish="length"))
        return Answer(completion("<think>Let me see</think>85", sure("<think>", "Let", " me", " see", "</think>", "85")))

    assert scored(trait, script).trait == pytest.approx(85)


@pytest.mark.parametrize("apart", [False, True])
def test_a_reply_that_never_leaves_its_thought_is_told_as_such(
    trait: Trait, apart: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    body = completion(None if apart else "<think>Let me see", finish="length")
    if apart:
        body["choices"][0]["message"]["reasoning_content"] = "Let me see"
    with serving(always(Answer(body))) as server:
        judge = judge_at(server.url, concurrency=1)
        assert judge.judge(trait, ONE) == [Judgement(None, None)]
        assert "was cut short inside a thought after 1024 tokens: such a reply is a missing score" in capsys.readouterr().err
        with pytest.raises(PersonaInterpError, match="still inside a thought when its tokens were used up.*--reasoning-budget 0"):
            judge.judge(trait, EXCHANGES * 2)


# -- fewer alternatives than asked for --------------------


def test_a_server_that_names_fewer_tokens_than_asked_for_says_so(trait: Trait, capsys: pytest.CaptureFixture[str]) -> None:
    steps = [{"90": 0.5, "70": 0.2, "0": 0.1, "5": 0.1, "x": 0.1}]
    with serving(always(Answer(completion("90", steps)))) as server:
        judge_at(server.url).judge(trait, EXCHANGES)
    said = capsys.readouterr().err
    assert said.count("names 5 likeliest tokens instead of the 20 asked for") == 1


def test_a_server_with_a_lower_limit_is_asked_for_as_many_as_it_gives(trait: Trait, capsys: pytest.CaptureFixture[str]) -> None:
    def script(request: dict[str, Any], _number: int) -> Answer:
        if request.get("top_logprobs", 0) > 5:
            return Answer({"error": {"message": "top_logprobs must be at most 5"}}, 400)
        return Answer(completion("90", [{"90": 0.5, "70": 0.5, "a": 0.0001, "b": 0.0001, "c": 0.0001}]))

    with serving(script) as server:
        found = judge_at(server.url, concurrency=1).judge(trait, EXCHANGES[:2])
        assert [each.trait for each in found] == pytest.approx([80.0, 80.0])
        assert [request["top_logprobs"] for request in server.requests] == [20, 5, 5]
    assert "takes no 20 likeliest tokens: 5 are asked for" in capsys.readouterr().err


def test_a_server_without_probabilities_says_what_its_scores_are(trait: Trait, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(always(Answer(completion("90")))) as server:
        judge_at(server.url).judge(trait, EXCHANGES)
    assert capsys.readouterr().err.count("gives no probabilities: scores are the single numbers it writes") == 1
