"""Writes that stand for as long as a ``with`` block lasts, whoever runs the model in it: its verbs, or code on the weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from persona_interp.errors import UnsupportedError
from persona_interp.interventions.graph import InterventionGraph
from persona_interp.models.engines.protocol import Engine
from persona_interp.models.steered import steered


@contextmanager
def standing(model: Any, graph: InterventionGraph) -> Iterator[Any]:
    """Apply the writes of `graph` to all that `model` does within the block, before those of any graph a verb is given.

    Args:
        model: a `SteerableModel`, or a Hugging Face model (`steered`).
        graph: what to write; its writes name no rows, as every call has others.

    Yields:
        `model` itself.

    Raises:
        UnsupportedError: a graph with captures or rows; within the block, gradients, which are of the unsteered model.
        IncompatibleError: layers or width do not fit, as `InterventionGraph.check`.
    """
    if graph.captures or any(write.rows is not None for write in graph.writes):
        raise UnsupportedError("what steers a model for a whole block only writes, and at all rows: give such a graph to a verb")
    engine = getattr(model, "engine", None)
    if not isinstance(engine, Engine):
        with steered(model, graph):
            yield model
        return
    graph.check(n_layers=model.n_layers, d_model=model.d_model, model_name=model.name)
    held = _Hooks(getattr(model, "hf_model", None), graph)
    with held:
        model.engine = _Standing(engine, graph, held)
        try:
            yield model
        finally:
            model.engine = engine


class _Hooks:
    """The hooks on the weights, which are off while a verb runs: the verb's engine writes by itself."""

    def __init__(self, hf_model: Any, graph: InterventionGraph) -> None:
        self._model, self._graph, self._on = hf_model, graph, ExitStack()

    def __enter__(self) -> _Hooks:
        if self._model is not None:
            self._on.enter_context(steered(self._model, self._graph))
        return self

    def __exit__(self, *_: object) -> None:
        self._on.close()

    @contextmanager
    def off(self) -> Iterator[None]:
        self._on.close()
        try:
            yield
        finally:
            self.__enter__()


class _Standing(Engine):
    """An engine that puts writes before those of every graph it is given, and is otherwise the one it stands for."""

    def __init__(self, engine: Engine, graph: InterventionGraph, hooks: _Hooks) -> None:
        self._engine, self._graph, self._hooks = engine, graph, hooks
        self.name, self.capabilities, self.config = engine.name, engine.capabilities, engine.config
        self.n_layers, self.n_ctx, self.file_fingerprint = engine.n_layers, engine.n_ctx, engine.file_fingerprint

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    @property
    def dtype(self) -> torch.dtype:
        return self._engine.dtype

    @property
    def device(self) -> torch.device:
        return self._engine.device

    @property
    def runs_here(self) -> bool:
        return self._engine.runs_here

    @property
    def fingerprint(self) -> str:
        return self._engine.fingerprint

    def generate(self, prompts: Any, graph: InterventionGraph, *args: Any, **options: Any) -> Any:
        with self._hooks.off():
            return self._engine.generate(prompts, self._graph + graph, *args, **options)

    def next_logits(self, prompts: Any, graph: InterventionGraph) -> Any:
        with self._hooks.off():
            return self._engine.next_logits(prompts, self._graph + graph)

    def capture(self, rows: Any, graph: InterventionGraph) -> Any:
        with self._hooks.off():
            return self._engine.capture(rows, self._graph + graph)

    def log_probs(self, rows: Any, graphs: Sequence[InterventionGraph]) -> Any:
        with self._hooks.off():
            return self._engine.log_probs(rows, [self._graph + graph for graph in graphs])

    def gradient(self, rows: Any, layers: Any, weights: Any) -> Any:
        raise UnsupportedError(f"{self.name} is being steered, and its gradient is of the unsteered model: ask after the block")

    def unembed(self, resid: Any) -> Any:
        return self._engine.unembed(resid)

    def walks(self, longest: int) -> bool:
        """No: what is walked is not steered. Prompts are then run one by one, which is."""
        return False

    def close(self) -> None:
        self._engine.close()
