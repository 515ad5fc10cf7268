"""`validate_on_real`: do judges tell answers that were asked for a trait from answers asked against it?"""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

from persona_interp.errors import InvalidInputError
from persona_interp.judges.cached import CachedJudge
from persona_interp.judges.calibration import SEED
from persona_interp.judges.likelihood_contrast import LikelihoodContrastJudge
from persona_interp.judges.logprob import LogprobJudge
from persona_interp.judges.measure import MEASURES
from persona_interp.judges.trial import try_out
from persona_interp.models.steerable import SteerableModel
from persona_interp.progress import say
from persona_interp.provenance import provenance
from persona_interp.studies.judges.real_answers import (
    ASKED_UNDER,
    JUDGED_UNDER,
    NEITHER,
    SAMPLING,
    AskedAnswer,
    asked_answers,
)
from persona_interp.studies.judges.real_validation import Column, Damaged, RealValidation, Scores
from persona_interp.traits.trait import Trait

_DIGITS = 4


def validate_on_real(
    model: SteerableModel, trait: Trait, *, num_prompts: int | None = None, seed: int = 0, folder: str | Path | None = None
) -> RealValidation:
    """Have a model answer for a trait, against it and unprompted, and see which judges notice.

    The evaluation questions are asked under two of the trait's five pairs of system prompts; the contrast judge reads two others.
    ``local``, the model by the rubric, is asked only if it passes `try_out`. Every measure of a trait is tried, also those the
    trait does not name; measures of coherence are tried on the unprompted answers, whole and damaged.

    What is tested is whether a judge hears what the model does when it is asked. A model that does not follow the prompt makes
    every judge look poor.

    Example:
        >>> found = validate_on_real(load_model("smollm2-135m-instruct"), load_trait("cheerful"), num_prompts=12)
        >>> found.auroc("valence"), found.auroc("length"), found.used("valence")

    Args:
        model: answers and, for ``contrast`` and ``local``, judges.
        trait: with evaluation questions.
        num_prompts: how many of them, from the first; None: all.
        seed: of the answers.
        folder: keeps answers and scores, so that a run cut short goes on where it stopped; None: a temporary one.

    Raises:
        InvalidInputError: the trait has fewer than two evaluation questions, or than `num_prompts`.
    """
    questions = trait.evaluation_questions[:num_prompts]
    if len(questions) < max(2, num_prompts or 2):
        raise InvalidInputError(
            f"trait {trait.name!r} has {len(trait.evaluation_questions)} evaluation questions: {num_prompts or 'at least 2'} are "
            "to be asked"
        )
    with tempfile.TemporaryDirectory() as temporary:
        kept = Path(temporary if folder is None else folder)
        say(f"{model.name}, {trait.name}: answers to judge")
        answers = asked_answers(model, trait, questions, kept, seed=seed)
        asked = [answer for answer in answers if answer.condition != NEITHER]
        columns, not_measured = _columns(model, trait, asked, kept)
    plain = [answer.text for answer in answers if answer.condition == NEITHER]
    return RealValidation(
        trait=trait.name,
        model=model.identity,
        questions=tuple(answer.question for answer in asked),
        conditions=tuple(answer.condition for answer in asked),
        columns=tuple(columns),
        coherence=_coherence(plain),
        not_measured=not_measured,
        provenance=provenance(
            seed=seed, sampling=SAMPLING.to_json(), asked_under=list(ASKED_UNDER), judged_under=list(JUDGED_UNDER)
        ),
    )


def _columns(model: SteerableModel, trait: Trait, asked: list[AskedAnswer], folder: Path) -> tuple[list[Column], dict[str, str]]:
    exchanges = [(answer.question, answer.text) for answer in asked]
    file = folder / "judgements.jsonl"
    contrast = CachedJudge(LikelihoodContrastJudge(model, pairs=JUDGED_UNDER), file).judge(trait, exchanges)
    columns = [Column("contrast", True, _rounded([each.trait for each in contrast]))]
    not_measured: dict[str, str] = {}
    local = CachedJudge(LogprobJudge(model), file)
    trial = try_out(local, trait)
    if trial.passed:
        columns.append(Column("local", True, _rounded([each.trait for each in local.judge(trait, exchanges)])))
    else:
        not_measured["local"] = trial.words
    for name, measure in MEASURES.items():
        if measure.target != "trait":
            continue
        if why := measure.installed():
            not_measured[name] = why
            continue
        sign = trait.measure_signs.get(name, 1)
        values = [measure.read(answer.text).value for answer in asked]
        signed = [None if value is None else sign * value for value in values]
        columns.append(Column(name, name in trait.measure_signs, _rounded(signed)))
    return columns, not_measured


def _coherence(texts: list[str]) -> tuple[Damaged, ...]:
    found: list[Damaged] = []
    for name, measure in MEASURES.items():
        if measure.damage is not None and not measure.installed():
            broken = [measure.damage(text, random.Random(f"{SEED}/{text}")) for text in texts]
            whole, damaged = (_rounded([measure.read(text).value for text in side]) for side in (texts, broken))
            found.append(Damaged(name, whole, damaged))
    return tuple(found)


def _rounded(scores: list[float | None]) -> Scores:
    return tuple(None if score is None else round(score, _DIGITS) for score in scores)
