"""``persona-interp monitor``: how far conversations point along persona vectors, token by token and turn by turn."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from persona_interp.cli import arguments
from persona_interp.cli.vector_choice import add_transfer_options
from persona_interp.errors import InvalidInputError

if TYPE_CHECKING:
    from persona_interp.monitoring.projection import ChatProjection, Projections

FORMAT_VERSION = 1

_NOTE = """Projection of the residual stream onto the unit direction of each vector, at the output of the block named. Nothing is
subtracted, so compare values with each other rather than with zero.

Strips: one for each layer that was read. Colours are centred on the median over all tokens, the same for all conversations; with
several layers each has a scale of its own, since projections grow from layer to layer. Hover shows a token and its value. The
end-of-turn token of the last answer is not read; markers of the chat template are shown as they are."""


def register(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "monitor",
        help="see persona vectors at work in conversations",
        description="Read conversations through a model and show how far they point along persona vectors, turn by turn.",
        epilog="A line of the input holds {'messages': [...]} in the usual shape, or {'prompt': ..., 'response': ..., 'system': "
        "optional}; 'id' names it. Nothing is generated.",
        allow_abbrev=False,
    )
    parser.add_argument("--vectors", type=Path, nargs="+", required=True, metavar="FILE", help="vectors of this model")
    parser.add_argument("--input", type=Path, required=True, metavar="FILE.jsonl", help="conversations, one a line")
    parser.add_argument(
        "--layer",
        type=arguments.layers_or_all,
        default="auto",
        metavar="auto|all|N[,N]",
        help="0-based; several are drawn under each other (default: auto)",
    )
    parser.add_argument(
        "--unit",
        choices=("activation", "vector_length"),
        default="activation",
        help="projection onto the unit direction, or that over the vector's norm (default: %(default)s)",
    )
    parser.add_argument(
        "--output", type=Path, metavar="DIR|FILE", help="a folder for monitor.json and monitor.html, or one .json or .html file"
    )
    parser.add_argument(
        "--strips",
        type=arguments.count,
        default=20,
        metavar="N",
        help="conversations drawn by token (default: %(default)s)",
    )
    add_transfer_options(parser)
    arguments.add_model_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Check what can be checked without the model, load it, read, write, show."""
    from persona_interp.cli.vector_choice import choose, read
    from persona_interp.monitoring.chats import read_chats
    from persona_interp.monitoring.project import project_each
    from persona_interp.storage import ensure_writable

    chats = read_chats(args.input)
    json_path, html_path = outputs(args.output, "monitor")
    for path in (json_path, html_path):
        if path is not None:
            ensure_writable(path)
    given = read(args.vectors, args)
    with arguments.load_model(args) as model:
        chosen = choose(given, model, args)
        seen = project_each(
            model,
            [item.vector for item in chosen],
            chats,
            layers=[item.layers for item in chosen],
            unit=args.unit,
            batch_size=args.batch_size,
        )
    write(seen, json_path, html_path, args.strips)
    show(seen)


def outputs(output: Path | None, name: str) -> tuple[Path | None, Path | None]:
    """Where the JSON and the page go: both into a folder, under `name`, or one of them into the file named.

    Raises:
        InvalidInputError: a file of another kind was named.
    """
    if output is None:
        return None, None
    suffix = output.suffix.lower()
    if output.is_dir() or not suffix:
        return output / f"{name}.json", output / f"{name}.html"
    if suffix not in (".json", ".html"):
        raise InvalidInputError(f"cannot write {output}: name a folder, a .json file or an .html file")
    return (output, None) if suffix == ".json" else (None, output)


_HEADINGS = [
    ("chat", "left"), ("turn", "right"), ("last prompt token", "right"), ("answer", "right"), ("drift", "right"),
    ("text", "left"),
]  # fmt: skip


def show(seen: Sequence[Projections]) -> None:
    """Print a table for each vector and layer."""
    from persona_interp.cli.tables import console, table

    screen = console()
    for projections in seen:
        for row, layer in enumerate(projections.layers):
            rows = [cells for chat in projections.chats for cells in _rows(chat, row)]
            title = f"{projections.trait} at layer {layer}: |vector| = {projections.norms[row]:.2f}"
            screen.print(table(title, _HEADINGS, rows))
    units = "activation units" if seen[0].unit == "activation" else "vector lengths"
    screen.print(
        f"Projections in {units}. last prompt token: before the answer; answer: mean over its tokens;\ndrift: answer minus that "
        "of the first turn.",
        markup=False,
        highlight=False,
    )


def _rows(chat: ChatProjection, row: int) -> Iterator[list[str]]:
    from persona_interp.cli.tables import shown

    for number, (turn, drift) in enumerate(zip(chat.turns, chat.drift(row), strict=True), start=1):
        said = (turn.prompt if turn.answer is None else turn.answer).replace("\n", " ")
        yield [
            chat.name,
            str(number),
            shown(None if turn.prompt_last is None else turn.prompt_last[row]),
            shown(None if turn.answer_mean is None else turn.answer_mean[row]),
            "–" if drift is None else f"{drift:+.2f}",
            f"{said[:57]}..." if len(said) > 60 else said,
        ]


def write(seen: Sequence[Projections], json_path: Path | None, html_path: Path | None, n_strips: int) -> None:
    """Write what was asked for."""
    from persona_interp.progress import say
    from persona_interp.storage import write_json

    if json_path is not None:
        write_json(json_path, {"format_version": FORMAT_VERSION, "projections": [each.to_json() for each in seen]})
        say(f"written: {json_path}")
    if html_path is not None:
        from persona_interp.plotting import drift_figure, layer_strips_figure, save_html, strip_figure

        figures = []
        for projections in seen:
            drawn = projections.chats[:n_strips]
            drifts = [drift_figure(projections, layer) for layer in projections.layers]
            if len(drifts) > 1:
                figures += [layer_strips_figure(projections, chat) for chat in drawn] + drifts
            else:
                figures += drifts + [strip_figure(projections, chat, projections.layers[0]) for chat in drawn]
        left_out = len(seen[0].chats) - n_strips
        more = f"\n\nOf {len(seen[0].chats)} conversations the first {n_strips} are drawn token by token." if left_out > 0 else ""
        names = ", ".join(projections.trait for projections in seen)
        save_html(html_path, figures, title=f"{names} in {seen[0].model.name}", note=_NOTE + more)
        say(f"written: {html_path}")
