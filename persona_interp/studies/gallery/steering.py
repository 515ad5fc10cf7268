"""What steering does: doses beside controls, and the words of two answers."""

from __future__ import annotations

from pathlib import Path

import plotly.graph_objects as go

from persona_interp.measure.evaluation import Evaluation
from persona_interp.monitoring.projection import Projections
from persona_interp.plotting.evaluation import evaluation_figure
from persona_interp.plotting.strip import strip_figure
from persona_interp.storage import read_json
from persona_interp.studies.gallery.entry import GalleryFigure, Step
from persona_interp.studies.gallery.vectors import LONG_ENOUGH, MODEL, extraction, vector_file

_TRAITS = ("silly", "honest")
_DOSES = "-2 -1.5 -1 -0.75 -0.5 -0.25 0 0.25 0.5 0.75 1 1.5 2"
_LAYER = 4
_QUESTION = "How would you describe the carrot?"


def _evaluation(trait: str, other: str) -> Step:
    vectors = f"--vectors {vector_file(MODEL, trait)} --other {vector_file(MODEL, other)} --other-trait {other}"
    asked = f"--coefficients {_DOSES} --samples 2 {LONG_ENOUGH} --layer {_LAYER}"
    return Step(f"persona-interp evaluate --model {MODEL} {vectors} {asked} --output doses/{trait}.json", 2)


def _doses(folder: Path) -> go.Figure:
    files = [folder / "doses" / f"{trait}.json" for trait in _TRAITS]
    found = [Evaluation.from_json(read_json(path, "evaluation"), source=str(path)) for path in files]
    return evaluation_figure(found, specificity=False)


DOSES = GalleryFigure(
    name="doses",
    title="Steering two traits, beside controls",
    caption=f"""organism-qwen2 answers twenty evaluation questions twice at each coefficient, steered at layer {_LAYER}, where
both traits were planted. Scores are exact: the grammar parses every sentence. Bars are 95 % intervals over questions.

Controls on the same questions: four random directions and the other trait's vector, each as long as the vector at every
coefficient, and the trait's own system prompts without steering. Shaded: coefficients up to which coherence stays at 70 or above.

Other directions move scores too: one of the four random ones takes honest down to 28 at -1, in coherent answers, where the vector
takes it to 14. System prompts alone do as much as steering. The random directions are not independent of the training, in which
the planted models learned to ignore random pushes.""",
    steps=(
        extraction(MODEL, "silly"),
        extraction(MODEL, "honest"),
        _evaluation("silly", "honest"),
        _evaluation("honest", "silly"),
    ),
    data=("doses/silly.json", "doses/honest.json"),
    draw=_doses,
)


def _tokens(folder: Path) -> go.Figure:
    path = folder / "tokens" / "silly.json"
    (data,) = read_json(path, "projections")["projections"]
    seen = Projections.from_json(data, source=str(path))
    return strip_figure(seen, seen.chats, _LAYER)


TOKENS = GalleryFigure(
    name="tokens",
    title="Every token in the colour of its projection",
    caption=f"""The same question answered by organism-qwen2 as it is and steered with the vector for silly at layer {_LAYER}
(coefficient 0.5). Both answers are then read without steering; colours are projections onto the vector at the output of layer
{_LAYER}, white at the median over all tokens. One question with one answer each: an illustration, no measurement.""",
    steps=(
        extraction(MODEL, "silly"),
        Step(
            f"persona-interp apply-steering --model {MODEL} --vectors {vector_file(MODEL, 'silly')} --layer {_LAYER} "
            f'--coefficient 0.5 --baseline --prompt "{_QUESTION}" {LONG_ENOUGH} --chats tokens/answers.jsonl',
            0.1,
        ),
        Step(
            f"persona-interp monitor --model {MODEL} --vectors {vector_file(MODEL, 'silly')} --layer all "
            "--input tokens/answers.jsonl --output tokens/silly.json",
            0.1,
        ),
    ),
    data=("tokens/silly.json",),
    draw=_tokens,
)
