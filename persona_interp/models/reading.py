"""`SteerableModel.read`: the residual stream at some texts as one tensor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from persona_interp.errors import InvalidInputError, unknown_name
from persona_interp.interventions.graph import Capture, InterventionGraph
from persona_interp.models.texts import rows
from persona_interp.residuals.pooling import POOLINGS

if TYPE_CHECKING:
    from persona_interp.models.steerable import SteerableModel

_EVERY, _LAST = "all", "last"
_INSTEAD = {"response_avg": "no answer to read: use positions='prompt_last', or give texts with answers"}


def read(
    model: SteerableModel,
    texts: Any,
    layers: int | Sequence[int] | None = None,
    positions: str = "response_avg",
    *,
    graph: InterventionGraph | None = None,
    batch_size: int | None = None,
) -> Float[Tensor, "text layer d_model"] | Float[Tensor, "text pos layer d_model"]:
    """The residual stream at texts, read after the writes of `graph` if one is given.

    Example:
        >>> h = model.read(["I adore it!", ("How are you?", "Splendid!")], layers=[8, 12])  # [text layer d_model]
        >>> vector.project(h[:, 1], layer=12)  # [text]

    Args:
        model: reads them.
        texts: one or several, see `models.texts`. A string is text without roles, whose first token counts as the prompt.
        layers: 0-based blocks, in the order of the result; all of them if None.
        positions: ``response_avg``: mean over the answer's tokens; ``prompt_avg``: over the prompt's; ``prompt_last``: the last
            prompt token; ``last``: the last token there is; ``all``: every token.
        graph: what is written meanwhile.
        batch_size: texts run together, chosen by the model if None.

    Returns:
        Float32 on the CPU, ``[text layer d_model]``; for ``all`` ``[text pos layer d_model]``, NaN behind shorter texts.

    Raises:
        InvalidInputError: a layer the model lacks, or a text without such a token.
        UnknownNameError: `positions` is none of these.
    """
    known = (*POOLINGS, _LAST, _EVERY)
    if positions not in known:
        raise unknown_name("positions", positions, known)
    chosen = tuple(range(model.n_layers)) if layers is None else (layers,) if isinstance(layers, int) else tuple(layers)
    if not chosen:
        raise InvalidInputError(f"no layer was given to read: choose from 0 to {model.n_layers - 1}")
    ascending = tuple(sorted(set(chosen)))
    every = positions in (_EVERY, _LAST)
    pooled = POOLINGS["response_avg" if every else positions]
    node = Capture("all", "none", ascending) if every else Capture(pooled.positions, pooled.reduction, ascending)
    writes = InterventionGraph() if graph is None else InterventionGraph(graph.writes)
    tokenised = rows(model.chat, texts)
    if not tokenised:
        raise InvalidInputError("there is no text to read: give at least one")
    found = model.capture(tokenised, writes + InterventionGraph((node,)), batch_size=batch_size)
    if missing := [place for place, each in enumerate(found) if node not in each]:
        raise InvalidInputError(f"text {missing[0]} has {_INSTEAD.get(positions, f'no token for positions={positions!r}')}")
    order = [ascending.index(layer) for layer in chosen]
    each_text = [each[node].float()[order] for each in found]
    if positions == _LAST:
        return torch.stack([resid[:, -1] for resid in each_text])
    if positions == _EVERY:
        longest = max(resid.shape[1] for resid in each_text)
        padded = torch.full((len(each_text), longest, len(chosen), model.d_model), torch.nan)
        for place, resid in enumerate(each_text):
            padded[place, : resid.shape[1]] = resid.transpose(0, 1)
        return padded
    return torch.stack(each_text)
