"""``persona-interp modulate``: a vector on a GGUF model or a server, by whatever way reaches it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from persona_interp.cli import apply_steering, arguments
from persona_interp.cli.vector_choice import Read, add_transfer_options, choose, read, settled
from persona_interp.errors import InvalidInputError, PersonaInterpError

if TYPE_CHECKING:
    from persona_interp.blackbox.endpoint import EndpointModel
    from persona_interp.blackbox.modulator import Modulator
    from persona_interp.models.results import Generation
    from persona_interp.models.sampling import Sampling
    from persona_interp.models.steerable import SteerableModel
    from persona_interp.vectors.steering import Steering

FORMAT_VERSION = 1
CONTROL_VECTOR, PARAMETERS, LOGIT_BIAS = "control-vector", "parameters", "logit-bias"
_N_QUESTIONS = 8


def register(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "modulate",
        help="answer a prompt with a GGUF model or a server, modulated by a vector",
        description="Answer a prompt with a GGUF model, or a model behind an OpenAI-compatible server, modulated by a vector.",
        epilog="control-vector adds the vector to the residual stream, which llama.cpp can. parameters changes temperature, "
        "top_p and penalty by two numbers of the vector, which carry none of its meaning. logit-bias makes those tokens "
        "likelier that the vector makes likelier in its own model. A server's API key is read from OPENAI_API_KEY.",
        allow_abbrev=False,
    )
    parser.add_argument("--vectors", type=Path, required=True, metavar="FILE", help="the vector")
    parser.add_argument("--mode", choices=(CONTROL_VECTOR, PARAMETERS, LOGIT_BIAS), required=True, help="the way")
    arguments.add_prompt_options(parser, coefficient="strength, one answer each", baseline="answer unmodulated")
    group = parser.add_argument_group("servers and logit biases")
    group.add_argument("--served-model", metavar="NAME", help="a server's model (default: the only one it has)")
    group.add_argument("--timeout", type=arguments.number, default=120.0, metavar="S", help="for a reply (default: 120 s)")
    group.add_argument("--tokenizer", metavar="FOLDER|GGUF", help="of a server's model, which logit biases need")
    group.add_argument("--source", metavar="M", help="model the vector is of, to read it in (default: the one it names)")
    group.add_argument(
        "--reading",
        choices=("lens", "shift"),
        default="lens",
        help="biases from the vector's product with the unembedding, or from steering at coefficient 1 (default: %(default)s)",
    )
    group.add_argument("--entries", type=arguments.count, default=300, metavar="N", help="biases at most (default: %(default)s)")
    add_transfer_options(parser)
    arguments.add_model_options(parser)
    arguments.add_sampling_options(parser)
    parser.set_defaults(run=run, operation="add")  # control vectors add; answers are those of apply-steering


def run(args: argparse.Namespace) -> None:
    """Check what can be checked without a model, make the modulator, generate, show, write."""
    from persona_interp.progress import say
    from persona_interp.storage import ensure_writable, write_json
    from persona_interp.traits.conversation import Conversation

    conversation = Conversation.ask(args.prompt, args.system)
    if args.output is not None:
        ensure_writable(args.output)
    (given,) = read([args.vectors])
    if (url := is_url(args.model)) and args.mode == CONTROL_VECTOR:
        raise InvalidInputError(
            f"{args.model} is a server, which takes no control vector with a question: export the vector and start the server "
            "with it (llama-server --control-vector-scaled), or use --mode parameters or logit-bias"
        )
    if url and args.mode == LOGIT_BIAS and args.tokenizer is None:
        raise InvalidInputError(
            f"logit biases go by token ids, and {args.model} does not tell its own: give the tokenizer of its model with "
            "--tokenizer FOLDER, or its GGUF file"
        )
    base = arguments.sampling(args)
    model = open_endpoint(args) if url else arguments.load_model(args)
    try:
        modulator = None
        if args.mode == CONTROL_VECTOR:
            chosen, texts = steered(model, conversation, given, base, args)
        else:
            chosen = settled(given[1], args.layer, 0)
            if args.ratio is not None:
                args.coefficient = list(chosen.selected.doses(None, args.ratio))
            modulator = modulator_of(chosen, model, base, args)
            doses = [base] * args.baseline + [modulator.sampling(number) for number in args.coefficient]
            texts = [model.generate([conversation], sampling=dose, seed=[args.seed])[0] for dose in doses]
        baseline = texts.pop(0) if args.baseline else None
        if args.output is not None:
            write_json(args.output, record(args, model, chosen, texts, baseline, base, modulator))
            say(f"written: {args.output}")
        show(args, texts, baseline, modulator)
    finally:
        if not url:
            model.close()  # pyright: ignore[reportAttributeAccessIssue]


def is_url(model: str) -> bool:
    """Whether a model is named by the address of a server."""
    return model.startswith(("http://", "https://"))


def open_endpoint(args: argparse.Namespace) -> EndpointModel:
    """The server's model."""
    from persona_interp.blackbox.endpoint import EndpointModel

    return EndpointModel(args.model, args.served_model, timeout=args.timeout)


