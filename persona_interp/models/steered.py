"""Steering for people's own code: plain hooks on a Hugging Face model, for as long as a ``with`` block lasts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from persona_interp.errors import UnsupportedError
from persona_interp.interventions.compile.hooks import FollowedCalls, hooked
from persona_interp.interventions.graph import InterventionGraph
from persona_interp.models.families import layout_of, text_config


@contextmanager
def steered(
    hf_model: nn.Module,
    graph: InterventionGraph,
    *,
    attention_mask: Tensor | None = None,
    n_prompt: Sequence[int] | None = None,
) -> Iterator[Any]:
    """Apply the writes of `graph` to every call of `hf_model` inside the block; the hooks are gone after it, also after an error.

    Works with ``hf_model(...)`` and ``hf_model.generate(...)``, padded on either side. Rows are those of the model's call: beams
    and several sequences a prompt multiply them. The steps of schedules are counted from the last call without cached tokens. Not
    to be mixed with the verbs of a `SteerableModel` of the same model.

    Example:
        >>> with steered(hf_model, vector.graph(coefficient=1.5)):
        ...     ids = hf_model.generate(**tokenizer(prompts, return_tensors="pt", padding=True, padding_side="left"))

    Args:
        hf_model: a Hugging Face model of a known architecture.
        graph: what to write; captures cannot be read here.
        attention_mask: ``[batch pos]`` of the prompts; None: the one each call is given, and without one every token counts.
        n_prompt: prompt tokens of each row, for a call that holds prompt and answer at once; None: the tokens of a call without
            cached ones before it are the prompt.

    Yields:
        `hf_model` itself.

    Raises:
        UnsupportedError: an unknown architecture, or a graph with captures.
        IncompatibleError: layers or width do not fit, as `InterventionGraph.check`.
        InvalidInputError: NaN or infinite values; while the model runs, a row its call does not have.
    """
    config: Any = hf_model.config
    layout = layout_of(config)
    if graph.captures:
        raise UnsupportedError(
            "steered() writes only: read residuals with SteerableModel.capture or .generate, which take the same graph"
        )
    blocks = list(hf_model.get_submodule(layout.blocks).children())
    d_model = int(text_config(config).hidden_size)
    graph.check(n_layers=len(blocks), d_model=d_model, model_name=config.name_or_path or type(hf_model).__name__)
    calls = FollowedCalls(graph, attention_mask, n_prompt)
    layers = {write.layer for write in graph.writes}
    start = hf_model.register_forward_pre_hook(calls.begin, with_kwargs=True)
    try:
        with hooked(blocks, layers, calls.apply):
            yield hf_model
    finally:
        start.remove()
