"""Which judges can be named, and which one a model gets where none is."""

from __future__ import annotations

from pathlib import Path
from weakref import WeakKeyDictionary

from persona_interp.errors import InvalidInputError, unknown_name
from persona_interp.judges.cached import CachedJudge
from persona_interp.judges.coherence import JoinedJudge, PerplexityCoherence
from persona_interp.judges.composed import ComposedJudge
from persona_interp.judges.garbage import guarded
from persona_interp.judges.kinds import JUDGES as JUDGES
from persona_interp.judges.kinds import NO_JUDGE as NO_JUDGE
from persona_interp.judges.kinds import register_judge as register_judge
from persona_interp.judges.likelihood_contrast import LikelihoodContrastJudge
from persona_interp.judges.logprob import LogprobJudge
from persona_interp.judges.measured import MeasureJudge
from persona_interp.judges.trial import Trial, try_out
from persona_interp.models.steerable import SteerableModel
from persona_interp.progress import say
from persona_interp.storage import home
from persona_interp.traits.judging import Judge
from persona_interp.traits.model_kinds import model_kind
from persona_interp.traits.trait import Trait

PERPLEXITY = "perplexity"
_INSTEAD = "contrast+perplexity"
_said: WeakKeyDictionary[SteerableModel, set[str]] = WeakKeyDictionary()


def default_judge(model: SteerableModel, trait: Trait | None = None) -> Judge:
    """What ``auto`` means for a model, and for a trait where it is given.

    Models of a kind of their own have their kind's (`ModelKind.judge`): an organism the exact one, or for traits its grammar does
    not know `LikelihoodContrastJudge`, because it follows no rubric. Else the model itself under the trait's rubric, unsteered
    and guarded, if it can tell twelve short texts of known scores (`try_out`); if it cannot, as models of a few hundred million
    parameters cannot, ``contrast+perplexity``, and it is said why. Without `trait` nothing is tried out.
    """
    if (kind := model_kind(model)) is not None:
        return kind.judge(model, trait)
    own = LogprobJudge(model)
    if trait is not None and not (found := _trial(own, trait)).passed:
        _say_once(
            model,
            f"{model.name} cannot judge {trait.name!r} by its rubric: {found.words}. Judge auto is {_INSTEAD} instead: how much "
            "likelier an answer is under the trait's instructions, to be compared within one model and trait only. To choose "
            "yourself: endpoint:MODEL, local:MODEL with a larger model, or local",
        )
        return guarded(JoinedJudge(LikelihoodContrastJudge(model), PerplexityCoherence(model)), model)
    return guarded(own, model)


def load_judge(
    spec: str | Judge | None,
    model: SteerableModel,
    *,
    trait: Trait | None = None,
    guard: bool | None = None,
    cache: str | Path | None = None,
) -> Judge:
    """The judge that `spec` names.

    Every function with a parameter ``judge`` takes what this takes, with the same meaning.

    Args:
        spec: ``auto`` (see `default_judge`); ``grammar``; ``local`` (the given model, unsteered) or ``local:MODEL`` (a short
            name, folder or hub id), also called ``logprob``; ``endpoint:MODEL`` (a model behind the server at
            ``OPENAI_BASE_URL``); ``contrast``, ``contrast:MODEL``; ``measure:NAME`` and ``measure`` (`MeasureJudge`);
            ``perplexity`` (coherence alone); any of them and ``+perplexity``, for the coherence of answers the judge gives none;
            several joined by plus signs (`ComposedJudge`). Or a judge, which is given back. None and ``none`` mean that nothing
            is judged, which is refused here; see `optional_judge`.
        model: the model whose answers are judged.
        trait: what it is to judge: a judge that does not know it says so now; ``auto`` chooses by it, and ``local`` warns if the
            model fails `try_out`.
        guard: whether the garbage guard of `model` stands before the judge. None: before all but ``grammar``, which is exact, and
            ``contrast`` alone, which gives no coherence at all.
        cache: a file that keeps scores, see `CachedJudge`. Those of ``endpoint`` are kept under `storage.home` in any case.

    Raises:
        UnknownNameError: no judge, or no model behind the colon, has that name; or the judge does not know the trait.
        InvalidInputError: there is to be no judge; an argument behind the colon is missing, or the judge takes none.
        MissingExtraError: the judge needs a package that is not installed.
    """
    if spec is None or spec == NO_JUDGE:
        raise InvalidInputError(
            f"judge is {spec!r}, which means that nothing is judged, but this is made of scores: give 'auto' for the judge of "
            f"{model.name}, another name ({', '.join(JUDGES)}), or a Judge"
        )
    judge = _named(spec, model, trait, guard, cache) if isinstance(spec, str) else spec
    if trait is not None:
        judge.judge(trait, [])  # one that does not know the trait says so now, not after the answers are made
    return judge


