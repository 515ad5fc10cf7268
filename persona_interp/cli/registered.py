"""Names out of registries for options, looked up when they are shown or checked: the parser itself loads no model library."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any


class Names(Container[str], Iterable[str]):
    """The choices of an option. Give the option a metavar, and say ``%(choices)s`` in its help.

    Args:
        place: ``module:name`` of a registry, or of a function that gives names; ``persona_interp.`` goes before.
        more: choices beside those.
    """

    def __init__(self, place: str, *more: str) -> None:
        self._place, self._more = place, more

    def __iter__(self) -> Iterator[str]:
        module, name = self._place.split(":")
        found: Mapping[str, Any] | Callable[[], Sequence[str]] = getattr(import_module(f"persona_interp.{module}"), name)
        return iter((*(found() if callable(found) else found), *self._more))

    def __contains__(self, name: object) -> bool:
        return name in tuple(self)


class _Told:
    """Words for a help text, made when they are shown."""

    def __init__(self, words: Callable[[], str]) -> None:
        self._words = words

    def __str__(self) -> str:
        return self._words()


class _Store(argparse.Action):
    """Stores a value; ``%(told)s`` in its help is what `told` gives."""

    def __init__(self, *, told: Callable[[], str], **words: Any) -> None:
        super().__init__(**words)
        self.told = _Told(told)

    def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: str | None = None) -> None:
        setattr(namespace, self.dest, values)


def add_judge_option(parser: argparse.ArgumentParser, about: str = "who scores answers", *, default: str | None = "auto") -> None:
    """``--judge``, whose help lists every registered judge.

    Args:
        parser: of the command.
        about: what it judges, before the list.
        default: None where the command finds out by itself.
    """
    end = "" if default is None else " (default: %(default)s)"
    parser.add_argument("--judge", action=_Store, told=_judges, default=default, metavar="J", help=f"{about}: %(told)s{end}")


def _judges() -> str:
    from persona_interp.judges.kinds import JUDGES

    return "; ".join(f"{kind.form} ({kind.help})" for kind in JUDGES.values() if kind.help)


def add_vector_file(parser: argparse.ArgumentParser) -> None:
    """The positional ``FILE``, a vector in any format there is."""
    parser.add_argument("file", action=_Store, told=_endings, type=Path, metavar="FILE", help="a vector: %(told)s")


def _endings() -> str:
    return ", ".join(Names("vectors.formats:FORMATS"))
