"""Options that several commands share, and the words they are refused with."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from persona_interp.cli.registered import Names
from persona_interp.errors import InvalidInputError

if TYPE_CHECKING:
    from persona_interp.models.sampling import Sampling
    from persona_interp.models.steerable import SteerableModel

Layers = Literal["auto"] | tuple[int, ...]
LayersOrAll = Literal["all"] | Layers

COEFFICIENT = 1.5
LARGEST_SEED = 2**63 - 1


def number(text: str) -> float:
    """A finite number."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not a finite number")
    return value


def whole(text: str) -> int:
    """A whole number of at least 0."""
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 0")
    return int(text)


def seed(text: str) -> int:
    """A whole number a random generator takes."""
    value = whole(text)
    if value > LARGEST_SEED:
        raise argparse.ArgumentTypeError(f"{text} is too large: give at most {LARGEST_SEED}")
    return value


def count(text: str) -> int:
    """A whole number of at least 1."""
    value = whole(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def add_bench_options(parser: argparse.ArgumentParser, traits: Sequence[str], *, samples: int = 2) -> None:
    """``--traits``, ``--samples`` and ``--seed`` of a command that measures the bundled organisms."""
    parser.add_argument("--traits", nargs="+", default=list(traits), metavar="T", help=f"default: {' '.join(traits)}")
    parser.add_argument(
        "--samples", type=count, default=samples, metavar="K", help="answers to each question (default: %(default)s)"
    )
    parser.add_argument("--seed", type=seed, default=0, metavar="N", help="same seed, same numbers (default: %(default)s)")


def json_result(path: Path) -> Path:
    """`path`, after a look whether a result can be written there as JSON.

    Raises:
        InvalidInputError: it has another ending, or is a folder.
        PersonaInterpError: its folder cannot be written.
    """
    from persona_interp.storage import ensure_writable

    if path.suffix.lower() != ".json":
        raise InvalidInputError(f"cannot write the result as {path}: name a .json file")
    return ensure_writable(path)


def add_prompt_options(parser: argparse.ArgumentParser, *, coefficient: str, baseline: str) -> None:
    """What is asked, how strongly, at which layer, and where the answers go.

    Args:
        parser: gets them.
        coefficient: what help says of it.
        baseline: likewise.
    """
    parser.add_argument("--prompt", required=True, help="the user's message")
    parser.add_argument("--system", help="a system prompt")
    either = parser.add_mutually_exclusive_group()
    either.add_argument(
        "--coefficient",
        "--coefficients",
        type=number,
        nargs="+",
        default=[COEFFICIENT],
        metavar="C",
        help=f"{coefficient}; multiplies the vector as it is (default: {COEFFICIENT})",
    )
    add_ratio_option(either)
    parser.add_argument(
        "--layer", type=layers, default="auto", metavar="auto|N[,N]", help="0-based, of the model that is steered (default: auto)"
    )
    parser.add_argument("--baseline", action="store_true", help=f"also {baseline}, with the same seed")
    parser.add_argument("--output", type=Path, metavar="FILE.json", help="write the answers and where they came from")


def add_ratio_option(either: Any, where: str = "at the one layer steered", *, several: bool = True) -> None:
    """``--ratio``, to a group of options of which one is given.

    Args:
        either: the group, which has ``--coefficient``.
        where: the residual norm it is a share of.
        several: whether it takes more than one.
    """
    names, nargs = (("--ratio", "--ratios"), "+") if several else (("--ratio",), None)
    said = (
        f"in place of a coefficient: how large what is added is, as a share of the mean residual norm {where}; .3 to .5 is "
        "usually safe, negative turns the trait round"
    )
    either.add_argument(*names, dest="ratio", type=number, nargs=nargs, metavar="R", help=said)


def layers(text: str) -> Layers:
    """``auto`` or 0-based block indices: ``12`` or ``10,11,12``."""
    if text == "auto":
        return "auto"
    try:
        return tuple(dict.fromkeys(whole(part.strip()) for part in text.split(",")))
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither 'auto' nor 0-based layer numbers such as 12 or 10,11,12") from None


def layers_or_all(text: str) -> LayersOrAll:
    """As `layers`, or ``all``: every layer the vector has."""
    return "all" if text == "all" else layers(text)


def add_model_options(parser: argparse.ArgumentParser, *, option: str = "--model", required: bool = True) -> None:
    """``--model`` (or what `option` calls it) and how to load it."""
    group = parser.add_argument_group("model")
    group.add_argument(
        option,
        dest="model",
        required=required,
        metavar="M",
        help="short name, hub id, folder or .gguf file; organism-qwen2 ships with the package, `models list` shows more",
    )
    group.add_argument("--dtype", default="auto", help="auto, float32, bfloat16 or float16 (default: %(default)s)")
    group.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: %(default)s)")
    group.add_argument("--device-map", metavar="MAP", help="spread the model over devices, e.g. auto (needs accelerate)")
    group.add_argument(
        "--quantize", choices=("8bit", "4bit"), help='smaller weights for small GPUs (needs "persona-interp[quantized]")'
    )
    add_engine_option(group)
    group.add_argument(
        "--tensor-parallel",
        type=count,
        default=1,
        metavar="N",
        help="GPUs that hold the model together, with --engine vllm (default: %(default)s)",
    )
    group.add_argument(
        "--replicas",
        type=count,
        default=1,
        metavar="N",
        help="copies that share the work, each on GPUs of its own, with --engine vllm (default: %(default)s)",
    )
    group.add_argument("--revision", help="branch, tag or commit on the hub")
    group.add_argument("--remote", action="store_true", help="run on NDIF's servers instead of this machine")
    group.add_argument("--trust-remote-code", action="store_true", help="allow code that comes with the model to run")
    group.add_argument(
        "--batch-size", type=count, metavar="N", help="rows run together (default: chosen, halved when memory runs out)"
    )


