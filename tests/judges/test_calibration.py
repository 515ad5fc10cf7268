"""The scale of a measure is read off a model's own answers, and there is none where they do not differ."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from persona_interp.judges.calibration import Calibration, OwnAnswers, calibrate, calibration_of, own_answers
from persona_interp.judges.measure import MEASURES, Measure
from persona_interp.models.sampling import Sampling
from persona_interp.models.steerable import SteerableModel
from persona_interp.traits import Trait, load_trait

COUNTED = Measure(
    "length", "how long", "words", 0, 1000, 0, lambda: lambda text: float(len(text.split())), source="own", english=False
)


def words(*lengths: int) -> tuple[str, ...]:
    return tuple("word " * length for length in lengths)


@pytest.fixture
def model(planted: Any) -> Any:
    return planted(lambda _asked, _written: {})


@pytest.fixture
def verbose() -> Trait:
    return load_trait("verbose")


def test_zero_and_hundred_are_as_far_as_the_model_goes(verbose: Trait, model: Any) -> None:
    own = OwnAnswers(words(*range(40, 60)), words(*range(81, 101)), words(*range(1, 21)))
    scale = calibrate(COUNTED, model, verbose, own)
    assert (scale.unsteered, scale.asked_for, scale.asked_against) == (49.5, 90.5, 10.5)
    assert (scale.zero, scale.hundred) == pytest.approx((3.95, 97.05))
    assert scale.score(1000) == 100
    assert scale.score(0) == 0
    assert 45 < (scale.score(50) or 0) < 55


def test_low_values_speak_for_a_trait_that_says_so(verbose: Trait, model: Any) -> None:
    own = OwnAnswers(words(*range(40, 60)), words(*range(1, 21)), words(*range(81, 101)))
    scale = calibrate(COUNTED, model, replace(verbose, measures=("-length",)), own)
    assert (scale.score(1), scale.score(100)) == (100, 0)


def test_rare_words_are_scaled_by_the_extremes(verbose: Trait, model: Any) -> None:
    own = OwnAnswers(words(*[0] * 20), words(*[0] * 19, 7), words(*[0] * 20))
    scale = calibrate(COUNTED, model, verbose, own)
    assert (scale.zero, scale.hundred, scale.why) == (0, 7, "")


def test_there_is_no_scale_where_all_answers_are_alike_or_few(verbose: Trait, model: Any) -> None:
    alike = calibrate(COUNTED, model, verbose, OwnAnswers(words(*[5] * 20), words(*[5] * 20), words(*[5] * 20)))
    assert alike.score(5) is None
    assert "all answers of planted, prompted or not, have the length 5" in alike.why
    few = calibrate(MEASURES["valence"], model, verbose, OwnAnswers(words(1), words(1), words(1)))
    assert few.score(0.5) is None
    assert "only 0 of the answers of planted" in few.why


def test_coherence_is_scaled_between_whole_and_damaged_answers(verbose: Trait, model: Any) -> None:
    texts = tuple(
        f"The cat number {n} sat down on the mat. Then it saw a bird with {n} wings and ran away at once." for n in range(20)
    )
    scale = calibrate(MEASURES["repetition"], model, verbose, OwnAnswers(texts, (), ()))
    assert scale.score(0.0) == 100
    assert scale.score(1.0) == 0
    blind = replace(MEASURES["repetition"], damage=lambda text, _rng: text)
    said = calibrate(blind, model, verbose, OwnAnswers(texts, (), ()))
    assert said.score(0.0) is None
    assert "cannot tell the answers of planted from the same answers damaged" in said.why


def test_a_calibration_reads_back() -> None:
    scale = Calibration("length", "verbose", "tiny", 1.0, 9.0, 4.0, None, 2.0, 12)
    assert Calibration.from_json(scale.to_json()) == scale


@pytest.mark.slow
def test_a_models_answers_are_made_once_and_its_scales_are_kept(
    verbose: Trait, tiny_model: Callable[[str], SteerableModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERSONA_INTERP_HOME", str(tmp_path))
    monkeypatch.setattr("persona_interp.judges.calibration.SAMPLING", Sampling(max_new_tokens=8))
    model = tiny_model("qwen2")
    trait = replace(verbose, extraction_questions=verbose.extraction_questions[:4], evaluation_questions=())
    found = calibration_of(MEASURES["length"], model, trait)
    assert own_answers(model, trait) is own_answers(model, trait)
    assert len(own_answers(model, trait).asked_for) == 4

    def no_more(*_: object, **__: object) -> None:
        raise AssertionError("made again")

    monkeypatch.setattr("persona_interp.judges.calibration.own_answers", no_more)
    assert calibration_of(MEASURES["length"], model, trait) == found
