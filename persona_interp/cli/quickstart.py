"""``persona-interp quickstart``: the whole method in under two minutes, on a model that ships with the package."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from persona_interp.cli import arguments

if TYPE_CHECKING:
    from persona_interp.evaluation.dose import DoseResponse

MODEL = "organism-qwen2"
TRAIT = "silly"
COEFFICIENTS = (-0.5, -0.25, 0.0, 0.25, 0.5, 0.75)
SAMPLES = 1
TOKENS = 96

_NOTE = """{model} is a small model trained for this package on a grammar whose every sentence can be parsed back,
so the scores are exact. It is an instrument for testing methods: numbers measured on it are not claims about
large language models. {choice}"""


def register(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "quickstart", help="extract a vector and steer with it, on a model that ships with the package", allow_abbrev=False
    )
    parser.add_argument("--output", type=Path, default=Path("quickstart"), metavar="DIR", help="default: %(default)s")
    parser.add_argument("--seed", type=arguments.whole, default=0, help="same seed, same answers (default: %(default)s)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Extract, show the layers, steer, show texts and scores, write vector and figures."""
    from persona_interp.cli.tables import console, layer_table
    from persona_interp.evaluation.dose import dose_response
    from persona_interp.evaluation.layer_effectiveness import layer_effectiveness
    from persona_interp.models.sampling import Sampling
    from persona_interp.organisms.trait_texts import resolve_trait
    from persona_interp.plotting import dose_figure, layer_figure, save_html
    from persona_interp.progress import say
    from persona_interp.storage import ensure_writable
    from persona_interp.vectors.extract import extract

    vector_path = ensure_writable(arguments.vector_file(args.output / f"{MODEL}_{TRAIT}.json", MODEL, TRAIT))
    page_path = ensure_writable(args.output / "quickstart.html")
    model = arguments.loaded(MODEL)
    trait = resolve_trait(model, TRAIT)
    sampling = Sampling(max_new_tokens=TOKENS)
    n_pairs, n_questions = len(trait.instructions), len(trait.extraction_questions)
    say(f"extracting {TRAIT!r} from {MODEL}: {n_pairs} instruction pairs x {n_questions} questions, both signs")
    vector = extract(model, trait, judge="auto", samples=SAMPLES, sampling=sampling, seed=args.seed)
    say(f"scoring {len(vector.layers)} layers by what steering does to the likelihood of answers")
    found = layer_effectiveness(model, vector, trait, sampling=sampling, seed=args.seed)
    vector = found.recorded_in(vector)
    vector.save(vector_path)
    screen = console()
    screen.print(layer_table(vector))

    choice = f"Steered at {found.reason()}."
    best = found.best().layer
    screen.print(f"{choice}\n", markup=False, highlight=False)
    dose = dose_response(model, vector, trait, COEFFICIENTS, layers=[best], sampling=sampling, seed=args.seed)
    show(dose, trait.evaluation_questions)
    note = _NOTE.format(model=MODEL, choice=choice)
    save_html(page_path, [dose_figure(dose), layer_figure(vector)], title=f"{TRAIT} in {MODEL}", note=note)
    screen.print(f"\nvector:  {vector_path}\nfigures: {page_path}", markup=False, highlight=False, soft_wrap=True)


def show(dose: DoseResponse, questions: Sequence[str]) -> None:
    """Print scores per coefficient, and beside each the answer to one question."""
    from persona_interp.cli.tables import console, shown, table

    number = typical(dose)
    rows = [
        [
            "baseline" if point.coefficient == 0 else f"{point.coefficient:+g}",
            shown(point.perturbation_ratio),
            shown(point.trait, 0),
            shown(point.coherence, 0),
            point.examples[number],
        ]
        for point in dose.points
    ]
    headings = [("coefficient", "right"), ("x resid", "right"), (dose.trait, "right"), ("coherence", "right"), ("answer", "left")]
    screen = console()
    screen.print(table(questions[number], headings, rows))
    screen.print(
        f"Scores: mean over {dose.points[0].n} answers, 0 to 100, by the {dose.judge} judge. "
        "x resid: |coefficient * v| / mean |h|.\nThe question shown is the one whose scores lie nearest to these means.",
        markup=False,
        highlight=False,
    )


def typical(dose: DoseResponse) -> int:
    """Which of the example answers has scores nearest to the mean at every coefficient, so that no exception is shown."""

    def distance(number: int) -> float:
        pairs = [(point.trait_scores[number], point.trait) for point in dose.points]
        return sum(100.0 if score is None or mean is None else abs(score - mean) for score, mean in pairs)

    return min(range(min(len(point.examples) for point in dose.points)), key=distance)
