"""The parser of every command: short errors that name what was probably meant, help that ends with an example."""

from __future__ import annotations

import argparse
import difflib
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from persona_interp.cli.examples import EXAMPLES

BAD_INPUT = 2

_NEGATIVE_NUMBER = re.compile(r"^-(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$")


class Parser(argparse.ArgumentParser):
    """An argument parser that takes every negative number as a value (``--coefficients -2.0 -1e-1 0 1``)."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # argparse's own pattern knows no exponents and took "-1e-1" for an option until Python 3.14
        self._negative_number_matcher = _NEGATIVE_NUMBER
        self._given: list[str] = []

    def format_help(self) -> str:
        """The help, and examples that run as they stand."""
        shown = EXAMPLES.get(self.prog.partition(" ")[2], ())
        lines = "".join(f"  {line}\n" for line in shown)
        return super().format_help() + (f"\nexample{'s' if len(shown) > 1 else ''}:\n{lines}" if shown else "")

    def error(self, message: str) -> NoReturn:
        """What is wrong in a line, and where help is; not the whole usage, which would push it off the screen."""
        if "are required" in message and (unknown := [word for word in self._given if not self._knows(word)]):
            hint = nearest(unknown[0].partition("=")[0], self._options)
            message += f". {unknown[0]} is no option{f': did you mean {hint}?' if hint else ''}"
        print(f"error: {message}\nhelp: {self.prog} --help", file=sys.stderr)
        raise SystemExit(BAD_INPUT)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """As argparse, but a command itself refuses options that it does not know: it knows what was probably meant."""
        self._given = list(sys.argv[1:] if args is None else args)
        found, extras = super().parse_known_args(args, namespace)
        if extras and not any(isinstance(action, argparse._SubParsersAction) for action in self._actions):
            hints = [hint for word in extras if word.startswith("-") and (hint := nearest(word.partition("=")[0], self._options))]
            self.error(f"unrecognized arguments: {' '.join(extras)}{f'. Did you mean {hints[0]}?' if hints else ''}")
        return found, extras

    @property
    def _options(self) -> list[str]:
        return [option for action in self._actions for option in action.option_strings if option.startswith("--")]

    def _knows(self, word: str) -> bool:
        return not word.startswith("--") or word == "--" or word.partition("=")[0] in self._options

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        known = action.choices
        if known is None or value in known:
            return
        names = [str(choice) for choice in known]
        hint = nearest(str(value), names)
        if isinstance(action, argparse._SubParsersAction):
            listed = f"see {self.prog} --help for all" if len(names) > 8 else f"there are {', '.join(names)}"
            raise argparse.ArgumentError(
                None,
                f"there is no {self.prog} {value}. {f'Did you mean {hint}? ' if hint else ''}{listed[0].upper()}{listed[1:]}",
            )
        listed = ", ".join(map(repr, names))
        raise argparse.ArgumentError(
            action, f"invalid choice: {value!r} (choose from {listed}){f'. Did you mean {hint}?' if hint else ''}"
        )


def nearest(word: str, known: Iterable[str]) -> str | None:
    """What was probably meant by a misspelt word, or by the beginning of one; None where nothing comes near."""
    names: Sequence[str] = list(known)
    begun = [name for name in names if name.startswith(word)] if len(word) > 2 else []
    found = begun or difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    return found[0] if found else None
