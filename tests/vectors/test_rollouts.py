"""Rollouts on disk: logs that survive being cut off, files people bring, and the filter of pairs."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from persona_interp.errors import FileFormatError, InvalidInputError
from persona_interp.traits.conversation import Conversation
from persona_interp.traits.judging import Judgement
from persona_interp.vectors.rollouts.pairs import Thresholds, halves_by_question, select_pairs
from persona_interp.vectors.rollouts.rollout import Rollout, RolloutKey, Slot, read_rollouts
from persona_interp.vectors.rollouts.rollout_log import RolloutLog

SETTINGS = {"model": "aaaa", "seed": 0, "sampling": {"temperature": 1.0}}


def rollout(
    question: int = 0, sign: Any = "positive", answer: str = "Hé\u2028ho\n", judgement: Judgement | None = None
) -> Rollout:
    conversation = Conversation.ask(f"Question {question}?", "Be silly.")
    return Rollout(RolloutKey(sign, Slot(1, question, 2)), conversation, answer, (1, 2), (3, 4, 5), False, "aaaa", judgement)


# -- the log -----------------------------------------------------------------------------------------------------------


def test_what_was_logged_is_read_again(tmp_path: Path) -> None:
    log = RolloutLog(tmp_path / "run", SETTINGS)
    made = [rollout(0), rollout(1), rollout(1, "negative", judgement=Judgement(80.0, None))]
    for entry in [*made, rollout(0)]:
        log.append(entry)
    again = RolloutLog(tmp_path / "run", SETTINGS)
    assert list(again.scan()) == made
    assert len(again) == 3
    assert rollout(1).key in again
    assert rollout(2).key not in again


def test_every_rollout_is_on_disk_as_soon_as_it_was_appended(tmp_path: Path) -> None:
    log = RolloutLog(tmp_path, SETTINGS)
    log.append(rollout(0))
    assert [json.loads(line)["question"] for line in log.rollouts_path.read_text().splitlines()] == [0]


@pytest.mark.parametrize("tail", ['{"sign": "posi', "nonsense", "\x00\x00"])
def test_a_line_cut_off_by_a_crash_is_dropped_and_writing_goes_on(tmp_path: Path, tail: str) -> None:
    log = RolloutLog(tmp_path, SETTINGS)
    log.append(rollout(0))
    with log.rollouts_path.open("a") as handle:
        handle.write(tail)
    again = RolloutLog(tmp_path, SETTINGS)
    again.append(rollout(1))
    assert [entry.key.slot.question for entry in RolloutLog(tmp_path, SETTINGS).scan()] == [0, 1]


def test_a_full_disk_is_one_error_and_the_log_closes_and_opens_again(tmp_path: Path) -> None:
    code = """
import resource, sys
from pathlib import Path
from persona_interp.errors import PersonaInterpError
from persona_interp.traits.conversation import Conversation
from persona_interp.vectors.rollouts.rollout_log import RolloutLog
from persona_interp.vectors.rollouts.rollout import Rollout, RolloutKey, Slot
log = RolloutLog(Path(sys.argv[1]), {})
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))  # no file may grow beyond, as on a disk that is full
try:
    for number in range(100):
        log.append(Rollout(RolloutKey("positive", Slot(0, number, 0)), Conversation.ask("Hm?"), "x" * 100))
except PersonaInterpError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert "What was made so far is kept" in done.stdout
    again = RolloutLog(tmp_path, {})
    assert 0 < len(again) < 100
    again.append(rollout(99))
    assert len(list(again.scan())) == len(again)


@pytest.mark.parametrize("damage", [b"{broken\n", b"[]\n", b"\xff\xfe\n", b'{"sign": "positive"}\n'])
def test_damage_in_the_middle_is_named_by_its_line(tmp_path: Path, damage: bytes) -> None:
    log = RolloutLog(tmp_path, SETTINGS)
    log.append(rollout(0))
    log.rollouts_path.write_bytes(damage + log.rollouts_path.read_bytes())
    with pytest.raises(FileFormatError, match=r"rollouts\.jsonl, line 1"):
        RolloutLog(tmp_path, SETTINGS)


