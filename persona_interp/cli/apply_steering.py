"""``persona-interp apply-steering``: answer a prompt with one or more persona vectors added."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from persona_interp.cli import arguments
from persona_interp.cli.registered import Names
from persona_interp.cli.vector_choice import add_transfer_options, choose, read
from persona_interp.errors import InvalidInputError

if TYPE_CHECKING:
    from persona_interp.models.sampling import Sampling
    from persona_interp.models.steerable import Generation, SteerableModel
    from persona_interp.vectors.steering import Steering

FORMAT_VERSION = 1
ADD = "add"
ADDING = (ADD, "add_preserving_norm")


def register(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "apply-steering",
        help="answer a prompt with persona vectors added",
        description="Answer a prompt while persona vectors are added to the residual stream.",
        epilog="With one vector, several coefficients give one answer each. With several vectors, give one coefficient for all "
        "of them or one for each; they are added together. A coefficient multiplies the vector as it is, at each of its layers.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--vectors", type=Path, nargs="+", required=True, metavar="FILE", help="vectors, of this model or another"
    )
    arguments.add_prompt_options(
        parser, coefficient="strength; negative turns the trait round", baseline="answer without steering"
    )
    parser.add_argument(
        "--chats", type=Path, metavar="FILE.jsonl", help="write each answer as a conversation, as monitor reads them"
    )
    parser.add_argument(
        "--positions", choices=("all", "prompt", "response"), default="all", help="tokens that are steered (default: %(default)s)"
    )
    parser.add_argument(
        "--operation", choices=Names("interventions.operations:OPERATIONS"), default=ADD, metavar="OP",
        help="what is done along the vector: %(choices)s (default: %(default)s; of ablate, clamp and cap the coefficient is a "
        "share of the change, 0 to 1)",
    )  # fmt: skip
    parser.add_argument(
        "--value", type=arguments.number, metavar="X",
        help="for clamp: what the projection onto the vector is brought to; for cap: the largest it may be; in activation units",
    )  # fmt: skip
    add_transfer_options(parser)
    arguments.add_model_options(parser)
    arguments.add_sampling_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Check what can be checked without the model, load it, generate, write, show."""
    from persona_interp.progress import say
    from persona_interp.storage import ensure_writable, write_json, write_text
    from persona_interp.traits.conversation import Conversation

    conversation = Conversation.ask(args.prompt, args.system)
    for path in (args.output, args.chats):
        if path is not None:
            ensure_writable(path)
    given, operation = read(args.vectors, args), operation_of(args)
    if args.ratio is not None and args.operation not in ADDING:
        raise InvalidInputError(
            f"--ratio says how much is added, but --operation {args.operation} adds nothing: use --coefficient"
        )
    doses = plan(args.coefficient if args.ratio is None else args.ratio, len(given))
    sampling = arguments.sampling(args)
    with arguments.load_model(args) as model:
        chosen = [replace(each, positions=args.positions, operation=operation) for each in choose(given, model, args)]
        if args.ratio is not None:
            doses = [
                tuple(item.selected.doses(None, [ratio])[0] for item, ratio in zip(chosen, dose, strict=True)) for dose in doses
            ]
            args.coefficient = [number for dose in doses for number in dose]
        texts = answer(model, conversation, chosen, doses, sampling, args)
        baseline = texts.pop(0) if args.baseline else None
    if args.output is not None:
        write_json(args.output, record(args, model, chosen, doses, texts, baseline, sampling))
        say(f"written: {args.output}")
    if args.chats is not None:
        write_text(args.chats, "".join(f"{line}\n" for line in chat_lines(args, doses, texts, baseline)))
        say(f"written: {args.chats}")
    show(chosen, doses, texts, baseline)


def operation_of(args: argparse.Namespace) -> Any:
    """What makes the operation of a direction.

    Raises:
        InvalidInputError: it needs a value and none was given, or takes none.
    """
    from persona_interp.interventions.operations import OPERATIONS

    kind: Any = OPERATIONS[args.operation]
    needed = kind.needs()
    if len(needed) > 1 or bool(needed) != (args.value is not None):
        what = f"needs --value, its {needed[0]}" if needed else "takes no --value"
        raise InvalidInputError(f"operation {args.operation!r} {what}: {'give one' if needed else 'leave it out'}")
    return (lambda direction: kind(direction, **{needed[0]: args.value})) if needed else kind


def plan(coefficients: Sequence[float], n_vectors: int) -> list[tuple[float, ...]]:
    """One tuple of coefficients, a number for each vector, per answer.

    Raises:
        InvalidInputError: several vectors, and neither one coefficient nor one for each.
    """
    if n_vectors == 1:
        return [(coefficient,) for coefficient in coefficients]
    if len(coefficients) == 1:
        return [tuple(coefficients) * n_vectors]
    if len(coefficients) == n_vectors:
        return [tuple(coefficients)]
    raise InvalidInputError(
        f"{len(coefficients)} coefficients were given for {n_vectors} vectors: give one for all of them, or one for each"
    )