def optional_judge(spec: str | Judge | None, model: SteerableModel, *, trait: Trait | None = None) -> Judge | None:
    """`load_judge`, where nothing need be judged: None for None and for ``none``."""
    return None if spec is None or spec == NO_JUDGE else load_judge(spec, model, trait=trait)


def judge_parts(spec: str) -> tuple[str, str, bool]:
    """Kind, what stands behind its colon, and whether ``+perplexity`` is joined to it; no judge is made.

    Of several judges, those of the first.

    Raises:
        UnknownNameError: there is no such kind.
        InvalidInputError: nothing stands behind a colon.
    """
    specs = judge_specs(spec)
    return *specs[0], len(specs) > 1 and specs[-1][0] == PERPLEXITY


def judge_specs(spec: str) -> list[tuple[str, str]]:
    """(kind, what stands behind its colon) of every judge that plus signs join; no judge is made.

    What follows a plus sign and is no kind of judge belongs to what stands before it, such as the name of a model.

    Raises:
        UnknownNameError: there is no such kind.
        InvalidInputError: nothing stands behind a colon, or one judge is named twice.
    """
    first, *others = spec.split("+")
    pieces = [first]
    for piece in others:
        if piece.partition(":")[0] in JUDGES:
            pieces.append(piece)
        else:
            pieces[-1] += f"+{piece}"
    found: list[tuple[str, str]] = []
    for piece in pieces:
        kind, colon, argument = piece.partition(":")
        if kind not in JUDGES:
            raise unknown_name("judge", kind, [*JUDGES, NO_JUDGE])
        if colon and not argument.strip():
            what = "measure" if kind == "measure" else "model"
            raise InvalidInputError(f"judge {piece!r} names no {what} behind the colon: write {kind}:NAME, or {kind} alone")
        if (kind, argument) in found:
            raise InvalidInputError(f"judge {spec!r} names {piece!r} twice: name it once")
        found.append((kind, argument))
    return found


def _named(spec: str, model: SteerableModel, trait: Trait | None, guard: bool | None, cache: str | Path | None) -> Judge:
    specs = judge_specs(spec)
    joined = len(specs) == 2 and specs[1] == (PERPLEXITY, "")
    judges = [_alone(kind, argument, model, trait) for kind, argument in (specs[:1] if joined else specs)]
    if cache is not None:
        judges = [CachedJudge(judge, cache) for judge in judges]
    if joined:
        judge: Judge = JoinedJudge(judges[0], PerplexityCoherence(model))
    elif len(judges) > 1:
        judge = ComposedJudge(judges, [f"{kind}:{argument}" if argument else kind for kind, argument in specs])
    else:
        judge = judges[0]
    wanted = (joined or any(JUDGES[kind].guard for kind, _ in specs)) if guard is None else guard
    return guarded(judge, model) if wanted else judge


def _alone(kind: str, argument: str, model: SteerableModel, trait: Trait | None) -> Judge:
    judge = default_judge(model, trait) if kind == "auto" and not argument else JUDGES[kind].make(model, argument)
    if trait is not None and isinstance(judge, LogprobJudge) and not (found := _trial(judge, trait)).passed:
        _say_once(
            model,
            f"warning: {judge.name} is a poor judge of {trait.name!r}: {found.words}. Its scores may mean nothing: use auto, "
            f"{_INSTEAD}, endpoint:MODEL, or local:MODEL with a larger model",
        )
    if trait is not None and isinstance(judge, MeasureJudge):
        judge.check(trait)
    return judge


def _trial(judge: LogprobJudge, trait: Trait) -> Trial:
    """The trial, whose scores are kept: a model is tried out once for a trait."""
    return try_out(CachedJudge(judge, home() / "judgements" / "trials.jsonl"), trait)


def _say_once(model: SteerableModel, words: str) -> None:
    said = _said.setdefault(model, set())
    if words not in said:
        said.add(words)
        say(words)