def test_other_settings_are_refused_with_both_values_and_the_remedy(tmp_path: Path) -> None:
    RolloutLog(tmp_path, SETTINGS)
    RolloutLog(tmp_path, SETTINGS)
    with pytest.raises(InvalidInputError, match=r"seed: 0 there, 1 asked for.*another folder, or delete"):
        RolloutLog(tmp_path, {**SETTINGS, "seed": 1})
    with pytest.raises(InvalidInputError, match=r"sampling: .*1\.0.* there, .*0\.5.* asked for"):
        RolloutLog(tmp_path, {**SETTINGS, "sampling": {"temperature": 0.5}})


def test_each_judge_has_its_own_scores(tmp_path: Path) -> None:
    log = RolloutLog(tmp_path, SETTINGS)
    log.append_judgements("strict", [(rollout(0).key, Judgement(10.0, 90.0)), (rollout(1).key, Judgement(None, None))])
    log.append_judgements("kind", [(rollout(0).key, Judgement(99.0, None))])
    again = RolloutLog(tmp_path, SETTINGS)
    assert again.judgements("strict") == {rollout(0).key: Judgement(10.0, 90.0), rollout(1).key: Judgement(None, None)}
    assert again.judgements("kind") == {rollout(0).key: Judgement(99.0, None)}
    assert again.judgements("nobody") == {}


def test_each_rollout_draws_from_its_own_stream() -> None:
    keys = [
        RolloutKey(sign, Slot(i, q, s)) for sign in ("positive", "negative") for i in range(3) for q in range(3) for s in range(3)
    ]
    assert len({key.seed(0) for key in keys} | {key.seed(1) for key in keys}) == 2 * len(keys)
    assert keys[0].seed(0) == RolloutKey("positive", Slot(0, 0, 0)).seed(0)


# -- files people bring ------------------------------------------------------------------------------------------------


def lines(path: Path, *values: dict[str, Any]) -> Path:
    path.write_text("\n".join(json.dumps(value) for value in values) + "\n")
    return path


def given(prompt: str, label: str, **more: Any) -> dict[str, Any]:
    return {"prompt": prompt, "response": f"{label} answer", "label": label, **more}


def test_answers_to_one_prompt_pair_up_in_order(tmp_path: Path) -> None:
    path = lines(
        tmp_path / "r.jsonl",
        given("A?", "positive", system="Be silly."),
        given("B?", "positive"),
        given("A?", "negative"),
        given("A?", "positive", trait_score=80, coherence_score=None),
        given("A?", "negative"),
    )
    found = list(read_rollouts(path))
    assert [(entry.key.sign, entry.key.slot) for entry in found] == [
        ("positive", Slot(0, 0, 0)),
        ("positive", Slot(0, 1, 0)),
        ("negative", Slot(0, 0, 0)),
        ("positive", Slot(0, 0, 1)),
        ("negative", Slot(0, 0, 1)),
    ]
    assert (found[0].conversation.system, found[1].conversation.system) == ("Be silly.", None)
    assert found[3].judgement == Judgement(80.0, None)


def test_lines_of_different_prompts_pair_up_by_their_pair_field(tmp_path: Path) -> None:
    path = lines(tmp_path / "r.jsonl", given("Silly A?", "positive", pair="a"), given("Formal A?", "negative", pair="a"))
    assert {entry.key.slot for entry in read_rollouts(path)} == {Slot(0, 0, 0)}


def test_our_own_log_is_such_a_file(tmp_path: Path) -> None:
    made = [rollout(0), rollout(0, "negative")]
    assert list(read_rollouts(lines(tmp_path / "r.jsonl", *(entry.to_json() for entry in made)))) == made


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"prompt": "A?", "label": "positive"}, "entry 2 has no field 'response'"),
        (given("A?", "good"), "entry 2: field 'label' is 'good': use 'positive' or 'negative'"),
        (given("  ", "positive"), "entry 2: the prompt is empty"),
        ({**given("A?", "positive"), "response": 5}, "entry 2: field 'response' is a int"),
        (given("A?", "positive", trait_score="high"), "entry 2: field 'trait_score' is 'high'"),
        (given("A?", "positive", trait_score=101), "entry 2: trait score 101.0 is outside"),
        ({**rollout().to_json(), "sample": -1}, "entry 2: field 'sample' holds -1"),
        ({"sign": "positive"}, "entry 2 has no field 'instruction'"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, value: dict[str, Any], message: str) -> None:
    with pytest.raises(FileFormatError, match=message):
        list(read_rollouts(lines(tmp_path / "r.jsonl", given("A?", "positive"), value)))


