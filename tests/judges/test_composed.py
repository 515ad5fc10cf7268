"""Judges joined by plus signs, and measures as judges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from persona_interp.errors import InvalidInputError, UnknownNameError
from persona_interp.judges import calibration, measured
from persona_interp.judges.cached import CachedJudge
from persona_interp.judges.calibration import Calibration, OwnAnswers
from persona_interp.judges.composed import ComposedJudge, calibrations
from persona_interp.judges.garbage import GuardedJudge
from persona_interp.judges.measured import MeasureJudge
from persona_interp.judges.registry import judge_specs, load_judge
from persona_interp.traits import Trait, load_trait
from persona_interp.traits.judging import Judgement, Part

SAID = "The weather is lovely today, and I am happy to walk in the sun with all of my good old friends from school."
LONG = ("How was it?", SAID)
SHORT = ("How was it?", "Fine.")


@pytest.fixture
def model(planted: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A model whose own answers are written down."""
    monkeypatch.setenv("PERSONA_INTERP_HOME", str(tmp_path))
    glad = tuple(f"{SAID} It made us laugh {n} times, and it was great fun." for n in range(20))
    sad = tuple(f"It was a terrible day, and {n} of us cried because the poor dog died in the cold rain." for n in range(20))
    plain = tuple(
        f"We went to the market and bought {n} apples for the cake that we want to bake in the oven." for n in range(20)
    )
    own = OwnAnswers(plain, glad, sad)
    monkeypatch.setattr(calibration, "own_answers", lambda _model, _trait: own)
    model = planted(lambda _asked, _written: {})
    monkeypatch.setattr(type(model), "identity", SimpleNamespace(fingerprint="f" * 64), raising=False)
    return model


@pytest.fixture
def trait() -> Trait:
    return load_trait("cheerful")


class Fixed:
    """Gives every answer the same scores."""

    def __init__(self, name: str, trait: float | None, coherence: float | None) -> None:
        self.name, self.found = name, Judgement(trait, coherence)

    def judge(self, trait: Trait, exchanges: Sequence[tuple[str, str]]) -> list[Judgement]:
        return [self.found for _ in exchanges]


def test_a_measure_scores_on_the_models_own_scale_and_says_why_it_cannot(model: Any, trait: Trait) -> None:
    judge = MeasureJudge(model, ["valence"])
    long, short = judge.judge(trait, [LONG, SHORT])
    assert (long.trait or 0) > 80
    assert long.parts == (Part("valence", long.trait, long.parts[0].value),)
    assert short.trait is None
    assert short.parts[0].score is None
    assert "fewer than 5" in short.parts[0].why
    gloomy = judge.judge(load_trait("gloomy"), [LONG])[0]
    assert gloomy.trait is not None
    assert gloomy.trait < 20


def test_without_a_name_the_measures_of_the_trait_judge(model: Any, trait: Trait) -> None:
    judge = load_judge("measure", model, trait=trait, guard=False)
    found = judge.judge(trait, [LONG])[0]
    assert [part.name for part in found.parts] == ["valence", "afinn"]
    assert found.trait == found.parts[0].score
    with pytest.raises(InvalidInputError, match="no measure speaks for the trait 'honest': list some"):
        load_judge("measure", model, trait=load_trait("honest"), guard=False)
    stranger = replace(trait, measures=("valance",))
    with pytest.raises(UnknownNameError, match="unknown measure 'valance'"):
        judge.judge(stranger, [LONG])


def test_a_measure_that_a_trait_does_not_name_is_a_column_and_no_score(
    model: Any, trait: Trait, capsys: pytest.CaptureFixture[str]
) -> None:
    judge = load_judge("measure:length+valence", model, trait=trait, guard=False)
    assert "'cheerful' does not name the measure 'length'" in capsys.readouterr().err
    found = judge.judge(trait, [LONG])[0]
    assert [part.name for part in found.parts] == ["length", "valence"]
    assert found.trait == found.parts[1].score
    other = judge.judge(load_trait("honest"), [LONG])[0]  # as an evaluation asks about another trait
    assert other.trait is None
    assert other.parts[1].value == found.parts[1].value
    assert load_judge("measure", model, guard=False).judge(load_trait("honest"), [LONG]) == [Judgement(None, None)]


