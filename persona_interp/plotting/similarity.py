"""How alike the layers of two models are, with the path of layers chosen."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go
from jaxtyping import Float
from torch import Tensor

from persona_interp.errors import InvalidInputError
from persona_interp.plotting.palette import BLACK, styled


def similarity_figure(
    similarity: Float[Tensor, "source_layer target_layer"],
    source: str,
    target: str,
    path: Sequence[int] = (),
    *,
    measure: str = "held-out R2",
) -> go.Figure:
    """A heatmap of the similarity of all pairs of layers; circles mark the target's layer chosen for each of the source's.

    Args:
        similarity: from `correspondence`.
        source: name of the source.
        target: name of the target.
        path: the target's layer for each of the source's; empty: none is marked.
        measure: what the colours are.

    Raises:
        InvalidInputError: `path` is not as long as the source has layers.
    """
    n_source, n_target = similarity.shape
    if path and len(path) != n_source:
        raise InvalidInputError(f"the path has {len(path)} layers, the source {n_source}: give one for each of the source's")
    figure = go.Figure(
        go.Heatmap(
            x=list(range(n_target)),
            y=list(range(n_source)),
            z=similarity.tolist(),
            colorscale="Cividis",
            colorbar={"title": {"text": measure}},
            hovertemplate=f"{source} layer %{{y}}<br>{target} layer %{{x}}<br>{measure} %{{z:.3f}}<extra></extra>",
        )
    )
    if path:
        figure.add_trace(
            go.Scatter(
                x=list(path), y=list(range(n_source)), mode="lines+markers", name="in order, best sum", hoverinfo="skip",
                line={"color": "white", "width": 2}, marker={"size": 12, "color": "white", "line": {"color": BLACK, "width": 1}},
            )
        )  # fmt: skip
    figure.update_xaxes(title_text=f"layer of {target} (0-based block, its output)", dtick=1, showgrid=False, zeroline=False)
    figure.update_yaxes(title_text=f"layer of {source} (0-based block, its output)", dtick=1, showgrid=False, zeroline=False)
    return styled(figure, f"Layers of {source} and {target}", legend="none", height=560)