def test_an_empty_file_is_said_to_be_empty(tmp_path: Path) -> None:
    (tmp_path / "r.jsonl").write_text("\n")
    with pytest.raises(FileFormatError, match="is empty"):
        list(read_rollouts(tmp_path / "r.jsonl"))


# -- the filter --------------------------------------------------------------------------------------------------------


def judged(*rows: tuple[Judgement, Judgement]) -> tuple[dict[RolloutKey, bool], dict[RolloutKey, Judgement]]:
    scores = {}
    for question, (positive, negative) in enumerate(rows):
        scores[RolloutKey("positive", Slot(0, question, 0))] = positive
        scores[RolloutKey("negative", Slot(0, question, 0))] = negative
    return dict.fromkeys(scores, True), scores


def test_a_pair_is_kept_where_both_answers_show_what_they_should() -> None:
    readable, scores = judged(
        (Judgement(50.0, 50.0), Judgement(49.9, 50.0)),  # exactly at the thresholds
        (Judgement(49.9, 99.0), Judgement(0.0, 99.0)),
        (Judgement(99.0, 99.0), Judgement(50.0, 99.0)),
        (Judgement(99.0, 49.9), Judgement(0.0, 99.0)),
        (Judgement(99.0, 99.0), Judgement(0.0, 49.9)),
        (Judgement(None, 99.0), Judgement(0.0, 99.0)),
        (Judgement(99.0, None), Judgement(0.0, 99.0)),
    )
    found = select_pairs(readable, scores, Thresholds())
    assert [slot.question for slot in found.kept] == [0]
    assert found.dropped == {
        "positive answer scored below 50": 1,
        "negative answer scored 50 or more": 1,
        "coherence below 50": 2,
        "no usable trait score": 1,
        "no usable coherence score": 1,
    }
    assert found.pairs == 7 == len(found.kept) + sum(found.dropped.values())


def test_a_judge_that_never_scores_coherence_filters_by_trait_alone() -> None:
    readable, scores = judged((Judgement(99.0, None), Judgement(0.0, None)), (Judgement(9.0, None), Judgement(0.0, None)))
    found = select_pairs(readable, scores, Thresholds())
    assert len(found.kept) == 1
    assert not found.coherence_judged


def test_without_a_judge_only_pairs_that_cannot_be_read_fall() -> None:
    readable, _ = judged(*[(Judgement(0.0, 0.0), Judgement(99.0, 0.0))] * 3)
    readable[RolloutKey("positive", Slot(0, 1, 0))] = False
    del readable[RolloutKey("negative", Slot(0, 2, 0))]
    found = select_pairs(readable, None, Thresholds())
    assert [slot.question for slot in found.kept] == [0]
    assert found.dropped == {"an answer without a token to read": 1, "no partner of the other sign": 1}


def test_thresholds_can_be_moved_within_the_scale() -> None:
    readable, scores = judged((Judgement(30.0, 90.0), Judgement(10.0, 90.0)))
    assert select_pairs(readable, scores, Thresholds(positive=20)).kept
    with pytest.raises(InvalidInputError, match="negative threshold is 120"):
        replace(Thresholds(), negative=120)


def test_halves_never_share_a_question() -> None:
    asked = [(f"{q}?", f"{q}?") for q in (3, 4, 9) for _ in range(4)]
    halves = halves_by_question(asked)
    by_half = [{pair[0] for pair, half in zip(asked, halves, strict=True) if half == side} for side in (0, 1)]
    assert by_half == [{"3?", "9?"}, {"4?"}]
    assert halves_by_question([("5?", "5?"), ("5?", "5?")]) == (0, 0)
    assert halves_by_question([]) == ()


def test_pairs_of_two_questions_stay_with_every_pair_that_shares_one_of_them() -> None:
    chained = [("a", "x"), ("b", "y"), ("c", "z"), ("b", "x")]  # the last ties the first two together
    assert halves_by_question(chained) == (0, 0, 1, 0)
