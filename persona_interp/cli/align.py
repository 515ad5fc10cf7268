"""``persona-interp align``: let two models read the same texts, so that vectors can be carried between them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from persona_interp.cli import arguments

if TYPE_CHECKING:
    from persona_interp.transfers.anchor_rows import AnchorRows
    from persona_interp.transfers.anchors import Anchor


SIMILARITIES = {"quality": "held-out R2", "cka": "CKA", "cca": "SVCCA"}


def register(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "align",
        help="let two models read the same unlabelled texts, for carrying vectors between them",
        description="Have source and target read the same unlabelled texts, one model after the other, and keep what they make "
        "of them. Every vector of the source can then be carried to the target without reading anything again.",
        allow_abbrev=False,
    )
    parser.add_argument("--source", required=True, metavar="S", help="short name, hub id, folder or .gguf file")
    add_anchor_options(parser)
    parser.add_argument(
        "--similarity",
        choices=tuple(SIMILARITIES),
        default="quality",
        help="how layers are compared: held-out R2 of a ridge map, debiased linear CKA, or SVCCA (default: %(default)s)",
    )
    parser.add_argument("--report", type=Path, metavar="FILE.html", help="a page with the similarity of all pairs of layers")
    arguments.add_model_options(parser, option="--target")
    parser.set_defaults(run=run)


def add_anchor_options(parser: argparse.ArgumentParser) -> None:
    """``--anchors`` and ``--num-anchors``."""
    parser.add_argument(
        "--anchors",
        type=Path,
        metavar="FILE.jsonl",
        help="your own texts, {'text': ...} or {'prompt': ..., 'response': ...} a line; a few thousand in many styles serve best "
        "(default: 600 texts of the package; between organisms, their corpus)",
    )
    parser.add_argument("--num-anchors", type=arguments.count, metavar="N", help="use the first N of them (default: all)")


def anchors_of(args: argparse.Namespace, names: Sequence[str]) -> tuple[Anchor, ...]:
    """The anchors asked for."""
    from persona_interp.transfers.anchors import anchors_for, read_anchors

    if args.anchors is None:
        return anchors_for(names, n=args.num_anchors)
    return read_anchors(args.anchors)[: args.num_anchors]


def run(args: argparse.Namespace) -> None:
    """Read with the source, release it, read with the target, and show which layers correspond."""
    from persona_interp.alignment.layer_map import layer_map
    from persona_interp.cli.tables import console, table
    from persona_interp.errors import InvalidInputError
    from persona_interp.models.registry import find_model
    from persona_interp.progress import say
    from persona_interp.storage import ensure_writable
    from persona_interp.transfers.correspondence import correspondence
    from persona_interp.transfers.reading import anchors_folder, read_rows

    for name in (args.source, args.model):
        find_model(name)
    if args.report is not None:
        if args.report.suffix.lower() != ".html":
            raise InvalidInputError(f"cannot write figures as {args.report}: name an .html file")
        ensure_writable(args.report)
    anchors = anchors_of(args, (args.source, args.model))
    rows: list[AnchorRows] = []
    for name, other in ((args.source, args.model), (args.model, args.source)):
        with arguments.load_model(args, name, beside=other) as model:
            rows.append(read_rows(model, anchors, batch_size=args.batch_size))
        del model  # the two are never in memory together
    similarity = correspondence(rows[0], rows[1], args.similarity)
    measure = SIMILARITIES[args.similarity]
    path = layer_map(similarity, "monotone")
    best = layer_map(similarity, "best")
    cells = [
        [str(layer), str(best[layer]), f"{similarity[layer, best[layer]]:.2f}", str(path[layer]), str(depth)]
        for layer, depth in enumerate(layer_map(similarity, "depth"))
    ]
    headings = [(name, "right") for name in ("source layer", "best match", measure, "in order", "equal depth")]
    title = f"{rows[0].model.name} to {rows[1].model.name}: {len(anchors)} anchors"
    if args.report is not None:
        from persona_interp.plotting import save_html, similarity_figure

        figure = similarity_figure(similarity, rows[0].model.name, rows[1].model.name, path, measure=measure)
        save_html(args.report, [figure], title=title)
        say(f"written: {args.report}")
    console().print(table(title, headings, cells))
    say(f"kept in {anchors_folder()}: vectors are carried from there")
