"""The engines there are, what each opens and can do, and the one place that refuses what one of them cannot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from persona_interp.errors import UnsupportedError
from persona_interp.interventions.graph import InterventionGraph
from persona_interp.models.engines.capabilities import WORDS, Capabilities, Need
from persona_interp.models.source import ModelSource
from persona_interp.registry import Registry

Load: TypeAlias = Callable[[ModelSource, Any, Any, bool | str], Any]
"""Of (source, `LoadOptions`, tokenizer, remote), as given to `load_model`: the `SteerableModel`."""


@dataclass(frozen=True)
class EngineKind:
    """An engine as `load_model` knows it.

    Attributes:
        name: what ``engine=`` and ``--engine`` call it.
        opens: whether it can run what is found at a place.
        load: makes the model of it.
        capabilities: of its models, as long as nothing special is asked of it (a remote run, say).
        runs: what it opens, in the plural, for errors and help.
    """

    name: str
    opens: Callable[[ModelSource], bool]
    load: Load
    capabilities: Capabilities
    runs: str


ENGINES: Registry[EngineKind] = Registry(
    "engine", "persona_interp.engines", home="persona_interp.models.engines.built_in", first=("torch", "llama.cpp")
)
"""Every engine by its name. Entry points of the group ``persona_interp.engines`` add to it."""

_REMEDIES: dict[Need, str] = {
    "gradients": "Use method 'likelihood' instead",
    "unembedding": "Use method 'likelihood', or for biases reading 'shift'",
}


def register_engine(
    name: str, *, opens: Callable[[ModelSource], bool], load: Load, capabilities: Capabilities, runs: str
) -> None:
    """Let `load_model`, ``--engine`` of the commands and their help know an engine.

    A model is run by the first engine that opens it, unless another is asked for: built-in ones come first.

    Example:
        >>> def opens(source): return source.location.endswith(".mine")
        >>> register_engine("mine", opens=opens, load=load, capabilities=Capabilities("mine"), runs="files of mine")

    Args:
        name: not given yet.
        opens: whether it can run what is found at a place; asked often, so quick.
        load: of (source, options, tokenizer, remote), makes a ``SteerableModel(engine, tokenizer, name=source.name)``.
        capabilities: what it can do.
        runs: what it opens, in the plural, such as ``GGUF files``.

    Raises:
        InvalidInputError: the name is taken.
    """
    ENGINES.register(name, EngineKind(name, opens, load, capabilities, runs), by=load)


def check(graph: InterventionGraph, capabilities: Capabilities, model_name: str, needs: Sequence[Need] = ()) -> None:
    """Raise unless an engine can do all that is asked of it.

    Args:
        graph: to be run.
        capabilities: of the engine.
        model_name: for the message.
        needs: what the verb itself asks for.

    Raises:
        UnsupportedError: names the model, the engine, the first thing it cannot do, and which engine can.
    """
    lack = capabilities.lacks(graph, needs)
    if lack is None:
        return
    able = [kind.name for kind in ENGINES.values() if kind.capabilities.lacks(graph, needs) is None]
    names = " or ".join(map(repr, able))
    others = f"; on this machine engine {names} can (engine={able[0]!r}, --engine {able[0]})" if able else ""
    remedy = next((f". {_REMEDIES[need]}" for need in needs if not getattr(capabilities, need) and need in _REMEDIES), "")
    raise UnsupportedError(f"{model_name} runs in {capabilities.engine}, which {lack}{others}{remedy}")


def capability_table() -> str:
    """What works on which engine, as a Markdown table, which README and docs show."""
    kinds = list(ENGINES.values())
    yes = {True: "yes", False: "no"}
    rows: list[tuple[str, list[str]]] = [
        ("opens", [kind.runs for kind in kinds]),
        ("operations", [kind.capabilities.kinds for kind in kinds]),
        ("steers from layer", [str(kind.capabilities.first_layer) if kind.capabilities.steers else "–" for kind in kinds]),
        ("positions", [", ".join(kind.capabilities.positions) if kind.capabilities.steers else "–" for kind in kinds]),
    ]
    for field in ("conditions", "schedules", "rows"):
        rows.append((_CALLED[field], [yes[kind.capabilities.steers and getattr(kind.capabilities, field)] for kind in kinds]))
    rows += [(words, [yes[getattr(kind.capabilities, need)] for kind in kinds]) for need, words in WORDS.items()]
    lines = [("what", [f"`{kind.name}`" for kind in kinds]), ("---", ["---"] * len(kinds)), *rows]
    return "\n".join("| " + " | ".join((first, *rest)) + " |" for first, rest in lines)


_CALLED = {"conditions": "conditions", "schedules": "schedules", "rows": "steer each row of a batch differently"}
