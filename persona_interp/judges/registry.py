"""Which judges can be named, and which one a model gets where none is."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias

from persona_interp.errors import InvalidInputError, unknown_name
from persona_interp.judges.cached import CachedJudge
from persona_interp.judges.coherence import JoinedJudge, PerplexityCoherence
from persona_interp.judges.endpoint import EndpointJudge
from persona_interp.judges.garbage import guarded
from persona_interp.judges.grammar import GrammarJudge
from persona_interp.judges.likelihood_contrast import LikelihoodContrastJudge
from persona_interp.judges.logprob import LogprobJudge
from persona_interp.models.registry import load_model
from persona_interp.models.steerable import SteerableModel
from persona_interp.storage import home
from persona_interp.traits.judging import Judge

JudgeFactory: TypeAlias = Callable[[SteerableModel, str], Judge]
_judges: dict[str, JudgeFactory] = {}
_unguarded: set[str] = set()
_AND_COHERENCE = "+perplexity"

JUDGES: Mapping[str, JudgeFactory] = MappingProxyType(_judges)
"""Kind -> factory of (the model that answered, what stands behind the colon of the spec)."""


def register_judge(kind: str, factory: JudgeFactory, *, guard: bool = True) -> None:
    """Let `load_judge` know `kind`.

    Args:
        kind: what specs begin with.
        factory: of (the model that answered, what stands behind the colon).
        guard: whether `load_judge` puts the garbage guard before it where its caller leaves that open.

    Raises:
        InvalidInputError: the kind is taken, or holds a colon or a plus sign.
    """
    if kind in _judges:
        raise InvalidInputError(f"judge {kind!r} is already registered: choose another name")
    if ":" in kind or "+" in kind:
        sign = "a colon, which separates a judge from its argument" if ":" in kind else "a plus sign, which joins judges"
        raise InvalidInputError(f"judge name {kind!r} holds {sign}: choose another")
    _judges[kind] = factory
    if not guard:
        _unguarded.add(kind)


def default_judge(model: SteerableModel) -> Judge:
    """The exact judge for a model organism, else the model itself under the trait's rubric, unsteered and guarded."""
    return GrammarJudge() if getattr(model.config, "organism", None) else guarded(LogprobJudge(model), model)


def load_judge(spec: str | Judge, model: SteerableModel, *, guard: bool | None = None, cache: str | Path | None = None) -> Judge:
    """The judge that `spec` names.

    Args:
        spec: ``auto`` (see `default_judge`); ``grammar``; ``local`` (the given model, unsteered) or ``local:MODEL`` (a short
            name, folder or hub id), also called ``logprob``; ``endpoint:MODEL`` (a model behind the server at
            ``OPENAI_BASE_URL``); ``contrast``, ``contrast:MODEL``; ``perplexity`` (coherence alone); any of them and
            ``+perplexity``, for the coherence of answers the judge gives none. Or a judge, which is given back.
        model: the model whose answers are judged.
        guard: whether the garbage guard of `model` stands before the judge. None: before all but ``grammar``, which is exact, and
            ``contrast`` alone, which gives no coherence at all.
        cache: a file that keeps scores, see `CachedJudge`. Those of ``endpoint`` are kept under `storage.home` in any case.

    Raises:
        UnknownNameError: no judge, or no model behind the colon, has that name.
        InvalidInputError: an argument behind the colon is missing, or the judge takes none.
        MissingExtraError: the judge needs a package that is not installed.
    """
    if not isinstance(spec, str):
        return spec
    alone = spec.removesuffix(_AND_COHERENCE)
    joined = alone != spec
    kind, colon, argument = alone.partition(":")
    if kind not in JUDGES:
        raise unknown_name("judge", kind, JUDGES)
    if colon and not argument.strip():
        raise InvalidInputError(f"judge {spec!r} names no model behind the colon: write {kind}:MODEL, or {kind} alone")
    judge = JUDGES[kind](model, argument)
    if cache is not None:
        judge = CachedJudge(judge, cache)
    if joined:
        judge = JoinedJudge(judge, PerplexityCoherence(model))
    wanted = (joined or kind not in _unguarded) if guard is None else guard
    return guarded(judge, model) if wanted else judge


def _without_argument(kind: str, make: Callable[[SteerableModel], Judge]) -> JudgeFactory:
    def factory(model: SteerableModel, argument: str) -> Judge:
        if argument:
            raise InvalidInputError(f"judge {kind!r} takes nothing behind a colon, got {argument!r}: leave it out")
        return make(model)

    return factory


def _of_model(make: Callable[[SteerableModel], Judge]) -> JudgeFactory:
    """A judge made of the model that answered, or of the one named, which goes when the judge goes."""

    def factory(model: SteerableModel, name: str) -> Judge:
        if not name:
            return make(model)
        own = load_model(name)
        try:
            judge = make(own)
        except BaseException:
            own.close()
            raise
        weakref.finalize(judge, own.close)  # at the latest when the program ends; nobody else has this model
        return judge

    return factory


def _endpoint(_model: SteerableModel, name: str) -> Judge:
    """Kept on disk at once: these scores cost money or time on somebody's server."""
    if not name:
        raise InvalidInputError("judge 'endpoint' needs the name of a model: write endpoint:MODEL, and set OPENAI_BASE_URL")
    file = "".join(sign if sign.isalnum() or sign in "._-" else "-" for sign in name).lstrip(".") or "unnamed"
    return CachedJudge(EndpointJudge(name), home() / "judgements" / f"{file[:100]}.jsonl")


register_judge("auto", _without_argument("auto", default_judge), guard=False)
register_judge("grammar", _without_argument("grammar", lambda _model: GrammarJudge()), guard=False)
register_judge("local", _of_model(LogprobJudge))
register_judge("logprob", _of_model(LogprobJudge))
register_judge("endpoint", _endpoint)
register_judge("contrast", _of_model(LikelihoodContrastJudge), guard=False)
register_judge("perplexity", _without_argument("perplexity", PerplexityCoherence))