def test_measures_of_trait_and_coherence_compose(model: Any, trait: Trait) -> None:
    judge = load_judge("measure:valence+measure:repetition", model, trait=trait, guard=False)
    assert isinstance(judge, ComposedJudge)
    assert judge.name == "measure:valence+measure:repetition"
    found = judge.judge(trait, [LONG])[0]
    assert [part.name for part in found.parts] == ["valence", "repetition"]
    assert (found.trait, found.coherence) == (found.parts[0].score, found.parts[1].score)
    assert found.coherence == 100
    together = load_judge("measure:valence+repetition", model, trait=trait, guard=False)
    assert together.judge(trait, [LONG])[0] == found
    assert [scale.measure for scale in calibrations(judge, trait)] == ["valence", "repetition"]
    assert isinstance(load_judge("measure:valence", model), GuardedJudge)


def test_the_first_judge_with_a_score_is_believed_and_all_have_columns(trait: Trait) -> None:
    judge = ComposedJudge([Fixed("a", None, 40.0), Fixed("b", 70.0, 90.0), Fixed("c", None, None)], ["first", "second", "third"])
    found = judge.judge(trait, [LONG])[0]
    assert (found.trait, found.coherence) == (70.0, 40.0)
    assert [(part.name, part.score) for part in found.parts] == [
        ("first coherence", 40.0), ("second", 70.0), ("second coherence", 90.0), ("third", None),
    ]  # fmt: skip
    with pytest.raises(InvalidInputError, match="two judges or more"):
        ComposedJudge([Fixed("a", 1.0, 1.0)], ["first"])


def test_columns_survive_the_cache_and_the_guard_passes_them_on(model: Any, trait: Trait, tmp_path: Path) -> None:
    judge = CachedJudge(MeasureJudge(model, ["valence", "length"]), tmp_path / "scores.jsonl")
    made = judge.judge(trait, [LONG, SHORT])
    again = CachedJudge(MeasureJudge(model, ["valence", "length"]), tmp_path / "scores.jsonl")
    assert again.judge(trait, [LONG, SHORT]) == made
    assert again.n_asked == 0
    other = CachedJudge(MeasureJudge(model, ["length", "valence"]), tmp_path / "scores.jsonl")
    assert other.judge(trait, [LONG])[0].parts[0].name == "length"
    assert calibrations(judge, trait) == MeasureJudge(model, ["valence", "length"]).calibrations(trait)


def test_a_file_of_scores_without_parts_is_still_read(trait: Trait, tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    CachedJudge(Fixed("a", 10.0, 20.0), path).judge(trait, [LONG])
    assert '"parts"' not in path.read_text(encoding="utf-8")
    assert CachedJudge(Fixed("a", 10.0, 20.0), path).judge(trait, [LONG]) == [Judgement(10.0, 20.0)]


def test_a_part_outside_the_scale_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"part 'x' score 101 is outside 0..100"):
        Judgement(None, None, (Part("x", 101),))


def test_specs_are_parted_at_plus_signs_before_a_kind_of_judge() -> None:
    assert judge_specs("measure:valence+measure:errors") == [("measure", "valence"), ("measure", "errors")]
    assert judge_specs("local:org/a+b+perplexity") == [("local", "org/a+b"), ("perplexity", "")]
    assert judge_specs("measure:valence+afinn") == [("measure", "valence+afinn")]
    with pytest.raises(UnknownNameError, match="unknown judge 'grammer"):
        judge_specs("grammer+perplexity")
    with pytest.raises(InvalidInputError, match="names 'contrast' twice"):
        judge_specs("contrast+contrast")
    with pytest.raises(InvalidInputError, match="'measure:' names no measure behind the colon"):
        judge_specs("measure:+perplexity")


def test_measures_are_refused_by_unknown_name_or_twice(model: Any) -> None:
    with pytest.raises(UnknownNameError, match="unknown measure 'valance'. Did you mean 'valence'"):
        load_judge("measure:valance", model)
    with pytest.raises(InvalidInputError, match="name each once"):
        load_judge("measure:valence+valence", model)


def test_a_missing_library_is_said_once_and_gives_no_score(
    model: Any, trait: Trait, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from persona_interp.errors import missing_extra
    from persona_interp.judges.measure import MEASURES

    def absent() -> Any:
        raise missing_extra("measure 'valence'", "measures")

    monkeypatch.setitem(MEASURES._found, "valence", replace(MEASURES["valence"], make=absent))
    measured._warn.cache_clear()
    judge = MeasureJudge(model, ["valence"])
    MeasureJudge(model, ["valence"])
    assert capsys.readouterr().err.count('pip install "persona-interp[measures]"') == 1
    (found,) = judge.judge(trait, [LONG])
    assert found.trait is None
    assert found.parts[0].score is None
    assert "persona-interp[measures]" in found.parts[0].why
    (scale,) = judge.calibrations(trait)
    assert scale.zero is None
    assert isinstance(scale, Calibration)
