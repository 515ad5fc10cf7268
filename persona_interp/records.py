"""Frozen dataclasses as JSON values and back.

What is written follows from the fields, and what may be read from their types, so that a result says once what it is made of.

Example:
    >>> @dataclass(frozen=True)
    ... class Walk(Record):
    ...     json_kind = "walk"
    ...     json_version = 1
    ...     steps: tuple[float, ...]
    >>> Walk.from_json({"format_version": 1, "steps": [1, "far"]}, source="walk.json")
    Traceback (most recent call last):
    persona_interp.errors.FileFormatError: walk.json: field steps[1] is malformed (expected a number, found 'far')
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Mapping
from functools import cache
from types import NoneType, UnionType
from typing import Any, ClassVar, Literal, NamedTuple, TypeVar, Union, cast, get_args, get_origin

from persona_interp.errors import FileFormatError
from persona_interp.storage import check_format_version

R = TypeVar("R", bound="Record")
_SHOWN = 80  # characters of a value that an error quotes


class Record:
    """A frozen dataclass that is written as JSON values and read back; a base for it.

    Fields may be numbers, text, truth values, ``None``, literals, tuples, mappings with keys of text or whole numbers, ``Any``,
    dataclasses, and whatever has `to_json` and `from_json` itself. A truth value is no number, a whole number is one. What a
    file says beside the fields is ignored.

    Attributes:
        json_kind: what it is called in errors where the caller names no source.
        json_version: written as ``format_version`` and asked for; None: neither.
        json_names: what is written, in this order: fields, and properties that follow from them for readers without this
            package. ``*`` stands for all other fields.
        json_newer: fields that files of before may lack; they are at their defaults then.
    """

    json_kind: ClassVar[str] = "record"
    json_version: ClassVar[int | None] = None
    json_names: ClassVar[tuple[str, ...]] = ("*",)
    json_newer: ClassVar[tuple[str, ...]] = ()

    def to_json(self) -> dict[str, Any]:
        """JSON values, which `from_json` makes an equal object of."""
        version = {} if self.json_version is None else {"format_version": self.json_version}
        return {**version, **{name: json_value(value) for name, value in self.json_items().items()}}

    @classmethod
    def from_json(cls: type[R], data: Mapping[str, Any], *, source: str = "") -> R:
        """The inverse of `to_json`; what is written beside the fields is made again.

        Args:
            data: JSON values.
            source: where they are from, for errors.

        Raises:
            FileFormatError: another format version, or a field that is missing or malformed; names it.
        """
        return _record(cls, data, _Place(source or cls.json_kind, ""))

    def json_items(self) -> dict[str, Any]:
        """What is written, each under its name. For a class to override that writes something else than it holds."""
        others = [name for name in _readers(type(self)) if name not in self.json_names]
        listed = [others if name == "*" else [name] for name in self.json_names]
        return {name: getattr(self, name) for names in listed for name in names}

    @classmethod
    def json_fields(cls, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """Where the fields are in what was read. For a class to override that is written otherwise, or was once.

        Raises:
            KeyError: one is missing.
            TypeError: `data` is built otherwise.
            ValueError: likewise; says how.
        """
        return data


def json_value(value: Any) -> Any:
    """`value` as JSON values: records by `Record.to_json`, tuples as lists, keys of mappings as text."""
    if value is None or isinstance(value, str | float | int):
        return value
    if hasattr(value, "to_json"):
        return value.to_json()
    if isinstance(value, Mapping):
        return {str(key): json_value(each) for key, each in cast(Mapping[Any, Any], value).items()}
    if isinstance(value, list | tuple):
        return [json_value(each) for each in cast(tuple[Any, ...], value)]
    if dataclasses.is_dataclass(value):
        return {each.name: json_value(getattr(value, each.name)) for each in dataclasses.fields(value)}
    return value


class _Place(NamedTuple):
    """Where something was read: the source, and the way to it."""

    source: str
    path: str

    def field(self, name: str) -> _Place:
        return _Place(self.source, f"{self.path}.{name}" if self.path else name)

    def item(self, key: object) -> _Place:
        return _Place(self.source, f"{self.path}[{key}]")

    def malformed(self, reason: str) -> FileFormatError:
        where = f"field {self.path}" if self.path else "a field"
        return FileFormatError(f"{self.source}: {where} is malformed ({reason})")

    def expected(self, what: str, found: object) -> FileFormatError:
        text = repr(found)
        shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
        if not self.path:
            return FileFormatError(f"{self.source}: malformed, expected {what}, found {shown}")
        return self.malformed(f"expected {what}, found {shown}")

    def missing(self, name: object) -> FileFormatError:
        within = f" in {self.path}" if self.path else ""
        return FileFormatError(f"{self.source}: field {name!r} is missing{within}")


_Reader = Callable[[Any, _Place], Any]


@cache
def _readers(kind: type) -> Mapping[str, _Reader]:
    """What reads each field of a dataclass."""
    types = typing.get_type_hints(kind)
    return {each.name: _reader(types[each.name]) for each in dataclasses.fields(kind)}


def _record(kind: type[Any], data: Any, place: _Place) -> Any:
    """A dataclass of `data`."""
    if not isinstance(data, Mapping):
        raise place.expected("an object", data)
    found, readers = cast(Mapping[str, Any], data), _readers(kind)
    newer: tuple[str, ...] = ()
    try:
        if issubclass(kind, Record):
            if kind.json_version is not None:
                check_format_version(found, kind.json_version, f"{place.source}: {place.path}" if place.path else place.source)
            newer, found = kind.json_newer, kind.json_fields(found)
        values: dict[str, Any] = {}
        for name, read in readers.items():
            if name in found:
                values[name] = read(found[name], place.field(name))
            elif name not in newer:
                raise place.missing(name)
        return kind(**values)
    except KeyError as error:
        raise place.missing(error.args[0]) from error
    except (TypeError, ValueError, AttributeError) as error:
        raise place.malformed(str(error)) from error


def _reader(kind: Any) -> _Reader:
    """What reads values of one type."""
    if kind in _SCALARS:
        return _SCALARS[kind]
    if kind is Any or kind is object:
        return lambda value, place: value
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        return _literal(arguments)
    if origin in (Union, UnionType):
        return _optional(kind, [each for each in arguments if each is not NoneType])
    if origin is tuple:
        return _sequence(arguments)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return _mapping(*arguments)
    if isinstance(kind, type) and issubclass(kind, Record):
        return lambda value, place: _record(kind, value, place)
    if hasattr(kind, "from_json"):
        return lambda value, place: kind.from_json(value, source=f"{place.source}: {place.path}")
    if dataclasses.is_dataclass(kind):
        return lambda value, place: _record(cast(type, kind), value, place)
    raise TypeError(f"fields of type {kind} cannot be read from JSON: give their class to_json and from_json")


def _scalar(kind: type, what: str) -> _Reader:
    def read(value: Any, place: _Place) -> Any:
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise place.expected(what, value)
        return value

    return read


def _number(value: Any, place: _Place) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise place.expected("a number", value)
    return float(value)


_SCALARS: Mapping[Any, _Reader] = {
    str: _scalar(str, "text"),
    int: _scalar(int, "a whole number"),
    bool: _scalar(bool, "true or false"),
    float: _number,
}


def _literal(words: tuple[Any, ...]) -> _Reader:
    def read(value: Any, place: _Place) -> Any:
        if value not in words:
            raise place.expected(" or ".join(map(repr, words)), value)
        return value

    return read


def _optional(kind: Any, kinds: list[Any]) -> _Reader:
    if len(kinds) != 1:
        raise TypeError(f"fields of type {kind} cannot be read from JSON: only one type beside None can")
    read = _reader(kinds[0])
    return lambda value, place: None if value is None else read(value, place)


def _sequence(kinds: tuple[Any, ...]) -> _Reader:
    readers = [_reader(each) for each in kinds if each is not Ellipsis]
    fixed = Ellipsis not in kinds

    def read(value: Any, place: _Place) -> tuple[Any, ...]:
        if not isinstance(value, list | tuple):
            raise place.expected("a list", value)
        items = cast(tuple[Any, ...], value)
        if fixed and len(items) != len(readers):
            raise place.expected(f"{len(readers)} values", value)
        each = readers if fixed else readers * len(items)
        return tuple(one(item, place.item(index)) for index, (one, item) in enumerate(zip(each, items, strict=True)))

    return read


def _mapping(key: Any, kind: Any) -> _Reader:
    read_value = _reader(kind)

    def read(value: Any, place: _Place) -> dict[Any, Any]:
        if not isinstance(value, Mapping):
            raise place.expected("an object", value)
        found = cast(Mapping[Any, Any], value).items()
        return {_key(key, name, place): read_value(each, place.item(name)) for name, each in found}

    return read


def _key(kind: Any, name: Any, place: _Place) -> Any:
    """JSON has keys of text alone, so numbers are written as text."""
    if kind is not int:
        return name
    try:
        return int(name)
    except ValueError as error:
        raise place.expected("whole numbers as keys", name) from error
