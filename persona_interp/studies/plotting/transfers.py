"""What arrived where a vector was carried: recoveries of all pairs beside their controls, and whether support foresaw them."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from persona_interp.errors import InvalidInputError
from persona_interp.measure.statistics import Estimate
from persona_interp.plotting.dots import dots, lanes, share_panels, shared_range
from persona_interp.plotting.palette import BLUE, GREEN, GREY, ROLES, SYMBOLS, styled
from persona_interp.studies.transfers import TransferCase, support
from persona_interp.transfers.coverage import ENOUGH

_STATES = "ridge"
"""The map of states that is shown; the others do about as well."""
_SERIES = (
    ("carried by effects", "effects", "effects"),
    (f"carried by states ({_STATES})", _STATES, "states"),
    ("equal relative depth", "equal depth", "equal depth"),
    ("prompt only", "prompt only", "prompt only"),
    ("other trait's vector", "wrong trait", "other trait"),
    ("shuffled anchors", "shuffled", "shuffled"),
    ("cut or padded (naive)", "naive", "naive"),
    ("random direction", "random", "random"),
)
"""(shown as, name in the case, its look)"""


def recovery_figure(cases: Sequence[TransferCase]) -> go.Figure:
    """Recovery of every pair by both ways of carrying and under every control, a panel a trait, with 95 % intervals.

    1 is the effect of the target's own vector, 0 none. The layer is left as it was carried, but for ``equal relative depth``.

    Raises:
        InvalidInputError: there is no case.
    """
    traits = list(dict.fromkeys(case.trait for case in cases))
    if not traits:
        raise InvalidInputError("there is no transfer to draw: give at least one case")
    pairs = list(dict.fromkeys(_pair(case) for case in cases))
    reach = shared_range([_recovery(case, key) for case in cases for _, key, _ in _SERIES], 0, 1)
    figure = share_panels(traits, pairs, "recovery (1 = the target's own vector)", reach)
    for column, trait in enumerate(traits, start=1):
        mine = [case for case in cases if case.trait == trait]
        rows = [pairs.index(_pair(case)) for case in mine]
        for (name, key, role), lane in zip(_SERIES, lanes(len(_SERIES)), strict=True):
            found = [_recovery(case, key) for case in mine]
            texts = [f"{_pair(case)}, {trait}" for case in mine]
            series = dots(found, rows, name, ROLES[role], texts=texts, lane=lane, size=7, in_legend=column == 1)
            figure.add_trace(series, row=1, col=column)
    title = "What arrives of a vector carried into another family, at equal perturbation ratio"
    return styled(figure, title, legend="beside", height=150 + 58 * len(pairs))


def _recovery(case: TransferCase, key: str) -> Estimate:
    return case.recoveries[key] if key in case.recoveries else case.controls[key]


def _pair(case: TransferCase) -> str:
    return f"{case.source.removeprefix('organism-')} → {case.target.removeprefix('organism-')}"


def support_figure(cases: Sequence[TransferCase]) -> go.Figure:
    """Recovery against what the report said beforehand (support), by effects and by states.

    A marker a trait; filled with all styles among the anchors, open where those of the trait were left out. The line stands where
    the warning is due. Cases in which recovery is not defined are left out.

    Raises:
        InvalidInputError: there is no case.
    """
    if not cases:
        raise InvalidInputError("there is no transfer to draw: give at least one case")
    traits = list(dict.fromkeys(case.trait for case in cases))
    kinds = (("effects", "effects", BLUE), ("states", _STATES, GREEN))
    titles = [f"carried by {kind}" if kind == method else f"carried by {kind} ({method})" for kind, method, _ in kinds]
    figure = make_subplots(rows=1, cols=2, shared_yaxes=True, horizontal_spacing=0.05, subplot_titles=titles)
    for column, (kind, method, colour) in enumerate(kinds, start=1):
        for trait, symbol in zip(traits, SYMBOLS, strict=False):
            for left_out in (False, True):
                figure.add_trace(
                    _supported([case for case in cases if case.trait == trait], kind, method, left_out, colour, symbol),
                    row=1, col=column,
                )  # fmt: skip
        figure.add_vline(x=ENOUGH[kind], line={"color": GREY, "dash": "dot", "width": 1}, row=1, col=column)  # pyright: ignore[reportArgumentType]
        figure.add_annotation(
            x=ENOUGH[kind], y=0.01, yref="y domain", text="warned below ", showarrow=False, xanchor="right", yanchor="bottom",
            font={"size": 12, "color": GREY}, row=1, col=column,
        )  # fmt: skip
    figure.add_hline(y=0, line={"color": GREY, "width": 1})
    figure.add_hline(y=1, line={"color": GREY, "width": 1, "dash": "dot"})
    figure.update_xaxes(title_text="support (0 to 1)", title_font_size=14, range=[-0.03, 1.03], zeroline=False)
    figure.update_yaxes(zeroline=False)
    figure.update_yaxes(title_text="recovery (1 = the target's own vector)", title_font_size=14, row=1, col=1)
    for trait, symbol in zip(traits, SYMBOLS, strict=False):
        for name, shown in ((trait, symbol), (f"{trait}, style left out", f"{symbol}-open")):
            key = go.Scatter(x=[None], y=[None], mode="markers", name=name, marker={"symbol": shown, "size": 9, "color": GREY})
            figure.add_trace(key, row=1, col=1)
    title = "Does support, which is known before anything is generated, foresee what arrives?"
    return styled(figure, title, legend="beside", height=560)


def _supported(cases: Sequence[TransferCase], kind: str, method: str, left_out: bool, colour: str, symbol: str) -> go.Scatter:
    """The cases of one trait in one panel."""
    found = [
        (case, support(case, kind, left_out=left_out), (case.left_out["recoveries"] if left_out else case.recoveries)[method])
        for case in cases
    ]
    known = [(case, x, y) for case, x, y in found if x is not None and y.value is not None]
    style = ", the trait's style left out of the anchors" if left_out else ""
    return go.Scatter(
        x=[x for _, x, _ in known],
        y=[y.value for _, _, y in known],
        mode="markers",
        marker={
            "symbol": f"{symbol}-open" if left_out else symbol,
            "size": 9,
            "color": colour,
            "line": {"width": 1.4, "color": colour},
        },
        customdata=[f"{_pair(case)}, {case.trait}{style}<br>support {x:.2f}<br>recovery {y}" for case, x, y in known],
        hovertemplate="%{customdata}<extra></extra>",
        showlegend=False,
    )
