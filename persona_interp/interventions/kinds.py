"""Registries of the kinds an intervention is put together from: operations, conditions, schedules."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Generic, TypeVar, cast

from persona_interp.errors import FileFormatError, unknown_name
from persona_interp.registry import Registry


class Described(ABC):
    """Something frozen that JSON calls by its kind.

    Attributes:
        kind: its name in JSON.
    """

    kind: ClassVar[str]

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """``kind`` and its fields, exact."""

    @classmethod
    @abstractmethod
    def from_json(cls, data: Mapping[str, Any], *, source: str = "intervention") -> Any:
        """The inverse of `to_json`; raises FileFormatError naming the field."""


T = TypeVar("T", bound=Described)


class Kinds(Mapping[str, type[T]], Generic[T]):
    """Classes by their `kind`, which is how JSON names them. Entry points of ``persona_interp.operations`` and so on add to it.

    Args:
        what: what they are kinds of, for messages.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._known: Registry[type[T]] = Registry(f"{what} kind", f"persona_interp.{what}s")

    def __getitem__(self, kind: str) -> type[T]:
        return self._known[kind]

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)

    def register(self, added: type[T]) -> type[T]:
        """Add a class; usable as a class decorator.

        Raises:
            InvalidInputError: another class already has this `kind`.
        """
        self._known.register(added.kind, added, again=True)
        return added

    def from_json(self, data: object, *, source: str) -> T:
        """Rebuild an object of any registered kind.

        Raises:
            UnknownNameError: the kind is not registered.
            FileFormatError: not an object, or a field is missing or malformed.
        """
        if not isinstance(data, Mapping):
            raise FileFormatError(f"{source}: field {self._what!r} must be an object with 'kind', got {data!r}")
        fields = cast(Mapping[str, Any], data)
        kind = str(fields.get("kind"))
        if kind not in self:
            raise unknown_name(f"{self._what} kind", kind, self, f"(in {source})")
        return self[kind].from_json(fields, source=source)
