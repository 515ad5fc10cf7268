"""Is the cheap choice of a layer as good as the exhaustive one? Measured where scores are exact, on questions not chosen on."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from persona_interp.errors import PersonaInterpError
from persona_interp.measure.conditions import steered
from persona_interp.measure.contrast_pairs import contrast_pairs
from persona_interp.measure.effectiveness import LayerEffectiveness
from persona_interp.measure.held_out import held_out_difference
from persona_interp.measure.layer_effectiveness import AUTO, SWEPT_RATIOS, from_scan, layer_effectiveness, sweep_layers
from persona_interp.measure.layer_plan import LayerPlan, plan_layers
from persona_interp.measure.layer_scan import MIN_COHERENCE, LayerScan, coherent
from persona_interp.measure.markdown_table import markdown_table
from persona_interp.measure.point import DosePoint
from persona_interp.measure.protocol import Protocol
from persona_interp.measure.run import run
from persona_interp.models.sampling import Sampling
from persona_interp.models.steerable import SteerableModel
from persona_interp.organisms.grammar_judge import GrammarJudge
from persona_interp.organisms.trait_texts import organism_trait
from persona_interp.progress import say
from persona_interp.records import Record
from persona_interp.vectors.extract import extract
from persona_interp.vectors.persona_vector import PersonaVector

SAMPLING = Sampling(max_new_tokens=120)
SAMPLES = 4
_ROWS = 256
_DEPTH = 0.6
RANKING = ("likelihood", "gradient", "lens")
"""Cheap methods that score every layer."""
CHEAP = (AUTO, *RANKING)
_AUTO_BEFORE = "likelihood"
SHARE_WANTED, TOKENS_ALLOWED = 0.95, 0.10
_REGRETS = {
    "sweep": "regret: sweep",
    AUTO: "auto",
    "gradient": "gradient",
    "lens": "lens",
    "geometry": "geometry",
    "fixed layer": "fixed layer",
    "fixed depth": "fixed depth",
}


@dataclasses.dataclass(frozen=True)
class Choice:
    """What one way of choosing a layer led to.

    Attributes:
        method: a method of `METHODS`, or ``fixed layer`` or ``fixed depth``.
        layer: 0-based block chosen.
        effect: furthest coherent movement there on the evaluation questions, in points.
        regret: points less than the best layer on those questions.
        share: of the effect at the layer that the exhaustive sweep chose.
        spearman: rank correlation of its scores with the effects over the layers; None where it has no scores.
        tokens: generated to choose.
        token_share: of those of the exhaustive sweep.
    """

    method: str
    layer: int
    effect: float
    regret: float
    share: float | None
    spearman: float | None
    tokens: int
    token_share: float


@dataclasses.dataclass(frozen=True)
class PlanResult:
    """A multi-layer plan beside the single layer it was made from.

    Attributes:
        layers: 0-based blocks.
        effect: furthest coherent movement over the budgets, in points.
        coherence: there.
        difference: effect minus that of the best single layer, on questions that the doses were not picked on; None where it
            could not be had.
        low: end of its 95 % interval over questions; None where there is none.
        high: likewise.
    """

    layers: tuple[int, ...]
    effect: float
    coherence: float | None
    difference: float | None
    low: float | None
    high: float | None


@dataclasses.dataclass(frozen=True)
class LayerBench(Record):
    """One trait of one organism.

    Attributes:
        model: name of the model.
        trait: name of the trait.
        effects: layer -> furthest coherent movement on the evaluation questions, in points.
        choices: one a way of choosing.
        plan: the adaptive multi-layer plan.
    """

    json_kind = "layer bench"
    json_version = 1

    model: str
    trait: str
    effects: Mapping[int, float]
    choices: tuple[Choice, ...]
    plan: PlanResult

    @property
    def auto(self) -> Choice:
        """What ``--layer auto`` chose."""
        return self.by(AUTO)

    def by(self, method: str) -> Choice:
        """The choice of one method; that of ``--layer auto`` in a file of before it screened layers is likelihood's.

        Raises:
            StopIteration: there is none of that name.
        """
        known = {choice.method for choice in self.choices}
        named = _AUTO_BEFORE if method == AUTO and AUTO not in known else method
        return next(choice for choice in self.choices if choice.method == named)

    @property
    def met(self) -> bool:
        """Whether the cheap choice reaches 95 % of the exhaustive one's effect at 10 % of its tokens or fewer."""
        share = self.auto.share
        return share is not None and share >= SHARE_WANTED and self.auto.token_share <= TOKENS_ALLOWED


