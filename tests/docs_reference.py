"""The generated pages of the documentation: ``python tests/docs_reference.py`` writes docs/reference/cli.md and api.md."""

from __future__ import annotations

import argparse
import ast
import html
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import persona_interp
from persona_interp.cli import build_parser
from persona_interp.cli.entry import GROUPS
from persona_interp.cli.examples import EXAMPLES

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "docs" / "reference"

_CLI = """# Command line

Every command and option, written by `python tests/docs_reference.py` from the parsers themselves; `persona-interp COMMAND --help`
says the same in your terminal. The examples of a page run in this order, in an empty folder.

A layer is the 0-based index of a block. A coefficient multiplies the vector as it is; a ratio is the size of the push as a share
of the residual stream ([concepts](../concepts.md)). Input that cannot be used ends with one or two lines on standard error and
exit code 2, and leaves no half-written file. Ctrl-C keeps what was made and says how to go on (exit code 130).

Completion in bash and zsh: `pip install "persona-interp[completion]"`, then
`eval "$(register-python-argcomplete persona-interp)"`."""

SHARED = {"model": "Options of a model", "sampling": "Options of sampling", "running": "Options of every command"}
"""Groups of options that many commands share, each listed once."""
_SHARES_ALL = "apply-steering"
"""A command that has all of them."""

_API = """# Python

The names that `import persona_interp as pi` gives, in about the order a newcomer meets them. Each is loaded on first use.
Written by `python tests/docs_reference.py`.
"""


def subparsers(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser, str]]:
    """Name, parser and one-line help of each command under one."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for choice in action._choices_actions:
                yield str(choice.dest), action.choices[choice.dest], str(choice.help)


def command_line() -> str:
    """The page of all commands."""
    commands = {name: (parser, said) for name, parser, said in subparsers(build_parser())}
    names, lines = iter(commands), [_CLI]
    for title, members in GROUPS:
        lines.append(f"\n## {title.capitalize()}")
        for name in [next(names) for _ in members]:
            lines += section(name, *commands[name])
    lines.append("\n## Shared options")
    for group, title in SHARED.items():
        lines += ["", f"### {title}", "", *(line for key, line in options(commands[_SHARES_ALL][0]) if key == group)]
    lines += ["\n## Studies", "", "They measure the instruments of this project itself: `persona-interp study NAME`.", ""]
    lines += [f"- `{name}`: {plain(said)}" for name, _, said in subparsers(commands["study"][0])]
    return "\n".join(lines) + "\n"


def section(name: str, parser: argparse.ArgumentParser, said: str) -> Iterator[str]:
    """A command, or a group of them."""
    yield f"\n### {name}\n"
    yield plain(parser.description or f"{said[0].upper()}{said[1:]}.")
    if (examples := EXAMPLES.get(name, ())) and not list(subparsers(parser)):
        yield from ("", "```bash", *examples, "```")
    yield from ("", *own_options(parser)) if not list(subparsers(parser)) else ()
    for child, inner, told in subparsers(parser):
        yield f"\n#### {name} {child}\n"
        yield plain(inner.description or f"{told[0].upper()}{told[1:]}.")
        yield from ("", "```bash", *EXAMPLES.get(f"{name} {child}", ()), "```", "", *own_options(inner))
    if parser.epilog:
        yield f"\n{plain(parser.epilog)}"


def own_options(parser: argparse.ArgumentParser) -> Iterator[str]:
    """The lines of a command's own options, and which of the shared groups it has."""
    shared = shared_lines()
    groups: list[str] = []
    for key, line in options(parser):
        if key in SHARED and shared.get(line) == key:
            groups += [key] * (key not in groups)
        else:
            yield line
    linked = [f"[{SHARED[key]}](#{SHARED[key].lower().replace(' ', '-')})" for key in groups]
    yield f"- {', '.join(linked)}"


@cache
def shared_lines() -> dict[str, str]:
    """Each line of a shared group, and the group."""
    (parser,) = [each for name, each, _ in subparsers(build_parser()) if name == _SHARES_ALL]
    return {line: key for key, line in options(parser)}


def options(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str]]:
    """The group and the line of each argument and option."""
    formatter = parser._get_formatter()
    titles = {id(action): str(group.title) for group in parser._action_groups for action in group._group_actions}
    for action in parser._actions:
        if action.help == argparse.SUPPRESS or isinstance(action, argparse._HelpAction):
            continue
        taken = "" if action.nargs == 0 else f" {formatter._format_args(action, metavar(action))}"
        first, *more = action.option_strings or [""]
        names = f"`{f'{first}{taken}'.strip()}`" + "".join(f", also `{each}`" for each in more)
        need = " **required**;" if action.required and action.option_strings else ""
        said = plain(formatter._expand_help(action)) if action.help else ""
        yield titles[id(action)], f"- {names}:{need} {said}".rstrip(": ")


def metavar(action: argparse.Action) -> str:
    """What stands for the value where the option names nothing."""
    if action.choices is not None and action.metavar is None:
        return "{" + ",".join(map(str, action.choices)) + "}"
    return action.dest.upper() if action.option_strings else action.dest


def plain(text: str) -> str:
    """Words for Markdown: what is no markup is shown as it stands."""
    return html.escape(" ".join(text.split()), quote=False).replace("*", "\\*").replace("_", "\\_")


def homes() -> list[tuple[str, dict[str, str]]]:
    """Public names and the modules they live in: those in front, and the others."""
    tree = ast.parse(Path(str(persona_interp.__file__)).read_text(encoding="utf-8"))
    tables: dict[str, dict[str, str]] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and isinstance(node.value, ast.Dict):
            tables[node.targets[0].id] = ast.literal_eval(node.value)
    return [("Everyday names", tables["_HOMES"]), ("Extensions, rarer needs and results", tables["_MORE"])]


def python() -> str:
    """The page of all public names, filled by mkdocstrings."""
    lines = [_API]
    for title, names in homes():
        lines.append(f"## {title}\n")
        lines += [f"::: persona_interp.{home}.{name}\n" for name, home in names.items()]
    return "\n".join(lines).strip() + "\n"


PAGES: dict[str, Any] = {"cli.md": command_line, "api.md": python}


if __name__ == "__main__":
    for page, made in PAGES.items():
        (REFERENCE / page).write_text(made(), encoding="utf-8")
