"""``persona-interp audit``: what was done to a checkpoint."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from persona_interp.cli import arguments
from persona_interp.errors import FileFormatError, InvalidInputError

if TYPE_CHECKING:
    from persona_interp.training.audit import Audit
    from persona_interp.vectors.persona_vector import PersonaVector


def register(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "audit",
        help="see whether a checkpoint has been given a direction, and which trait that is",
        description="Compare a checkpoint with its base model block by block: whether a direction was put into it, where, and "
        "which known vector that is nearest to.",
        epilog="A baked constant is found at its very block, in half precision, under noise, and in a rotated copy too. What a "
        "finetuning changed is spread over all blocks; there the mean residual stream is compared with the vectors.",
        allow_abbrev=False,
    )
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="name, folder, adapter or hub id")
    parser.add_argument("--dictionary", type=Path, metavar="DIR", help="known vectors of the base model, one a file")
    parser.add_argument("--output", type=Path, metavar="FILE.json", help="write the result")
    parser.add_argument("--seed", type=arguments.seed, default=0, metavar="N", help="of the chance level (default: %(default)s)")
    arguments.add_model_options(parser, option="--base", required=False)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Load both models, compare, show, write."""
    from persona_interp.progress import say
    from persona_interp.storage import ensure_writable, write_json
    from persona_interp.training.audit import audit
    from persona_interp.training.record import base_named_in

    args.model = args.model or base_named_in(args.checkpoint)
    if args.output is not None:
        ensure_writable(args.output)
    known = [] if args.dictionary is None else dictionary(args.dictionary)
    with arguments.load_model(args, args.checkpoint) as checkpoint, arguments.load_model(args) as base:
        vectors = [vector for vector in known if vector.d_model == base.d_model and vector.layers[-1] < base.n_layers]
        if left := len(known) - len(vectors):
            say(f"note: {left} of {len(known)} vectors are of a model of another shape and were left out")
        found = audit(checkpoint, base, vectors, seed=args.seed)
    if args.output is not None:
        write_json(args.output, found.to_json())
        say(f"written: {args.output}")
    show(found)


def dictionary(folder: Path) -> list[PersonaVector]:
    """The vectors in a folder.

    Raises:
        FileFormatError: it is none, or holds no vector.
        InvalidInputError: two have the same trait.
    """
    from persona_interp.vectors.formats import own_suffixes
    from persona_interp.vectors.persona_vector import PersonaVector

    if not folder.is_dir():
        raise FileFormatError(f"{folder} is no folder: give one that holds vectors ({', '.join(own_suffixes())})")
    files = sorted(path for path in folder.iterdir() if path.suffix in own_suffixes())
    if not files:
        raise FileFormatError(f"{folder} holds no vector ({', '.join(own_suffixes())}): extract some into it first")
    found = [PersonaVector.load(path) for path in files]
    names = [(vector.trait, vector.model.fingerprint) for vector in found]
    if twice := [name for name, _ in names if [each[0] for each in names].count(name) > 1 and len(set(names)) < len(names)]:
        raise InvalidInputError(f"{folder} holds several vectors of {twice[0]!r} in one model: keep one of each")
    return found


def show(found: Audit) -> None:
    """Print the verdict, the blocks and the nearest traits."""
    from persona_interp.cli.tables import console, shown, table

    screen = console()
    rows = [
        [
            str(each.layer),
            shown(100 * each.constant),
            shown(100 * each.varying),
            f"{each.score:+.1f}",
            "given" if each.layer in found.given else "",
        ]
        for each in found.layers
    ]
    headings = [("block", "right"), ("constant, %", "right"), ("varying, %", "right"), ("score", "right"), ("", "left")]
    screen.print(table(f"{found.checkpoint.name} beside {found.base.name}, {found.n_tokens} tokens", headings, rows))
    if found.traits:
        cells = [[each.trait, str(each.layer), f"{each.cosine:+.2f}", f"{each.by_chance:.2g}"] for each in found.traits]
        heads = [("trait", "left"), ("block", "right"), ("cosine", "right"), ("by chance", "right")]
        screen.print(table("nearest traits", heads, cells))
    where = f" at block{'s' if len(found.given) > 1 else ''} {', '.join(map(str, found.given))}" if found.given else ""
    basis = ", in another basis" if found.rotated else ""
    screen.print(
        f"verdict: {found.verdict}{where}{basis}\nconstant and varying: what a block adds otherwise than the base model's, per "
        "cent of the residual stream; score: decimal logarithm of the one over the other; by chance: how often as many vectors\n"
        "would be as near to a difference of the base model's own residuals.",
        markup=False,
        highlight=False,
    )
