"""An evaluation as one web page that needs no network: the figure, then the sections of its Markdown report as tables."""

from __future__ import annotations

from pathlib import Path

from persona_interp.measure.evaluation import Evaluation
from persona_interp.measure.parts import part_names
from persona_interp.measure.report import sections, title
from persona_interp.plotting.evaluation import evaluation_figure
from persona_interp.plotting.parts import parts_figure
from persona_interp.plotting.sections_page import save_sections


def save_report(path: str | Path, evaluation: Evaluation) -> Path:
    """Write the report as a page that opens offline (about 5 MB: plotly's script is inside).

    Raises:
        PersonaInterpError: the file cannot be written; nothing is left behind.
    """
    figures = [evaluation_figure(evaluation)]
    if part_names(evaluation.curve):
        figures.append(parts_figure(evaluation))
    return save_sections(path, title(evaluation), sections(evaluation), figures)
