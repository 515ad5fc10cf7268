"""Preventative steering: a persona vector is added while a model is trained, so that training need not learn it.

*Persona Vectors*, arXiv 2507.21509, section 5: what the data would push the model towards is given to it from outside, the loss
is met without the weights moving there, and when the vector is taken away the trait goes with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import nn

from persona_interp.errors import InvalidInputError, UnsupportedError
from persona_interp.interventions.compile.eager import uncompiled
from persona_interp.interventions.graph import InterventionGraph
from persona_interp.models.families import layout_of, text_config
from persona_interp.models.unwrapped import unwrapped
from persona_interp.training.training_calls import TrainingCalls


def _always() -> bool:
    return True


@contextmanager
def preventing(model: Any, graph: InterventionGraph, *, wanted: Callable[[], bool] = _always) -> Iterator[Any]:
    """Apply the writes of `graph` to every call of `model` inside the block that gradients are taken through, and to no other.

    Calls under ``torch.no_grad()`` (evaluation, generation, a reference model that shares the weights) are as without the block.
    The hooks are gone after it, also after an error. Gradients are exact with gradient checkpointing, reentrant or not, and with
    accumulation, in whatever order batches run forwards and backwards. Adapters, frozen layers and ``torch.compile`` (which is
    off inside the block) change nothing of that; adapters may be added and removed inside it.

    A graph says what it writes, not whose vector it is: `PersonaVector.check_fits` and `lineage.kinship` tell a vector of another
    model, and `finetune` asks them.

    Example:
        >>> with preventing(hf_model, vector.graph(ratio=0.3, layers=[12])):
        ...     trainer.train()

    Args:
        model: a Hugging Face model of a known architecture, also as PEFT, ``torch.compile`` or ``DistributedDataParallel`` wrap
            it, or a `SteerableModel` with one.
        graph: what to write, at all rows. ``"prompt"``, ``"response"`` and schedules go by the ``labels`` the model is called
            with: what carries a loss is the answer, and the token before it belongs to ``"response"``.
        wanted: asked before each call of the model; False leaves that call as it is.

    Yields:
        `model` itself.

    Raises:
        UnsupportedError: an unknown architecture, a graph with captures or rows; while the model runs, a call without labels
            where they are needed, or activations that were moved elsewhere between a block and its gradients.
        IncompatibleError: layers or width do not fit, as `InterventionGraph.check`.
        InvalidInputError: the graph writes nothing, NaN or infinite values, or a model without a config.
    """
    hf_model: Any = unwrapped(_module(model))
    if graph.captures or any(write.rows is not None for write in graph.writes):
        raise UnsupportedError("preventing() only writes, and at all rows: read residuals with SteerableModel.capture")
    if not graph.writes:
        raise InvalidInputError("the graph has no Write, so training would go on as it is: give at least one, such as an Add")
    layout = layout_of(hf_model.config)
    blocks = list(hf_model.get_submodule(layout.blocks).children())
    name = hf_model.config.name_or_path or type(hf_model).__name__
    graph.check(n_layers=len(blocks), d_model=int(text_config(hf_model.config).hidden_size), model_name=name)
    calls = TrainingCalls(graph, wanted)
    with ExitStack() as stack:
        stack.enter_context(uncompiled())
        stack.callback(hf_model.register_forward_pre_hook(calls.begin, with_kwargs=True).remove)
        stack.callback(hf_model.register_forward_hook(calls.end, always_call=True).remove)
        for layer in sorted({write.layer for write in graph.writes}):
            stack.callback(blocks[layer].register_forward_hook(calls.hook(layer), with_kwargs=True).remove)
        yield model


def _module(model: Any) -> nn.Module:
    found = getattr(model, "hf_model", model)
    if not isinstance(found, nn.Module):
        raise UnsupportedError(f"{getattr(model, 'name', type(model).__name__)} has no weights here that could be trained")
    if getattr(unwrapped(found), "config", None) is None:
        raise InvalidInputError(f"a {type(found).__name__} is not a Hugging Face model: it has no config")
    return found
