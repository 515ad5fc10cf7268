"""The errors this package raises on purpose.

Every message says what failed, the values involved and what to do next. The command line prints the message without a
traceback and exits with code 2.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class PersonaInterpError(Exception):
    """Base of every error raised on purpose by this package."""


class InvalidInputError(PersonaInterpError, ValueError):
    """A value given by the caller cannot be used."""


class UnknownNameError(PersonaInterpError, LookupError):
    """A name is not in the registry it was looked up in."""


class IncompatibleError(PersonaInterpError):
    """Two objects do not fit each other, for example a vector and a model of another width."""


class FileFormatError(PersonaInterpError):
    """A file is missing, truncated, edited into nonsense, or of another format."""


class UnsupportedError(PersonaInterpError):
    """An engine or model cannot do what was asked, although the request makes sense elsewhere."""


class InUseError(PersonaInterpError):
    """Another process or thread is writing where this one was told to write."""


class MissingExtraError(PersonaInterpError, ImportError):
    """A feature needs an optional dependency that is not installed."""


def missing_extra(feature: str, extra: str) -> MissingExtraError:
    """The error for a feature whose optional dependency is absent; the caller raises it."""
    return MissingExtraError(f'{feature} needs an optional dependency: pip install "persona-interp[{extra}]"')


def unknown_name(kind: str, name: str, known: Iterable[str], remedy: str = "") -> UnknownNameError:
    """The error for a name no registry knows: lists what is known and what comes closest; the caller raises it."""
    names = sorted(known)
    closest = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f" Did you mean {' or '.join(repr(c) for c in closest)}?" if closest else ""
    tail = f" {remedy}" if remedy else ""
    return UnknownNameError(f"unknown {kind} {name!r}.{hint} Known: {', '.join(names) or 'none'}.{tail}")
