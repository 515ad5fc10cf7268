"""Kinds of models that have traits, a judge, anchors and wordings of their own, because they speak no ordinary language."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from persona_interp.registry import Registry
from persona_interp.traits.catalogue import load_trait, trait_names
from persona_interp.traits.conversation import Conversation
from persona_interp.traits.judging import Judge
from persona_interp.traits.trait import InstructionPair, Trait


class ModelKind(ABC):
    """What goes for all models of a kind where it is other than for models that speak a human language.

    Attributes:
        name: of the kind.
        trait_names: traits that it has texts of its own for.
    """

    name: str
    trait_names: Sequence[str] = ()

    @abstractmethod
    def covers(self, model: Any) -> bool:
        """Whether a loaded model (anything with a Hugging Face ``config``) is of this kind."""

    @abstractmethod
    def covers_name(self, name: str) -> bool:
        """Whether the model of that name, folder or file is of this kind, told without loading it."""

    @abstractmethod
    def trait(self, name: str) -> Trait:
        """One of `trait_names`, in words these models understand.

        Raises:
            UnknownNameError: there is none of that name.
        """

    @abstractmethod
    def judge(self, model: Any, trait: Trait | None) -> Judge:
        """What judge ``auto`` is for a model of this kind."""

    def anchors(self, n: int | None) -> Sequence[tuple[str, str]]:
        """Prompts and the texts after them that all models of this kind have in common; none where any text will do.

        Args:
            n: how many; None: as many as are good.
        """
        return ()

    def evaluation_instructions(self, trait: str) -> Sequence[InstructionPair]:
        """System prompts for one of `trait_names`, if need be in other wordings than vectors are extracted with."""
        return self.trait(trait).instructions

    def earlier_answers(self, trait: str, n: int) -> Sequence[Conversation]:
        """`n` questions after answers that show one of `trait_names` not at all to throughout; none where there are no such."""
        return ()


MODEL_KINDS: Registry[ModelKind] = Registry("kind of models", "persona_interp.model_kinds")
"""Name -> kind; a model that none covers speaks a human language."""


def register_model_kind(kind: ModelKind) -> ModelKind:
    """Let traits, judges and anchors be chosen by `kind` for the models it covers.

    Raises:
        InvalidInputError: the name is taken.
    """
    MODEL_KINDS.register(kind.name, kind)
    return kind


def model_kind(model: Any) -> ModelKind | None:
    """The kind of a model, given loaded or by its name, folder or file; None for an ordinary one."""
    named = isinstance(model, str)
    return next((kind for kind in MODEL_KINDS.values() if (kind.covers_name if named else kind.covers)(model)), None)


def traits_of(model: Any) -> Sequence[str]:
    """Names of the traits that `resolve_trait` gives texts for that suit `model`."""
    kind = model_kind(model)
    return tuple(trait_names()) if kind is None else tuple(kind.trait_names)


def resolve_trait(model: Any, name_or_path: Trait | str | Path) -> Trait:
    """The trait a user means for `model`: its kind's own trait of that name where it has one, else `load_trait`'s.

    The library's texts are English for real models; a model organism speaks its grammar alone. A `Trait` is given back as it is.
    Every function that takes a trait takes it in these three forms.
    """
    if isinstance(name_or_path, Trait):
        return name_or_path
    kind = model_kind(model)
    if kind is not None and str(name_or_path) in kind.trait_names:
        return kind.trait(str(name_or_path))
    return load_trait(name_or_path)
