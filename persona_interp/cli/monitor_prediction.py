"""``persona-interp monitor-prediction``: does the last prompt token foretell how much of a trait an answer shows?"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from persona_interp.cli import arguments, measuring
from persona_interp.cli.registered import add_judge_option
from persona_interp.cli.vector_choice import add_transfer_options

if TYPE_CHECKING:
    from persona_interp.measure.conditions import Condition
    from persona_interp.models.steerable import SteerableModel
    from persona_interp.monitoring.prediction import Prediction
    from persona_interp.traits.trait import Trait
    from persona_interp.vectors.persona_vector import PersonaVector

_NOTE = """Each point is a prompt. Across: Pearson's correlation over all of them, with Fisher's 95 % interval, which takes
prompts as independent. Within: the same with each condition's mean taken away from both sides; a high correlation across
conditions may say no more than that prompts for the trait are told from prompts against it."""


def register(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "monitor-prediction",
        help="measure how well the last prompt token foretells a trait",
        description="Project the last token of prompts onto a persona vector, sample and score answers, and correlate the two.",
        epilog="Without --prompts, the trait's evaluation questions are asked under its negative system prompts, none, its "
        "positive ones, and after earlier answers that show the trait more or less.",
        allow_abbrev=False,
    )
    parser.add_argument("--vectors", type=Path, required=True, metavar="FILE", help="a vector of this model")
    parser.add_argument("--trait", metavar="T", help="scored in the answers (default: that of the vector)")
    parser.add_argument(
        "--prompts", type=Path, metavar="FILE.jsonl", help="prompts, one a line; those with one system prompt are one condition"
    )
    add_judge_option(parser)
    parser.add_argument("--layer", type=arguments.layers, default="auto", metavar="auto|N", help="0-based (default: auto)")
    parser.add_argument("--samples", type=arguments.count, default=4, metavar="N", help="answers a prompt (default: %(default)s)")
    parser.add_argument(
        "--output", type=Path, metavar="DIR|FILE", help="a folder for prediction.json and prediction.html, or one of the two"
    )
    add_transfer_options(parser)
    arguments.add_model_options(parser)
    arguments.add_sampling_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Check what can be checked without the model, load it, measure, show, write."""
    from persona_interp.cli.monitor import outputs
    from persona_interp.cli.vector_choice import choose, read_one
    from persona_interp.monitoring.chats import read_chats
    from persona_interp.monitoring.conditions import conditions_by_system_prompt
    from persona_interp.monitoring.predict import predict_expression
    from persona_interp.storage import ensure_writable
    from persona_interp.traits.model_kinds import resolve_trait

    given = None if args.prompts is None else [chat.turns[-1].conversation for chat in read_chats(args.prompts)]
    paths = outputs(args.output, "prediction")
    for path in paths:
        if path is not None:
            ensure_writable(path)
    item, protocol = read_one(args.vectors, args), measuring.protocol(args)
    with arguments.load_model(args) as model:
        (chosen,) = choose([item], model, args)
        trait = resolve_trait(model, args.trait or chosen.vector.trait)
        conditions = default_conditions(model, chosen.vector, trait) if given is None else conditions_by_system_prompt(given)
        found = predict_expression(model, chosen.vector, trait, conditions, layer=chosen.layers[0], protocol=protocol)
    write(found, *paths)
    show(found)


def default_conditions(model: SteerableModel, vector: PersonaVector, trait: Trait) -> list[Condition]:
    """System prompts from against to for, in wordings kept for evaluation where there are such, and earlier answers."""
    from persona_interp.measure.conditions import Condition
    from persona_interp.monitoring.conditions import HISTORY, history_condition, system_prompt_conditions
    from persona_interp.traits.model_kinds import model_kind

    questions = trait.evaluation_questions or trait.extraction_questions
    kind, instructions, earlier = model_kind(model), trait.instructions, ()
    if kind is not None and trait.name in kind.trait_names:
        instructions = tuple(kind.evaluation_instructions(trait.name))
        earlier = tuple(kind.earlier_answers(trait.name, len(questions)))
    history = Condition(HISTORY, conversations=earlier) if earlier else history_condition(questions, vector.responses)
    return [*system_prompt_conditions(questions, instructions), *([] if history is None else [history])]


def show(found: Prediction) -> None:
    """Print a line for each condition, and the correlations over all."""
    from persona_interp.cli.tables import console, shown, table

    rows = [
        [
            name,
            str(found.within_one(name).n),
            shown(found.mean_score(name), 0),
            shown(found.mean_coherence(name), 0),
            str(found.within_one(name)),
            shown(found.ceiling(name)),
        ]
        for name in found.conditions
    ]
    headings = [
        ("condition", "left"), ("prompts", "right"), (found.trait, "right"), ("coherence", "right"), ("r within it", "right"),
        ("ceiling", "right"),
    ]  # fmt: skip
    screen = console()
    screen.print(table(f"{found.vector} at layer {found.layer} of {found.model.name}, judged by {found.judge}", headings, rows))
    lines = [
        f"across all prompts: r = {found.across}, Spearman {found.across_ranks}, n = {found.across.n}",
        f"over the means of the conditions: r = {found.between}, n = {found.between.n}",
        f"within conditions: r = {found.within}, ceiling {shown(found.ceiling())}",
        "95 % intervals. ceiling: about the largest r within a condition that anything could reach; 0 where its scores differ by",
        "the draw of the answers alone. – where they do not differ.",
    ]
    screen.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)


def write(found: Prediction, json_path: Path | None, html_path: Path | None) -> None:
    """Write what was asked for."""
    from persona_interp.progress import say
    from persona_interp.storage import write_json

    if json_path is not None:
        write_json(json_path, found.to_json())
        say(f"written: {json_path}")
    if html_path is not None:
        from persona_interp.plotting import prediction_figure, save_html

        save_html(html_path, prediction_figure(found), title=f"{found.trait} in {found.model.name}", note=_NOTE)
        say(f"written: {html_path}")
