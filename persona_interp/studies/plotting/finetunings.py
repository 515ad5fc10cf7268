"""What each way of finetuning keeps of the task and lets through of the trait, a panel a model and trait."""

from __future__ import annotations

import plotly.graph_objects as go

from persona_interp.errors import InvalidInputError
from persona_interp.plotting.palette import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILION, styled
from persona_interp.studies.finetuning.arms import NOTHING
from persona_interp.studies.finetuning.report import KEPT, THROUGH, FinetuningStudy
from persona_interp.studies.finetuning.runs import FULL, MIXED

_LOOKS = (
    ("not finetuned", BLACK, "star"),
    (NOTHING, BLACK, "circle"),
    ("prevention", BLUE, "diamond"),
    ("random direction", GREY, "x"),
    ("KL to the base", ORANGE, "square"),
    ("inoculation prompt", PURPLE, "triangle-up"),
    ("steering afterwards", GREEN, "triangle-down"),
    ("ablation at each step", VERMILION, "cross"),
    ("projected writes", SKY, "hexagon"),
)


def finetunings_figure(study: FinetuningStudy) -> go.Figure:
    """Trait against task for every run; large marks: all samples have the trait, small ones: half of them. Best: below, right.

    Raises:
        InvalidInputError: the study has no run.
    """
    from plotly.subplots import make_subplots

    if not study.runs:
        raise InvalidInputError("the study has no run to draw: give at least one")
    benches = study.benches
    figure = make_subplots(rows=1, cols=len(benches), subplot_titles=benches, horizontal_spacing=0.07)
    for column, bench in enumerate(benches, start=1):
        runs = study.of(bench)
        base = next(run for run in runs if run.arm == "base")
        plain = next(run for run in runs if (run.arm, run.share) == (NOTHING, FULL))
        edge = base.task + KEPT * (plain.task - base.task), base.trait + THROUGH * (plain.trait - base.trait)
        figure.add_shape(
            type="rect", x0=edge[0], x1=106, y0=-6, y1=edge[1], fillcolor=BLUE, opacity=0.08, line_width=0, row=1, col=column
        )
        for name, color, symbol in _LOOKS:
            chosen = [
                run for run in runs if _called(run.arm).startswith(name) and (run.arm == "base" or run.share in (FULL, MIXED))
            ]
            figure.add_trace(
                go.Scatter(
                    x=[run.task for run in chosen],
                    y=[run.trait for run in chosen],
                    name=name,
                    legendgroup=name,
                    showlegend=column == 1,
                    mode="markers",
                    marker={"color": color, "symbol": symbol, "size": [13 if run.share != MIXED else 8 for run in chosen]},
                    text=[
                        f"{_called(run.arm)}, {run.share:.0%} with the trait<br>perplexity {run.perplexity:.2f}" for run in chosen
                    ],
                    hovertemplate="%{text}<br>task %{x:.0f}, trait %{y:.0f}<extra></extra>",
                ),
                row=1,
                col=column,
            )
    figure.update_xaxes(title_text="task learned (0 to 100)", range=[-6, 106], zeroline=False)
    figure.update_yaxes(range=[-6, 106], zeroline=False)
    figure.update_yaxes(title_text="trait (0 to 100)", col=1)
    title = "Finetuning on data with a trait: what is learned of the task, and what of the trait"
    return styled(figure, title, legend="beside", height=460)


def _called(arm: str) -> str:
    return "not finetuned" if arm == "base" else arm
