"""`Evaluation`: what steering did beside what controls did, with its report."""

from __future__ import annotations

from dataclasses import dataclass

from persona_interp.html_table import html_table
from persona_interp.measure.coherent_range import COHERENT as COHERENT
from persona_interp.measure.coherent_range import CoherentRange as CoherentRange
from persona_interp.measure.evaluation_scores import Controls as Controls
from persona_interp.measure.evaluation_scores import Curve as Curve
from persona_interp.measure.evaluation_scores import EvaluationScores
from persona_interp.measure.report import result_headings, result_rows
from persona_interp.measure.verdict import verdict


@dataclass(frozen=True)
class Evaluation(EvaluationScores):
    """One vector in one model, measured against controls; see `EvaluationScores` for all there is.

    Notebooks show it as a verdict and a table.
    """

    def _repr_html_(self) -> str:
        """In a notebook: the verdict, and a row for each coefficient beside its controls."""
        columns = dict(zip(result_headings(self), zip(*result_rows(self), strict=True), strict=True))
        return html_table(" ".join([verdict(self), *self.notes]), columns)
