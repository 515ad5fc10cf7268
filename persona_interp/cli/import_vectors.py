"""``persona-interp import``: a vector of another program as one of ours."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from persona_interp.cli import arguments
from persona_interp.cli.registered import add_vector_file
from persona_interp.errors import InvalidInputError

if TYPE_CHECKING:
    from persona_interp.models.identity import ModelIdentity


def register(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "import",
        help="read a vector of another program and write it as one of ours",
        description="Read a llama.cpp or repeng control vector (.gguf), the tensor of the original code (.pt), or any file of "
        "ours, and write .json or .safetensors.",
        allow_abbrev=False,
    )
    add_vector_file(parser)
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="a .json or .safetensors file")
    parser.add_argument(
        "--generator-offset",
        action="store_true",
        help="the file is of llama.cpp's own generator, which numbers layers one too high",
    )
    parser.add_argument(
        "--model",
        metavar="M",
        help="short name, hub id, folder or .gguf file of the model it is of: loaded, to check the shape and record the weights",
    )
    parser.add_argument("--trait", metavar="T", help="what it is a vector of, where the file does not say")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Read, write, and show what is known."""
    from persona_interp.cli.info import facts
    from persona_interp.cli.tables import console
    from persona_interp.progress import say
    from persona_interp.storage import ensure_writable
    from persona_interp.vectors.formats import own_suffixes
    from persona_interp.vectors.formats.gguf import GgufFormat
    from persona_interp.vectors.persona_vector import PersonaVector

    if args.output.suffix.lower() not in (ours := own_suffixes()):
        raise InvalidInputError(f"cannot import into {args.output}: name a {' or '.join(ours)} file; export writes others")
    if args.generator_offset and args.file.suffix.lower() != ".gguf":
        raise InvalidInputError(f"--generator-offset is for .gguf files, not {args.file}: leave it out")
    ensure_writable(args.output)
    model, recorded = (None, {}) if args.model is None else known_of(args.model)
    if args.generator_offset:
        vector = GgufFormat(generator_offset=True).read(args.file, model=model, trait=args.trait)
    else:
        vector = PersonaVector.load(args.file, model=model, trait=args.trait)
    replace(vector, provenance={**vector.provenance, **recorded}).save(args.output)
    for name, value in facts(vector).items():
        console().print(f"{name:<12}{value}", markup=False, highlight=False, soft_wrap=True)
    say(f"written: {args.output}")


def known_of(name: str) -> tuple[ModelIdentity, dict[str, Any]]:
    """What results call that model, and what a vector of it records, so that copies of it are known again."""
    from persona_interp.vectors.lineage import KEY, Lineage

    with arguments.loaded(name) as model:
        return model.identity, {KEY: Lineage.of(model).to_json()}