def bench_layers(model: SteerableModel, name: str, *, seed: int = 0) -> LayerBench:
    """Choose a layer in every way on extraction questions, and measure every layer on evaluation questions.

    Args:
        model: an organism.
        name: a trait of the grammar.
        seed: of every answer.
    """
    trait = organism_trait(name)
    common: dict[str, Any] = {"sampling": SAMPLING, "batch_size": _ROWS}
    say(f"{model.name}, {name}: extracting")
    vector = extract(model, trait, judge=GrammarJudge(), samples=2, seed=seed, **common)
    say(f"{model.name}, {name}: the exhaustive sweep")
    sweep = from_scan(sweep_layers(model, vector, trait, seed=seed + 1, **common))
    pairs = contrast_pairs(model, trait, seed=seed + 2, **common)
    cheap = [layer_effectiveness(model, vector, trait, method=method, pairs=pairs) for method in CHEAP]
    geometry = layer_effectiveness(model, vector, trait, method="geometry")
    say(f"{model.name}, {name}: every layer on the evaluation questions")
    questions = trait.evaluation_questions
    coefficient = sweep.best().coefficient
    direction = 1 if coefficient is not None and coefficient > 0 else -1
    truth = sweep_layers(
        model, vector, trait, directions=(direction,), questions=questions, samples=SAMPLES, seed=seed + 3, **common
    )
    effects = {layer: truth.movement(layer, direction) for layer in truth.layers}
    fixed = {"fixed layer": model.n_layers // 2, "fixed depth": round(_DEPTH * (model.n_layers - 1))}
    chosen = {result.method: (result.best().layer, result) for result in (sweep, *cheap, geometry)}
    choices = tuple(
        _choice(method, layer, result, effects, sweep)
        for method, (layer, result) in {**chosen, **{kind: (layer, None) for kind, layer in fixed.items()}}.items()
    )
    say(f"{model.name}, {name}: the multi-layer plan")
    plan = plan_layers(vector, cheap[0], budget=1.0)
    found = _plan_points(model, vector, plan, name, direction, seed + 3)
    single = max(truth.layers, key=lambda layer: effects[layer])
    return LayerBench(model.name, name, effects, choices, _compared(plan, found, truth, single, direction))


def _choice(
    method: str, layer: int, result: LayerEffectiveness | None, effects: Mapping[int, float], sweep: LayerEffectiveness
) -> Choice:
    from scipy.stats import spearmanr

    exhaustive = effects[sweep.best().layer]
    rho = None
    if result is not None and None not in result.values and len(set(result.values)) > 1 and len(set(effects.values())) > 1:
        rho = float(spearmanr(result.values, list(effects.values())).statistic)  # pyright: ignore[reportAttributeAccessIssue]
    tokens = 0 if result is None else result.n_tokens
    return Choice(
        method,
        layer,
        effects[layer],
        max(effects.values()) - effects[layer],
        effects[layer] / exhaustive if exhaustive > 0 else None,
        rho,
        tokens,
        tokens / sweep.n_tokens,
    )


def _plan_points(
    model: SteerableModel, vector: PersonaVector, plan: LayerPlan, name: str, direction: int, seed: int
) -> list[DosePoint]:
    """What the plan does at each budget, with the questions and random streams of the single layers."""
    trait = organism_trait(name)
    protocol = Protocol(samples=SAMPLES, judge=GrammarJudge(), sampling=SAMPLING, seed=seed, batch_size=_ROWS)
    conditions = steered("plan", plan.steering(vector), [direction * budget for budget in SWEPT_RATIOS])
    found = run(model, protocol.asked(model, trait, streams="place"), conditions)
    # the budget is the sum of the ratios over the layers
    return [
        dataclasses.replace(each.point(examples=each.texts), perturbation_ratio=budget)
        for each, budget in zip(found, SWEPT_RATIOS, strict=True)
    ]


def _compared(plan: LayerPlan, found: Sequence[DosePoint], truth: LayerScan, single: int, direction: int) -> PlanResult:
    """The plan's best coherent budget against the best single layer's best coherent dose.

    `effect` is that of the best budget on all questions. The difference is measured on questions that neither side's dose was
    picked on (`held_out_best`); the single layer is the best one on all of them, which favours it.
    """
    base = truth.baseline.trait
    if base is None:
        raise PersonaInterpError("the unsteered answers have no trait score: nothing can be measured against them")
    usable = [point for point in found if coherent(point) and point.trait is not None]
    best = max(usable, key=lambda point: direction * (point.trait or 0.0), default=truth.baseline)
    difference = held_out_difference(
        _moved(found, truth.baseline, direction), _moved(truth.by_layer[single], truth.baseline, direction),
        truth.answer_questions, least=MIN_COHERENCE,
    )  # fmt: skip
    effect = max(0.0, direction * ((best.trait or 0.0) - base))
    return PlanResult(plan.layers, effect, best.coherence, difference.value, difference.low, difference.high)


def _moved(points: Sequence[DosePoint], baseline: DosePoint, direction: int) -> tuple[list[list[float | None]], list[Any]]:
    """By how much each answer at each dose moved the trait score, and its coherence: ``[dose answer]``, None where not known."""
    return [
        [
            None if score is None or plain is None else direction * (score - plain)
            for score, plain in zip(point.trait_scores, baseline.trait_scores, strict=True)
        ]
        for point in points
    ], [list(point.coherence_scores) for point in points]


def _signed(plan: PlanResult) -> str:
    if plan.difference is None:
        return "–"
    ends = "" if plan.low is None or plan.high is None else f" [{plan.low:+.0f}, {plan.high:+.0f}]"
    return f"{plan.difference:+.0f}{ends}"


def layers_markdown(benches: Sequence[LayerBench]) -> str:
    """Two tables: what each choice reached, and how each method ranks layers."""
    headings = (
        "model",
        "trait",
        "best layer",
        "effect",
        "sweep",
        "auto",
        "share",
        "tokens",
        *_REGRETS.values(),
        "plan minus best",
    )
    rows: list[list[str]] = []
    for bench in benches:
        best = max(bench.effects, key=lambda layer: bench.effects[layer])
        share = "–" if bench.auto.share is None else f"{bench.auto.share:.2f}"
        regrets = [f"{bench.by(method).regret:.0f}" for method in _REGRETS]
        plan = _signed(bench.plan)
        cells = [
            bench.model.removeprefix("organism-"), bench.trait, str(best), f"{bench.effects[best]:.0f}",
            str(bench.by("sweep").layer), str(bench.auto.layer), share, f"{100 * bench.auto.token_share:.1f} %", *regrets, plan,
        ]  # fmt: skip
        rows.append(cells)
    lines = [*markdown_table(headings, rows), ""]
    methods = ("sweep", *RANKING, "geometry")
    rows = []
    for bench in benches:
        rhos = [bench.by(method).spearman for method in methods]
        shown = ["–" if rho is None else f"{rho:.2f}" for rho in rhos]
        rows.append([f"{bench.model.removeprefix('organism-')}, {bench.trait}", *shown])
    means = [[rho for bench in benches if (rho := bench.by(method).spearman) is not None] for method in methods]
    rows.append(["mean", *(f"{fmean(known):.2f}" if known else "–" for known in means)])
    return "\n".join([*lines, *markdown_table(("Spearman with the effects", *methods), rows)]) + "\n"
