"""Figures: a result object goes in, a plotly Figure comes out. No model is ever called here."""

from __future__ import annotations

from persona_interp.plotting.attribution import ablation_figure, attribution_figure
from persona_interp.plotting.components import components_figure
from persona_interp.plotting.diagnosis import diagnoses_figure, diagnosis_figures
from persona_interp.plotting.dose import dose_figure
from persona_interp.plotting.effectiveness import effectiveness_figure
from persona_interp.plotting.evaluation import evaluation_figure
from persona_interp.plotting.html import save_html, save_html_folder
from persona_interp.plotting.layer_strips import layer_strips_figure
from persona_interp.plotting.layers import layer_figure
from persona_interp.plotting.lens import vector_lens_figure
from persona_interp.plotting.modulations import modulation_figure
from persona_interp.plotting.png import save_png, save_png_folder
from persona_interp.plotting.prediction import prediction_figure
from persona_interp.plotting.projections import projection_figure
from persona_interp.plotting.residuals import residual_figure
from persona_interp.plotting.scan import scan_figure
from persona_interp.plotting.similarity import similarity_figure
from persona_interp.plotting.strip import drift_figure, strip_figure
from persona_interp.plotting.transfer_evaluation import transfer_dose_figure, transfer_recovery_figure

__all__ = [
    "components_figure",
    "diagnoses_figure",
    "diagnosis_figures",
    "ablation_figure",
    "attribution_figure",
    "dose_figure",
    "drift_figure",
    "effectiveness_figure",
    "evaluation_figure",
    "layer_figure",
    "layer_strips_figure",
    "modulation_figure",
    "vector_lens_figure",
    "prediction_figure",
    "projection_figure",
    "residual_figure",
    "save_html",
    "save_html_folder",
    "save_png",
    "save_png_folder",
    "scan_figure",
    "similarity_figure",
    "strip_figure",
    "transfer_dose_figure",
    "transfer_recovery_figure",
]
