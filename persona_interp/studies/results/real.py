"""What steering did in a real model."""

from __future__ import annotations

from pathlib import Path

from persona_interp.measure.bootstrap import QuestionBootstrap, answers_each
from persona_interp.measure.dose import DoseResponse
from persona_interp.measure.markdown_table import markdown_table
from persona_interp.measure.report import shown
from persona_interp.storage import read_json
from persona_interp.studies.gallery.steering import REAL_DATA


def real_doses(folder: Path) -> str:
    """A row for each dose, with 95 % intervals over questions, and one question's answers."""
    dose = DoseResponse.from_json(read_json(folder / REAL_DATA, "dose response"), source=REAL_DATA)
    points = sorted(dose.points, key=lambda point: point.coefficient)
    samples = answers_each(dose.provenance, points[0].n)
    bootstrap = QuestionBootstrap(points[0].n // samples, samples)
    rows: list[tuple[str, ...]] = []
    for point in points:
        sign = -1 if point.coefficient < 0 else 1
        ratio = "0" if not point.coefficient else f"{sign * (point.perturbation_ratio or 0.0):+.2f}"
        trait, coherence = bootstrap.mean(point.trait_scores), bootstrap.mean(point.coherence_scores)
        rows.append((ratio, f"{point.coefficient:+.3g}" if point.coefficient else "0", shown(trait), shown(coherence)))
    where = f"{dose.model}, {dose.vector} at layer {', '.join(map(str, dose.layers))}, judge {dose.judge}"
    table = markdown_table(("ratio", "coefficient", dose.trait, "coherence"), rows)
    return "\n".join([f"{where}; {points[0].n} answers at each dose:", "", *table])
