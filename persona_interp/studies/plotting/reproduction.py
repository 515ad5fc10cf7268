"""The figures of a reproduction: doses of all vectors, and the matrix of transfers."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from persona_interp.measure.coherent_range import COHERENT
from persona_interp.measure.transfer_evaluation import TransferEvaluation
from persona_interp.plotting.palette import colour_and_symbol, diverging, styled
from persona_interp.studies.reproduction.results import Reproduction


def reproduction_figures(found: Reproduction) -> list[go.Figure]:
    """Doses and coherence of every trait, then a matrix of recoveries for every trait."""
    traits = list(dict.fromkeys(each.trait for each in found.evaluations))
    matrices = [_matrix([each for each in found.transfers if each.trait == trait], trait) for trait in traits]
    return [*(_doses(found, trait) for trait in traits), *matrices]


def _doses(found: Reproduction, trait: str) -> go.Figure:
    figure = make_subplots(rows=1, cols=2, horizontal_spacing=0.12)
    mine = [each for each in found.evaluations if each.trait == trait]
    for number, each in enumerate(mine):
        colour, symbol = colour_and_symbol(number)
        doses = [point.coefficient for point in each.curve]
        for column, values in enumerate(
            ([point.trait for point in each.curve], [point.coherence for point in each.curve]), start=1
        ):
            figure.add_trace(
                go.Scatter(
                    x=doses, y=values, name=each.model, mode="lines+markers", legendgroup=each.model, showlegend=column == 1,
                    line={"color": colour}, marker={"symbol": symbol, "size": 9},
                    hovertemplate=f"{each.model}<br>coefficient %{{x}}<br>%{{y:.0f}}<extra></extra>",
                ),
                row=1, col=column,
            )  # fmt: skip
    bound = {"x0": 0, "x1": 1, "xref": "x2 domain", "y0": COHERENT, "y1": COHERENT, "yref": "y2"}
    figure.add_shape(type="line", line={"dash": "dot", "width": 1}, **bound)
    figure.update_xaxes(title_text="coefficient")
    for column, name in enumerate((f"{trait}, 0-100", "coherence, 0-100"), start=1):
        figure.update_yaxes(range=[-3, 103], title_text=name, row=1, col=column)
    return styled(figure, f"{trait}: score and coherence at each coefficient, every model's own vector", height=460)


def _matrix(transfers: Sequence[TransferEvaluation], trait: str) -> go.Figure:
    sources = list(dict.fromkeys(each.source for each in transfers))
    targets = list(dict.fromkeys(each.target for each in transfers))
    sources.sort(key=lambda name: targets.index(name) if name in targets else -1)
    known = {(each.source, each.target): each.recovery for each in transfers}
    cells = [[known.get((source, target)) for target in targets] for source in sources]
    texts = [["" if cell is None else str(cell).replace(" [", "<br>[") for cell in row] for row in cells]
    figure = go.Figure(
        go.Heatmap(
            x=targets, y=sources, z=[[None if cell is None else cell.value for cell in row] for row in cells], text=texts,
            texttemplate="%{text}", colorscale=diverging(), zmin=-1.5, zmax=1.5, colorbar={"title": {"text": "recovery"}},
            hovertemplate="%{y} to %{x}<br>recovery %{text}<extra></extra>",
        )
    )  # fmt: skip
    figure.update_xaxes(title_text="target")
    figure.update_yaxes(title_text="source", autorange="reversed")
    return styled(figure, f"{trait}: share of the target's own vector's effect", legend="none", height=130 + 90 * len(sources))
