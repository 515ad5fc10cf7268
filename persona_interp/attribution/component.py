"""What writes into a residual stream: the embedding, every attention head, the biases of attention, every MLP."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from persona_interp.errors import FileFormatError, InvalidInputError

Kind: TypeAlias = Literal["embedding", "head", "bias", "mlp"]
ABLATABLE: tuple[Kind, ...] = ("head", "mlp")
"""Kinds that can be taken out: the others are the same whatever was asked, or are the tokens themselves."""

_NAMED = re.compile(r"embedding|L(\d+)(?:H(\d+)|\.(mlp|bias))")


@dataclass(frozen=True)
class Component:
    """One writer.

    Attributes:
        kind: ``embedding`` (token and position, as block 0 receives them), ``head``, ``bias`` (of attention's output), ``mlp``.
        layer: 0-based block; None for the embedding.
        head: 0-based; for heads alone.

    Raises:
        InvalidInputError: layer and head do not go with the kind.
    """

    kind: Kind
    layer: int | None = None
    head: int | None = None

    def __post_init__(self) -> None:
        if (
            self.kind not in get_args(Kind)
            or (self.layer is None) != (self.kind == "embedding")
            or (self.head is None) != (self.kind != "head")
        ):
            raise InvalidInputError(
                f"no component is a {self.kind!r} of layer {self.layer} and head {self.head}: give Component('embedding'), "
                "Component('head', layer, head), Component('bias', layer) or Component('mlp', layer)"
            )

    @property
    def name(self) -> str:
        """``embedding``, ``L3H2`` (head 2 of block 3), ``L3.bias`` or ``L3.mlp``."""
        if self.kind == "embedding":
            return "embedding"
        return f"L{self.layer}H{self.head}" if self.kind == "head" else f"L{self.layer}.{self.kind}"

    @classmethod
    def named(cls, name: str) -> Component:
        """The inverse of `name`.

        Raises:
            InvalidInputError: no component is called so.
        """
        found = _NAMED.fullmatch(name)
        if found is None:
            raise InvalidInputError(f"{name!r} names no component: they are called embedding, L3H2, L3.bias and L3.mlp")
        layer, head, kind = found.groups()
        if layer is None:
            return cls("embedding")
        return cls("head", int(layer), int(head)) if head is not None else cls("mlp" if kind == "mlp" else "bias", int(layer))

    def to_json(self) -> str:
        """Its name."""
        return self.name

    @classmethod
    def from_json(cls, data: object, *, source: str = "component") -> Component:
        """The inverse of `to_json`.

        Raises:
            FileFormatError: no component is called so.
        """
        try:
            return cls.named(str(data))
        except InvalidInputError as error:
            raise FileFormatError(f"{source}: {error}") from error

    def __str__(self) -> str:
        return self.name
