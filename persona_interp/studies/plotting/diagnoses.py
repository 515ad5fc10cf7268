"""Many diagnoses at once: what each fix adds in every pair of models, and verdicts against faults that were planted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from persona_interp.errors import InvalidInputError
from persona_interp.measure.diagnostics.causes import CAUSES, named, subsets
from persona_interp.plotting.dots import dots, share_panels, shared_range
from persona_interp.plotting.palette import BLACK, BLUE, GREEN, GREY, MISSING, ORANGE, SKY, styled
from persona_interp.studies.diagnoses.pairs_bench import PairCase

_CAUSES = {"magnitude": (ORANGE, "/"), "basis": (BLUE, ""), "layers": (SKY, ".")}
"""Cause -> colour and pattern of its bars."""
_ALL = "+".join(CAUSES)


def contributions_figure(cases: Sequence[PairCase]) -> go.Figure:
    """What each fix adds to the recovery in every pair, a panel a trait, between nothing fixed and everything fixed.

    Bars are Shapley values; they add up from ``nothing fixed`` (cross) to ``all three fixed`` (dot). What a fix takes away stands
    left of the cross, and the bars then reach as far beyond the dot. The diamond is all three with the basis fixed by a map of
    states. Intervals (95 %) are over questions.

    Raises:
        InvalidInputError: there is no case.
    """
    traits = list(dict.fromkeys(case.trait for case in cases))
    if not traits:
        raise InvalidInputError("there is no diagnosis to draw: give at least one case")
    pairs = list(dict.fromkeys(_pair(case) for case in cases))
    estimates = [each for case in cases for each in (case.naive, case.full, case.by_states) if each is not None]
    reach = shared_range(estimates, 0, 1, *(end for case in cases for end in _ends(case)))
    figure = share_panels(traits, pairs, "recovery (1 = the target's own vector)", reach)
    for column, trait in enumerate(traits, start=1):
        mine = [case for case in cases if case.trait == trait]
        rows = [pairs.index(_pair(case)) for case in mine]
        starts = [_starts(case) for case in mine]
        for cause in _CAUSES:
            figure.add_trace(_added(mine, rows, starts, cause, in_legend=column == 1), row=1, col=column)
        marks = (
            ("nothing fixed", [case.naive for case in mine], (GREY, "x"), 0.3),
            ("all three fixed", [case.full for case in mine], (BLACK, "circle"), 0.0),
        )
        texts = [f"{_pair(case)}, {trait}<br>verdict: {case.verdict}" for case in mine]
        for name, values, look, lane in marks:
            series = dots(values, rows, name, look, texts=texts, lane=lane, size=8, in_legend=column == 1)
            figure.add_trace(series, row=1, col=column)
        known = [(case.by_states, row, text) for case, row, text in zip(mine, rows, texts, strict=True) if case.by_states]
        figure.add_trace(
            dots(
                [value for value, _, _ in known], [row for _, row, _ in known], "all three, basis by states",
                (GREEN, "diamond"), texts=[text for _, _, text in known], lane=-0.3, size=8, in_legend=column == 1,
            ),
            row=1, col=column,
        )  # fmt: skip
    title = "Why vectors fail as they are: what each of three fixes adds (Shapley values)"
    return styled(figure, title, legend="beside", height=150 + 50 * len(pairs), barmode="overlay", bargap=0.5)


def _starts(case: PairCase) -> dict[str, float]:
    """Where each fix's bar begins: gains follow each other to the right from ``nothing fixed``, losses to the left."""
    begin = case.naive.value or 0.0
    gained = lost = begin
    found: dict[str, float] = {}
    for cause in _CAUSES:
        added = 0.0 if case.attribution is None else case.attribution[cause]
        found[cause] = gained if added >= 0 else lost
        gained, lost = gained + max(0.0, added), lost + min(0.0, added)
    return found


def _ends(case: PairCase) -> list[float]:
    """Where each fix's bar ends."""
    return [start + (case.attribution or {}).get(cause, 0.0) for cause, start in _starts(case).items()]


def _added(
    cases: Sequence[PairCase], rows: Sequence[int], starts: Sequence[Mapping[str, float]], cause: str, *, in_legend: bool
) -> go.Bar:
    colour, pattern = _CAUSES[cause]
    return go.Bar(
        orientation="h",
        x=[None if case.attribution is None else case.attribution[cause] for case in cases],
        base=[start[cause] for start in starts],
        y=list(rows),
        name=f"fix of {cause}",
        marker={"color": colour, "pattern": {"shape": pattern, "size": 5, "fgcolor": "white"}},
        customdata=[_contribution(case, cause) for case in cases],
        hovertemplate="%{customdata}<extra></extra>",
        legendgroup=cause,
        showlegend=in_legend,
    )


def _contribution(case: PairCase, cause: str) -> str:
    added = "" if case.attribution is None else f"<br>its fix adds {case.attribution[cause]:.2f}"
    return f"{_pair(case)}, {case.trait}<br>{cause}: {case.causes.get(cause, '–')}{added}"


def _pair(case: PairCase) -> str:
    return f"{case.source.removeprefix('organism-')} → {case.target.removeprefix('organism-')}"


def confusion_figure(confusion: Mapping[str, Mapping[str, int]]) -> go.Figure:
    """Verdicts against the faults that were planted: how many twins fell into each cell. On the diagonal they are exact.

    Raises:
        InvalidInputError: nothing was counted.
    """
    if not confusion:
        raise InvalidInputError("no twin was counted: give at least one")
    known = [named(causes) for causes in subsets()]
    said = [*known, *dict.fromkeys(name for row in confusion.values() for name in row if name not in known)]
    cells = [[confusion.get(planted, {}).get(verdict, 0) for verdict in said] for planted in known]
    total = sum(map(sum, cells))
    exact = sum(confusion.get(name, {}).get(name, 0) for name in known)
    shown = [name.replace("+", " +<br>") for name in said]
    figure = go.Figure(
        go.Heatmap(
            x=shown,
            y=[name.replace("+", " + ") for name in known],
            z=[[value or None for value in row] for row in cells],
            text=[[str(value) if value else "" for value in row] for row in cells],
            texttemplate="%{text}",
            textfont={"size": 15, "color": BLACK},
            colorscale=[[0.0, "#FFFFFF"], [1.0, "#5AA9DC"]],
            zmin=0,
            zmax=max(map(max, cells)),
            showscale=False,
            xgap=2,
            ygap=2,
            hovertemplate="planted %{y}<br>called %{x}<br>%{z} twins<extra></extra>",
        )
    )
    figure.update_xaxes(title_text="verdict", type="category", showgrid=False, tickangle=0)
    figure.update_yaxes(title_text="faults planted", type="category", showgrid=False, autorange="reversed", automargin=True)
    title = f"Verdicts on exact twins with known faults: {exact} of {total} are exact"
    return styled(figure, title, legend="none", height=560, plot_bgcolor=MISSING)
