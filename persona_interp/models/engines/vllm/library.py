"""vLLM itself, imported when a model is loaded and never before, and how it is started here."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from importlib.metadata import entry_points
from importlib.util import find_spec
from typing import Any

from persona_interp.errors import InvalidInputError, PersonaInterpError, missing_extra
from persona_interp.models.engines.vllm.mounted import unmounted
from persona_interp.models.engines.vllm.plugin import DRAWS, LOAD_FORMAT, WORKER

_SETTINGS = {
    "VLLM_USE_V2_MODEL_RUNNER": "0",  # the one whose batch the slot map reads
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
}
"""Environment variables of vLLM, where they are not set."""
_CPU_CACHE = 2**30
_OURS = ("model", "tokenizer", "runner", "worker_extension_cls", "load_format", "logits_processors", "async_scheduling", "dtype")
_NO_COMPILER = "TORCH_COMPILE_DISABLE"
_OP = "persona_interp::block"


def vllm() -> Any:
    """The package.

    Raises:
        MissingExtraError: it is not installed.
    """
    if find_spec("vllm") is None:
        raise missing_extra("engine 'vllm'", "vllm")
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    import vllm as library

    return library


def start(location: str, *, dtype: str, revision: str | None, tensor_parallel_size: int, options: Mapping[str, Any]) -> Any:
    """A running ``LLM`` whose workers steer.

    Args:
        location: a folder or hub id.
        dtype: by its name.
        revision: of the hub repository.
        tensor_parallel_size: GPUs that hold a model together.
        options: further arguments of ``LLM``, which go before those chosen here.

    Raises:
        InvalidInputError: an option that decides what the plugin must decide.
        PersonaInterpError: vLLM does not start.
    """
    if taken := sorted(set(options) & set(_OURS)):
        raise InvalidInputError(f"engine_options gives {', '.join(taken)}, which load_model decides itself: leave it out")
    if "persona_interp" not in {point.name for point in entry_points(group="vllm.general_plugins")}:
        raise PersonaInterpError(
            "vLLM cannot find the plugin of this package, whose installed metadata are older than its code: install it again "
            "(pip install -e . or pip install --upgrade persona-interp)"
        )
    library = vllm()
    arguments: dict[str, Any] = {
        "tensor_parallel_size": tensor_parallel_size,
        "revision": revision,
        "skip_tokenizer_init": True,
        "enable_prefix_caching": True,
        **_by_platform(options),
        **options,
    }
    eager = arguments.get("enforce_eager", False)
    try:
        with unmounted(), _compiling_nothing() if eager else nullcontext():
            return library.LLM(
                location,
                dtype=dtype,
                worker_extension_cls=WORKER,
                load_format=LOAD_FORMAT,
                logits_processors=[DRAWS],
                async_scheduling=False,  # would run a token behind the end of an answer, and captures would read it
                additional_config={"persona_interp": LOAD_FORMAT},  # graphs compiled with hooks are kept apart from others
                **arguments,
            )
    except (ValueError, RuntimeError, NotImplementedError, TypeError) as error:
        raise PersonaInterpError(f"vLLM does not start with {location}: {error}") from error


@contextmanager
def _compiling_nothing() -> Iterator[None]:
    """Processes started in this block compile nothing: vLLM has small compiled functions of its own, which cost a minute once."""
    before = os.environ.get(_NO_COMPILER)
    os.environ[_NO_COMPILER] = "1"
    try:
        yield
    finally:
        os.environ.pop(_NO_COMPILER)
        if before is not None:
            os.environ[_NO_COMPILER] = before


def _by_platform(options: Mapping[str, Any]) -> dict[str, Any]:
    """On a CPU no compiler and a small cache; on a GPU graphs that are cut at our operation, which reads what a step wants."""
    from vllm.platforms import current_platform  # pyright: ignore[reportMissingImports]

    if current_platform.is_cpu():
        return {"enforce_eager": True, "kv_cache_memory_bytes": _CPU_CACHE}
    if options.get("enforce_eager") or "compilation_config" in options:
        return {}
    from vllm.config import CompilationConfig  # pyright: ignore[reportMissingImports]

    cut = [*CompilationConfig._attention_ops, _OP]
    return {"compilation_config": {"splitting_ops": cut, "cudagraph_mode": "PIECEWISE"}}