def add_engine_option(parser: Any) -> None:
    """``--engine``, to a parser or a group of its options."""
    said = "what runs it: %(choices)s (default: the first that opens it, for GGUF files llama.cpp; torch for names)"
    parser.add_argument("--engine", choices=Names("models.engines.registry:ENGINES"), metavar="ENGINE", help=said)


def add_sampling_options(parser: argparse.ArgumentParser) -> None:
    """How answers are drawn."""
    group = parser.add_argument_group("sampling")
    group.add_argument("--max-new-tokens", type=count, default=128, metavar="N", help="answer length (default: %(default)s)")
    group.add_argument(
        "--temperature", type=number, default=1.0, metavar="X", help="0 takes the likeliest token (default: %(default)s)"
    )
    group.add_argument("--top-p", type=number, default=1.0, metavar="P", help="nucleus sampling (default: %(default)s)")
    group.add_argument("--top-k", type=count, metavar="K", help="draw from the K likeliest tokens (default: from all)")
    group.add_argument("--seed", type=seed, default=0, metavar="N", help="same seed, same answers (default: %(default)s)")


def load_model(args: argparse.Namespace, name: str | None = None, *, beside: str | None = None) -> SteerableModel:
    """The model that `add_model_options` describes, to be closed after use (``with``).

    Args:
        args: of the command.
        name: of another model, to be loaded in the same way.
        beside: the other model of a command that takes two. Options that only PyTorch takes are then for that one, if this is a
            GGUF file and that is not.
    """
    from persona_interp.models.registry import find_model

    name = str(args.model if name is None else name)
    engine = getattr(args, "engine", None)
    if beside is not None and runs_in_llama_cpp(name, engine) and not runs_in_llama_cpp(beside, engine):
        return loaded(name)
    if engine is not None and not find_model(name).gguf and beside is not None and find_model(beside).gguf:
        engine = None  # it is meant for the other one
    return loaded(
        name,
        dtype=args.dtype,
        device=args.device,
        device_map=args.device_map,
        revision=args.revision,
        remote=args.remote,
        trust_remote_code=args.trust_remote_code,
        quantization=args.quantize,
        engine=engine,
        tensor_parallel_size=args.tensor_parallel,
        replicas=args.replicas,
    )


def runs_in_llama_cpp(name: str | Path, engine: str | None) -> bool:
    """Whether that model will be run by llama.cpp.

    Args:
        name: as `load_model` takes it.
        engine: the one asked for, if any.
    """
    from persona_interp.models.registry import LLAMA_CPP, find_model

    source = find_model(name)
    return source.gguf and (engine or source.engine) == LLAMA_CPP


def loaded(name: str, **options: Any) -> SteerableModel:
    """A model, loaded without transformers' own progress bars where there is no terminal to draw them on."""
    from persona_interp.models.load import load_model as load
    from persona_interp.profiling import step

    quiet_bars()
    with step(f"loading {file_part(name)}"):
        return load(name, **options)


def quiet_bars() -> None:
    """Keep transformers from drawing progress bars where there is no terminal to draw them on."""
    from transformers.utils import logging

    if not sys.stderr.isatty():
        logging.disable_progress_bar()


def sampling(args: argparse.Namespace) -> Sampling:
    """The sampling that `add_sampling_options` describes."""
    from persona_interp.models.sampling import Sampling

    return Sampling(max_new_tokens=args.max_new_tokens, temperature=args.temperature, top_p=args.top_p, top_k=args.top_k)


_OTHER_FILES = (".bin", ".csv", ".gguf", ".npy", ".npz", ".pickle", ".pkl", ".pth", ".txt", ".yaml", ".yml")


def vector_file(output: Path | None, model: str, trait: str) -> Path:
    """Where a vector goes: `output` itself if it names a file, else ``<model>_<trait>.json`` in it (default ``vectors/``)."""
    if output is not None and output.suffix and not output.is_dir():
        from persona_interp.vectors.formats import result_suffixes

        if output.suffix.lower() in (suffixes := result_suffixes()):
            return output
        if output.suffix.lower() in _OTHER_FILES:
            raise InvalidInputError(
                f"cannot write a vector as {output.suffix} ({output}): use {', '.join(suffixes)}, or name a folder"
            )
    return (output or Path("vectors")) / f"{file_part(model)}_{file_part(Path(trait).stem)}.json"


def file_part(name: str) -> str:
    """The last part of a model's or trait's name, for a file name: ``Qwen/Qwen2.5-7B-Instruct`` gives ``Qwen2.5-7B-Instruct``.

    A GGUF file is called as its model is, without the ending.
    """
    last = name.rstrip("/\\").replace("\\", "/").rsplit("/", 1)[-1]
    last = last[: -len(".gguf")] if last.lower().endswith(".gguf") else last
    return "".join(sign if sign.isalnum() or sign in "._-" else "-" for sign in last).lstrip(".") or "unnamed"