def steered(
    model: Any, conversation: Any, given: Read, base: Sampling, args: argparse.Namespace
) -> tuple[Steering, list[Generation]]:
    """The vector as it is used, and every answer in one batch, each with its own coefficient; the unsteered one first."""
    (item,) = choose([given], model, args)
    if args.ratio is not None:
        args.coefficient = list(item.selected.doses(None, args.ratio))
    doses = [(number,) for number in args.coefficient]
    return item, apply_steering.answer(model, conversation, [item], doses, base, args)


def modulator_of(chosen: Steering, model: SteerableModel | EndpointModel, base: Sampling, args: argparse.Namespace) -> Modulator:
    """What ``--mode`` names."""
    from persona_interp.blackbox.logit_bias import LogitBiasModulator
    from persona_interp.blackbox.parameters import ParameterModulator
    from persona_interp.blackbox.token_lens import TokenLens
    from persona_interp.blackbox.token_texts import TokenTexts, read_token_texts

    if args.mode == PARAMETERS:
        return ParameterModulator.of(chosen.vector, layers=chosen.layers, base=base)
    target = read_token_texts(args.tokenizer) if args.tokenizer is not None else TokenTexts(getattr(model, "tokenizer", None))
    source = source_of(chosen, model, args)
    try:
        lens = TokenLens(source, questions_for(source, chosen.vector.trait, args.prompt), batch_size=args.batch_size)
        return LogitBiasModulator.of(
            chosen.vector, lens, target, layers=chosen.layers, base=base, reading=args.reading, entries=args.entries
        )
    finally:
        if source is not model:
            source.close()


def source_of(chosen: Steering, model: SteerableModel | EndpointModel, args: argparse.Namespace) -> SteerableModel:
    """The model the vector is of, which may be the one at hand, under a name that nothing can be loaded by (a GGUF file's).

    Raises:
        PersonaInterpError: it cannot be loaded by the name the vector knows.
    """
    from persona_interp.models.steerable import SteerableModel
    from persona_interp.transfers.fitted_to import copy_for

    name = args.source or chosen.vector.model.name
    try:
        return arguments.loaded(name)
    except PersonaInterpError as error:
        if args.source is None and isinstance(model, SteerableModel) and copy_for(chosen.vector, model) is not None:
            return model
        raise PersonaInterpError(
            f"the vector {chosen.vector.trait!r} is read in its own model, {name}, which cannot be loaded ({error}). Name the "
            "model or its folder with --source"
        ) from error


def questions_for(source: SteerableModel, trait: str, prompt: str) -> Sequence[str]:
    """Neutral questions the source is asked: those the trait is extracted with; for an unknown trait the prompt itself."""
    from persona_interp.traits.model_kinds import resolve_trait

    try:
        return resolve_trait(source, trait).extraction_questions[:_N_QUESTIONS]
    except PersonaInterpError:
        return [prompt]


def show(args: argparse.Namespace, texts: Sequence[Generation], baseline: Generation | None, modulator: Modulator | None) -> None:
    """Print the answers beside their coefficients, and how they were drawn."""
    from persona_interp.cli.tables import Cell, console, table

    rows: list[Any] = [["none", "", baseline.text]] if baseline is not None else []
    for number, generation in zip(args.coefficient, texts, strict=True):
        how = "" if modulator is None else _in_words(modulator.sampling(number))
        rows.append([Cell.of(f"{number:.4g}", number), how, generation.text])
    columns = [("coefficient", "right"), ("drawn with", "left"), ("answer", "left")]
    console().print(table(f"{args.vectors.stem} by {args.mode}", columns, rows))
    if args.mode == PARAMETERS:
        console().print(
            "Temperature, top_p and penalty know the vector's size and sign, not its meaning: see what a placebo does.",
            markup=False,
        )


def _in_words(sampling: Sampling) -> str:
    said = f"T {sampling.temperature:.2f}, top_p {sampling.top_p:.2f}, penalty {sampling.repetition_penalty:.2f}"
    if not sampling.logit_bias:
        return said
    biases = sampling.logit_bias.values()
    return f"{len(biases)} biases of {min(biases):.1f} to {max(biases):.1f}"


def record(
    args: argparse.Namespace,
    model: Any,
    chosen: Steering,
    texts: Sequence[Generation],
    baseline: Generation | None,
    base: Sampling,
    modulator: Modulator | None,
) -> dict[str, Any]:
    """The JSON of a run."""
    from persona_interp.provenance import provenance

    identity = getattr(model, "identity", None)
    single = len(texts) == 1
    return {
        "format_version": FORMAT_VERSION,
        "model": model.name,
        "mode": args.mode,
        "vectors": str(args.vectors),
        "trait": chosen.vector.trait,
        "layers": list(chosen.layers),
        "prompt": args.prompt,
        "system": args.system,
        "coefficient": args.coefficient[0] if single else args.coefficient,
        "modulated": texts[0].text if single else [generation.text for generation in texts],
        "baseline": None if baseline is None else baseline.text,
        "modulator": None if modulator is None else modulator.to_json(),
        "provenance": provenance(
            model={"url": args.model} if identity is None else identity.to_json(), seed=args.seed, sampling=base.to_json()
        ),
    }
