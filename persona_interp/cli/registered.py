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


class _Judges:
    """The judges in words, as ``%(judges)s`` shows them."""

    def __str__(self) -> str:
        from persona_interp.judges.kinds import JUDGES

        return "; ".join(f"{kind.form} ({kind.help})" for kind in JUDGES.values() if kind.help)


class _JudgeOption(argparse.Action):
    def __init__(self, **words: Any) -> None:
        super().__init__(**words)
        self.judges = _Judges()

    def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: str | None = None) -> None:
        setattr(namespace, self.dest, values)


def add_judge_option(parser: argparse.ArgumentParser, about: str = "", *, default: str | None = "auto") -> None:
    """``--judge``, whose help lists every registered judge.

    Args:
        parser: of the command.
        about: what it judges, before the list.
        default: None where the command finds out by itself.
    """
    end = "" if default is None else " (default: %(default)s)"
    words = f"{about}: %(judges)s{end}" if about else f"who scores answers: %(judges)s{end}"
    parser.add_argument("--judge", action=_JudgeOption, default=default, metavar="J", help=words)


class _Endings:
    """The endings of vector files, as ``%(endings)s`` shows them."""

    def __str__(self) -> str:
        return ", ".join(Names("vectors.formats:FORMATS"))


class _FileArgument(argparse.Action):
    def __init__(self, **words: Any) -> None:
        super().__init__(**words)
        self.endings = _Endings()

    def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: str | None = None) -> None:
        setattr(namespace, self.dest, values)


def add_vector_file(parser: argparse.ArgumentParser) -> None:
    """The positional ``FILE``, a vector in any format there is."""
    parser.add_argument("file", action=_FileArgument, type=Path, metavar="FILE", help="a vector: %(endings)s")