def answer(
    model: SteerableModel,
    conversation: Any,
    chosen: Sequence[Steering],
    doses: Sequence[tuple[float, ...]],
    sampling: Sampling,
    args: argparse.Namespace,
) -> list[Generation]:
    """Every answer in one batch, each row with its own coefficients and the same seed; the unsteered one first if asked for."""
    from persona_interp.interventions.graph import InterventionGraph

    first = 1 if args.baseline else 0
    graph = InterventionGraph()
    for row, dose in enumerate(doses, start=first):
        for item, coefficient in zip(chosen, dose, strict=True):
            graph += item.at(coefficient).graph((row,))
    rows = first + len(doses)
    return model.generate(
        [conversation] * rows, graph=graph, sampling=sampling, seed=[args.seed] * rows, batch_size=args.batch_size
    )


def show(
    chosen: Sequence[Steering],
    doses: Sequence[tuple[float, ...]],
    texts: Sequence[Generation],
    baseline: Generation | None,
) -> None:
    """Print the answers beside their coefficients."""
    from persona_interp.cli.tables import Cell, console, shown, table

    rows = [["none", "–", baseline.text]] if baseline is not None else []
    for dose, generation in zip(doses, texts, strict=True):
        ratios = [shown(ratio) for ratio in ratios_of(chosen, dose)]
        coefficient = Cell.of(f"{dose[0]:.4g}", dose[0]) if len(dose) == 1 else ", ".join(f"{c:.4g}" for c in dose)
        rows.append([coefficient, ratios[0] if len(ratios) == 1 else ", ".join(ratios), generation.text])
    title = "; ".join(f"{item.vector.trait} at layer {', '.join(map(str, item.layers))}" for item in chosen)
    console().print(table(title, [("coefficient", "right"), ("x resid norm", "right"), ("answer", "left")], rows))


def ratios_of(chosen: Sequence[Steering], dose: Sequence[float]) -> list[float | None]:
    """How large what is added is against the residuals; of what is not simply added that is not known beforehand."""
    return [item.at(coefficient).perturbation_ratio for item, coefficient in zip(chosen, dose, strict=True)]


def chat_lines(
    args: argparse.Namespace, doses: Sequence[tuple[float, ...]], texts: Sequence[Generation], baseline: Generation | None
) -> list[str]:
    """The exchanges as lines of JSON, named after what was done."""
    import json

    named = [] if baseline is None else [("unsteered", baseline.text)]
    named += [(f"steered at {', '.join(f'{c:+g}' for c in dose)}", each.text) for dose, each in zip(doses, texts, strict=True)]
    asked = {"prompt": args.prompt, **({} if args.system is None else {"system": args.system})}
    return [json.dumps({"id": name, **asked, "response": text}, ensure_ascii=False) for name, text in named]


def record(
    args: argparse.Namespace,
    model: SteerableModel,
    chosen: Sequence[Steering],
    doses: Sequence[tuple[float, ...]],
    texts: Sequence[Generation],
    baseline: Generation | None,
    sampling: Sampling,
) -> dict[str, Any]:
    """The JSON of a run. One coefficient gives a number and a text; several coefficients of one vector give two lists."""
    from persona_interp.provenance import provenance

    single = len(texts) == 1
    return {
        "format_version": FORMAT_VERSION,
        "model": model.name,
        "vectors": list(map(str, args.vectors)),
        "prompt": args.prompt,
        "system": args.system,
        "coefficient": args.coefficient[0] if len(args.coefficient) == 1 else args.coefficient,
        "layers": sorted({layer for item in chosen for layer in item.layers}),
        "positions": args.positions,
        **({} if args.operation == ADD else {"operation": args.operation}),
        **({} if args.value is None else {"value": args.value}),
        "steered": texts[0].text if single else [generation.text for generation in texts],
        "baseline": None if baseline is None else baseline.text,
        "applied": [
            {
                "vector": str(file),
                "trait": item.vector.trait,
                "layers": list(item.layers),
                "layer_choice": item.reason or "given",
                "decision": item.decision or "made in these weights",
            }
            for file, item in zip(args.vectors, chosen, strict=True)
        ],
        "answers": [
            {
                "coefficients": list(dose),
                "perturbation_ratios": ratios_of(chosen, dose),
                "text": generation.text,
                "finished": generation.finished,
            }
            for dose, generation in zip(doses, texts, strict=True)
        ],
        "provenance": provenance(model=model.identity.to_json(), seed=args.seed, sampling=sampling.to_json()),
    }
