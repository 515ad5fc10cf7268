"""Which judges can be named, and which one a model gets where none is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeAlias

from persona_interp.errors import InvalidInputError, unknown_name
from persona_interp.judges.grammar import GrammarJudge
from persona_interp.judges.likelihood_contrast import LikelihoodContrastJudge
from persona_interp.judges.logprob import LogprobJudge
from persona_interp.models.registry import load_model
from persona_interp.models.steerable import SteerableModel
from persona_interp.traits.judging import Judge

JudgeFactory: TypeAlias = Callable[[SteerableModel, str], Judge]
_judges: dict[str, JudgeFactory] = {}

JUDGES: Mapping[str, JudgeFactory] = MappingProxyType(_judges)
"""Kind -> factory of (the model that answered, what stands behind the colon of the spec)."""


def register_judge(kind: str, factory: JudgeFactory) -> None:
    """Let `load_judge` know `kind`.

    Raises:
        InvalidInputError: the kind is taken, or holds a colon.
    """
    if kind in _judges:
        raise InvalidInputError(f"judge {kind!r} is already registered: choose another name")
    if ":" in kind:
        raise InvalidInputError(f"judge name {kind!r} holds a colon, which separates a judge from its argument: choose another")
    _judges[kind] = factory


def default_judge(model: SteerableModel) -> Judge:
    """The exact judge for a model organism, else the model itself as a logprob judge."""
    return GrammarJudge() if getattr(model.config, "organism", None) else LogprobJudge(model)


def load_judge(spec: str | Judge, model: SteerableModel) -> Judge:
    """The judge that `spec` names.

    Args:
        spec: ``auto`` (see `default_judge`), ``grammar``, ``logprob`` (the given model, unsteered), ``logprob:MODEL`` (a short
            name, folder or hub id), ``contrast``, ``contrast:MODEL``; or a judge, which is given back.
        model: the model whose answers are judged.

    Raises:
        UnknownNameError: no judge, or no model behind the colon, has that name.
        InvalidInputError: an argument behind the colon is missing, or the judge takes none.
    """
    if not isinstance(spec, str):
        return spec
    kind, colon, argument = spec.partition(":")
    if kind not in JUDGES:
        raise unknown_name("judge", kind, JUDGES)
    if colon and not argument.strip():
        raise InvalidInputError(f"judge {spec!r} names no model behind the colon: write {kind}:MODEL, or {kind} alone")
    return JUDGES[kind](model, argument)


def _without_argument(kind: str, make: Callable[[SteerableModel], Judge]) -> JudgeFactory:
    def factory(model: SteerableModel, argument: str) -> Judge:
        if argument:
            raise InvalidInputError(f"judge {kind!r} takes nothing behind a colon, got {argument!r}: leave it out")
        return make(model)

    return factory


register_judge("auto", _without_argument("auto", default_judge))
register_judge("grammar", _without_argument("grammar", lambda _model: GrammarJudge()))
register_judge("logprob", lambda model, name: LogprobJudge(load_model(name) if name else model))
register_judge("contrast", lambda model, name: LikelihoodContrastJudge(load_model(name) if name else model))
