"""``persona-interp study NAME``: what measures this project's own instruments, one command a study."""

from __future__ import annotations

from typing import Any

from persona_interp.cli.studies import (
    attribution,
    diagnostics,
    figures,
    finetuning,
    judges,
    layers,
    modulation,
    organisms,
    quantization,
    reproduction,
    results,
    silliness,
    training,
    transfer,
)

STUDIES = (
    organisms,
    judges,
    layers,
    transfer,
    diagnostics,
    attribution,
    modulation,
    quantization,
    reproduction,
    figures,
    results,
    training,
    silliness,
    finetuning,
)

# Before 0.2 every study was a command of its own; these names work for one more version.
OLD_NAMES = {
    "organisms": "validate-organisms",
    "judges": "validate-judges",
    "layers": "validate-layers",
    "transfer": "validate-transfer",
    "diagnostics": "validate-diagnostics",
    "attribution": "validate-attribution",
    "modulation": "validate-modulation",
    "quantization": "validate-quantization",
    "reproduction": "reproduce-paper",
    "figures": "figures",
    "training": "train-organism",
}


class _OldNames:
    """Subparsers under the names of before, which no help lists."""

    def __init__(self, commands: Any) -> None:
        self._commands = commands

    def add_parser(self, name: str, *, help: str, **options: Any) -> Any:
        del help  # argparse lists what has one
        return self._commands.add_parser(OLD_NAMES[name], **options)


def register(commands: Any) -> None:
    """Add ``study`` and every study under it to the parser."""
    parser = commands.add_parser(
        "study",
        help="measure this project's own instruments: the tables and figures of docs/results",
        description="Each study measures the model organisms that ship with the package, and writes a table of docs/results.",
        allow_abbrev=False,
    )
    studies = parser.add_subparsers(title="studies", metavar="NAME", required=True, parser_class=type(parser))
    for study in STUDIES:
        study.register(studies)


def register_old_names(commands: Any) -> None:
    """Add every study under its name of before 0.2."""
    for study in STUDIES:
        if study.__name__.rpartition(".")[2] in OLD_NAMES:
            study.register(_OldNames(commands))
