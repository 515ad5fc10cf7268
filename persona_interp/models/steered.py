"""Steering for people's own code: plain hooks on a Hugging Face model, for as long as a ``with`` block lasts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from persona_interp.errors import InvalidInputError, UnsupportedError
from persona_interp.interventions.compile.eager import uncompiled
from persona_interp.interventions.compile.followed_calls import FollowedCalls
from persona_interp.interventions.compile.hooks import hooked
from persona_interp.interventions.graph import InterventionGraph
from persona_interp.models.families import layout_of, text_config
from persona_interp.models.unwrapped import unwrapped


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
    and several sequences a prompt multiply them. Compiled models run as plain ones inside the block. Not to be mixed with the
    verbs of a `SteerableModel` of the same model.

    In ``generate`` the prompt is what it was given, in however many pieces that reaches the model (chunks, a prefix in a cache, a
    further turn over one cache). Tokens that lie in a cache stay as they were written when they ran. In other code a call without
    cached tokens is a prompt, and single tokens behind it are its answer, from whose first one the steps of schedules count.
    Where that leaves the end of a prompt open, and `graph` depends on it (positions ``"prompt"`` or ``"response"``, schedules),
    the call is refused: several tokens behind a cache, the ids of the call before and one more, packed texts. `n_prompt` settles
    it.

    Example:
        >>> with steered(hf_model, vector.graph(1.5, layers=[12])):
        ...     ids = hf_model.generate(**tokenizer(prompts, return_tensors="pt", padding=True, padding_side="left"))

    Args:
        hf_model: a Hugging Face model of a known architecture, also as ``torch.compile``, PEFT or ``DistributedDataParallel``
            wrap it.
        graph: what to write; captures cannot be read here.
        attention_mask: ``[batch pos]`` of the prompts; None: the one each call is given, and without one every token counts.
        n_prompt: prompt tokens of each row, those in a cache among them and pads not; None: as said above.

    Yields:
        `hf_model` itself.

    Raises:
        UnsupportedError: an unknown architecture, or a graph with captures; while the model runs, a call in which pads or the
            end of the prompt cannot be told, or a block that runs where hooks do not see it.
        IncompatibleError: layers or width do not fit, as `InterventionGraph.check`.
        InvalidInputError: NaN or infinite values; while the model runs, rows or prompt lengths that its call does not have.
    """
    model: Any = unwrapped(hf_model)
    config: Any = getattr(model, "config", None)
    if config is None:
        raise InvalidInputError(f"a {type(model).__name__} is not a Hugging Face model: it has no config")
    layout = layout_of(config)
    if graph.captures:
        raise UnsupportedError(
            "steered() writes only: read residuals with SteerableModel.capture or .generate, which take the same graph"
        )
    blocks = list(model.get_submodule(layout.blocks).children())
    d_model = int(text_config(config).hidden_size)
    graph.check(n_layers=len(blocks), d_model=d_model, model_name=config.name_or_path or type(model).__name__)
    calls = FollowedCalls(graph, attention_mask, n_prompt)
    layers = {write.layer for write in graph.writes} | {0}  # block 0 always runs: it shows that hooks are seen
    decoder = model.get_submodule(layout.blocks.rpartition(".")[0])
    with uncompiled(), calls.following(model, None if decoder is model else decoder), hooked(blocks, layers, calls.apply):
        yield hf_model
