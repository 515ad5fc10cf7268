"""The pairs of answers a vector rests on, with their texts and ids: those of an extraction, or made for the purpose."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from persona_interp.errors import FileFormatError, InvalidInputError, PersonaInterpError
from persona_interp.judges.registry import optional_judge
from persona_interp.models.sampling import Sampling
from persona_interp.models.steerable import SteerableModel
from persona_interp.progress import say
from persona_interp.storage import read_json
from persona_interp.traits.conversation import Conversation
from persona_interp.traits.judging import Judge, Judgement
from persona_interp.traits.model_kinds import resolve_trait
from persona_interp.traits.trait import Trait
from persona_interp.vectors.persona_vector import PersonaVector
from persona_interp.vectors.rollouts.collection import Collection
from persona_interp.vectors.rollouts.pairs import Selection, Thresholds, select_pairs
from persona_interp.vectors.rollouts.rollout import SIGNS, Rollout, RolloutKey, Sign, Slot
from persona_interp.vectors.rollouts.rollout_log import RolloutLog
from persona_interp.vectors.rollouts.run import Run, run_settings

GIVEN = "scores given with the rollouts"
MINIMUM_PAIRS = 8


@dataclass(frozen=True)
class Filtered:
    """What the filter made of some rollouts.

    Attributes:
        selection: the pairs that were kept.
        judgements: the scores, or None where nobody gave any and every pair was kept.
        judged_by: who gave them.
    """

    selection: Selection
    judgements: dict[RolloutKey, Judgement] | None
    judged_by: str | None


@dataclass(frozen=True)
class KeptPairs:
    """Pairs of a positive and a negative answer that passed the filter.

    Attributes:
        positive: one a pair.
        negative: likewise, in the same order.
        model: fingerprint of the model whose ids these are.
        dtype: it ran in.
        judged_by: who filtered; None: nobody.
    """

    positive: tuple[Rollout, ...]
    negative: tuple[Rollout, ...]
    model: str
    dtype: str
    judged_by: str | None

    def __len__(self) -> int:
        return len(self.positive)

    def of(self, sign: Sign) -> tuple[Rollout, ...]:
        """The answers of one sign."""
        return self.positive if sign == "positive" else self.negative

    @property
    def questions(self) -> tuple[str, ...]:
        """What was asked in each pair (of the positive answer, where given rollouts ask two questions)."""
        return tuple(rollout.conversation.question for rollout in self.positive)


def kept_pairs(folder: str | Path, vector: PersonaVector) -> KeptPairs:
    """The answers that `vector` was made from, read from the folder of its extraction; no model runs.

    Raises:
        FileFormatError: the folder holds no extraction, or is damaged.
        InvalidInputError: the vector is of another extraction, or its file does not say how it was made.
    """
    log, dtype = _opened(Path(folder), vector)
    selection, rollouts = _selection_of(log, vector)
    return _pairs(selection, rollouts, vector.model.fingerprint, dtype, vector.provenance["filter"]["judge"])


def made_pairs(
    model: SteerableModel,
    trait: Trait | str | Path,
    *,
    judge: str | Judge | None = None,
    samples: int = 1,
    questions: Sequence[str] | None = None,
    sampling: Sampling | None = None,
    seed: int = 0,
    folder: str | Path | None = None,
    thresholds: Thresholds | None = None,
    minimum_pairs: int = MINIMUM_PAIRS,
    batch_size: int | None = None,
) -> KeptPairs:
    """Have `model` answer under the positive and the negative instructions of `trait`, and keep the pairs that pass the filter.

    The arguments are those of `extract`, and so are the answers: with the settings and the `folder` of an extraction, its
    rollouts and scores are used and nothing is made again.

    Raises:
        InvalidInputError: an argument cannot be used, or `folder` holds rollouts made with other settings.
        PersonaInterpError: too few pairs were kept. What was made is kept.
    """
    trait = resolve_trait(model, trait)
    scorer = optional_judge(judge, model, trait=trait)
    asked = tuple(questions) if questions is not None else trait.extraction_questions
    check_asked(samples, asked, minimum_pairs)
    sampling = sampling or Sampling()
    settings = run_settings(model, trait, asked, sampling, seed, None)
    with Run(model, trait, settings, folder, batch_size) as run:
        keys = [RolloutKey(sign, slot) for slot in slots(trait, asked, samples) for sign in SIGNS]
        run.collection.generate(keys, asked, sampling, seed, scorer)
        wanted = set(keys)
        rollouts = {rollout.key: rollout for rollout in run.collection.log.scan() if rollout.key in wanted}
        readable = {key: rollout.readable for key, rollout in rollouts.items()}
        found = filtered(run.collection, scorer, readable, thresholds or Thresholds(), minimum_pairs)
        return _pairs(found.selection, rollouts, model.identity.fingerprint, str(model.dtype), found.judged_by)


def _pairs(
    selection: Selection, rollouts: Mapping[RolloutKey, Rollout], model: str, dtype: str, judged_by: str | None
) -> KeptPairs:
    positive, negative = (tuple(rollouts[key] for key in selection.keys(sign)) for sign in SIGNS)
    return KeptPairs(positive, negative, model, dtype, judged_by)


# -- making and filtering, as an extraction does ------------------------------------------------------------------------


def check_asked(samples: int, questions: Sequence[str], minimum_pairs: int) -> None:
    """Refuse what no pair can be made of.

    Raises:
        InvalidInputError: no samples, no pairs or no questions asked for, or an empty question.
    """
    if samples < 1:
        raise InvalidInputError(f"samples is {samples}: give at least 1 answer per instruction and question")
    if minimum_pairs < 1:
        raise InvalidInputError(f"minimum_pairs is {minimum_pairs}: a vector needs at least 1 pair")
    if not questions:
        raise InvalidInputError("there are no questions to ask: give at least one, or None for those of the trait")
    for question in questions:
        Conversation.ask(question)


def slots(trait: Trait, questions: Sequence[str], samples: int) -> list[Slot]:
    """Samples outermost: an extraction that is cut short has asked every question under every instruction about equally often."""
    return [
        Slot(instruction, question, sample)
        for sample in range(samples)
        for question in range(len(questions))
        for instruction in range(len(trait.instructions))
    ]


def filtered(
    collection: Collection, judge: Judge | None, readable: dict[RolloutKey, bool], thresholds: Thresholds, minimum_pairs: int
) -> Filtered:
    """Have what is not judged yet judged, and apply the filter.

    Args:
        collection: holds the rollouts.
        judge: None: the scores that came with them decide, if there are any.
        readable: the rollouts to choose from, and whether they have a position to read.
        thresholds: of the filter.
        minimum_pairs: fewer are an error.

    Raises:
        PersonaInterpError: fewer than `minimum_pairs` were kept.
    """
    judgements, judged_by = _judgements(collection, judge, readable)
    selection = select_pairs(readable, judgements, thresholds)
    _check_enough(selection, len(readable), minimum_pairs, collection.log.folder, judged_by)
    return Filtered(selection, judgements, judged_by)


def _judgements(
    collection: Collection, judge: Judge | None, keys: Iterable[RolloutKey]
) -> tuple[dict[RolloutKey, Judgement] | None, str | None]:
    """Scores, and who gave them; None and None where nobody did."""
    if judge is not None:
        return collection.judge_missing(judge, keys), judge.name
    found = {rollout.key: rollout.judgement for rollout in collection.log.scan() if rollout.judgement is not None}
    if found:
        return found, GIVEN
    say("no judge: every pair of rollouts is kept, whether or not it shows the trait")
    return None, None


def _check_enough(selection: Selection, n_rollouts: int, minimum: int, folder: Path, judged_by: str | None) -> None:
    if len(selection.kept) >= minimum:
        return
    reasons = "; ".join(f"{count} {reason}" for reason, count in sorted(selection.dropped.items(), key=lambda item: -item[1]))
    by = f" by judge {judged_by!r}" if judged_by else ""
    raise PersonaInterpError(
        f"only {len(selection.kept)} of {selection.pairs} pairs ({n_rollouts} rollouts) were kept{by}, {minimum} are needed. "
        f"Dropped: {reasons or 'none'}. The rollouts are in {folder}: read some, then ask for more samples or questions, "
        "lower the thresholds, use another judge, or a model that follows the instructions (or accept fewer with minimum_pairs)"
    )


# -- finding the pairs of an extraction again ---------------------------------------------------------------------------


def _opened(folder: Path, vector: PersonaVector) -> tuple[RolloutLog, str]:
    """The rollouts in the folder of the extraction that made `vector`, and the dtype its model ran in.

    Raises:
        FileFormatError: the folder holds no extraction, or is damaged.
        InvalidInputError: its rollouts are of another model or trait.
    """
    settings = read_json(folder / "settings.json", "extraction settings")
    if settings.get("model") != vector.model.fingerprint or settings.get("trait") != vector.trait:
        raise InvalidInputError(
            f"{folder} holds answers for {settings.get('trait')!r} of model {settings.get('model')!r}, the vector is of "
            f"{vector.trait!r} and {vector.model.fingerprint!r} ({vector.model.name}): give the folder it was made in"
        )
    log = RolloutLog(folder, {name: value for name, value in settings.items() if name != "format_version"})
    return log, str(settings.get("dtype"))


def _selection_of(log: RolloutLog, vector: PersonaVector) -> tuple[Selection, dict[RolloutKey, Rollout]]:
    """The pairs that were kept, found again by the filter the vector's record describes, and all its rollouts.

    Raises:
        InvalidInputError: the record does not say, or `log` keeps other pairs.
        FileFormatError: the scores cannot be told from those of another judge.
    """
    samples = vector.provenance.get("settings", {}).get("samples")
    rollouts = {rollout.key: rollout for rollout in log.scan() if samples is None or rollout.key.slot.sample < samples}
    try:
        recorded: dict[str, Any] = vector.provenance["filter"]
        n_kept, judge = vector.counts["kept_pairs"], recorded["judge"]
        thresholds = Thresholds(**recorded.get("thresholds", {}))
    except (KeyError, TypeError) as error:
        raise InvalidInputError(
            f"the vector {vector.trait!r} does not say which answers it was made from: use one that extraction made, as it is"
        ) from error
    judgements = None if judge is None else _recorded_judgements(log, rollouts.values(), judge)
    selection = select_pairs({key: rollout.readable for key, rollout in rollouts.items()}, judgements, thresholds)
    if len(selection.kept) != n_kept:
        raise InvalidInputError(
            f"{log.folder} keeps {len(selection.kept)} pairs, the vector was made from {n_kept}: it is of another extraction, or "
            "rollouts were added since; extract it again with that folder"
        )
    return selection, rollouts


def _recorded_judgements(log: RolloutLog, rollouts: Iterable[Rollout], judge: str) -> dict[RolloutKey, Judgement]:
    if judge == GIVEN:
        return {rollout.key: rollout.judgement for rollout in rollouts if rollout.judgement is not None}
    labels = [label for label in log.judges() if label.rpartition(" ")[0] == judge]
    if len(labels) != 1:
        raise FileFormatError(
            f"{log.folder} holds scores of {len(labels)} judges called {judge!r}, of which the vector used one: extract it again "
            "with that folder, or into a new one"
        )
    return log.judgements(labels[0])
