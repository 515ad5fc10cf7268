"""Is an organism usable as an instrument? Everything its card says, measured with the exact judge and against controls.

Layer and coefficients are chosen on extraction questions; what is reported is measured on evaluation questions, whose topics and
wordings occur nowhere in extraction.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from statistics import fmean, median
from typing import Any

import torch

from persona_interp.errors import FileFormatError, PersonaInterpError
from persona_interp.measure.conditions import Condition
from persona_interp.measure.dose import DoseResponse, dose_response
from persona_interp.measure.layer_scan import MIN_COHERENCE, LayerScan, scan_layers
from persona_interp.measure.point import DosePoint, judged_point
from persona_interp.measure.protocol import Protocol
from persona_interp.measure.run import run
from persona_interp.models.sampling import Sampling, fitting_seed, row_seeds
from persona_interp.models.steerable import SteerableModel
from persona_interp.organisms.grammar_judge import GrammarJudge
from persona_interp.organisms.trait_texts import evaluation_instructions, organism_trait
from persona_interp.progress import say
from persona_interp.studies.training.publish import Planted
from persona_interp.traits import Conversation, Trait
from persona_interp.vectors.extract import extract
from persona_interp.vectors.persona_vector import PersonaVector
from persona_interp.vectors.steering import Steering

BARRED_TRAITS = ("silly", "honest")
"""Traits an organism with planted directions must be steerable in to ship; the others are reported as measured."""
NATURAL_TRAITS = ("silly",)
"""The same for an organism with nothing planted, whose bar is lower."""

SCANNED = (-1.0, -0.75, -0.5, -0.25, 0.25, 0.5, 0.75, 1.0)
"""Coefficients tried at every block, in units of `dose_unit`."""
FINER = tuple(i / 8 for i in range(-8, 9))
_NATURAL_RATIO = 0.8  # published best doses lie at perturbation ratios of 0.8 to 1
ROOMY_DOSES, OTHER_DOSES = 4, 2
"""Coefficients measured on the side of 0 with more room, and on the other; 0 is measured too."""
MOVEMENT = 60.0
"""Points by which steering must move a trait of the bar."""
AIM = MOVEMENT + 10
"""What doses are chosen for: two standard errors more, and on other questions than those they are measured on."""
N_RANDOM = 8
SATURATED = 3.0
SAMPLING = Sampling(max_new_tokens=120)
"""Long enough for any answer of the grammar."""
ROWS = 256
"""Rows run together: an organism is small enough for more than the package would choose."""
_MEASURED_SAMPLES = 8  # a score is all or nothing in most answers: 160 of them leave a standard error of about 3 points
_BASELINE_SAMPLES = 64  # everything is compared with the baseline: 1280 answers, one point


@dataclasses.dataclass(frozen=True)
class Measured:
    """Mean trait score and coherence, 0-100, of answers that were all scored."""

    trait: float
    coherence: float

    @classmethod
    def of(cls, point: DosePoint, what: str) -> Measured:
        """The means, or an error if nothing could be scored: an organism that says no whole sentence is no instrument."""
        if point.trait is None or point.coherence is None:
            raise PersonaInterpError(f"no answer of {what} has a complete sentence to score: the organism is not usable")
        return cls(point.trait, point.coherence)


@dataclasses.dataclass(frozen=True)
class TraitReport:
    """What one trait of an organism does.

    Attributes:
        baseline: without system prompt or steering.
        prompted_up: under the positive system prompts of the evaluation split.
        prompted_down: under the negative ones.
        layer_scan: per block, the furthest the trait score moved in its roomy direction at coherence >= 75, in points.
        best_layer: the block that moved it furthest.
        dose: trait and coherence over seven coefficients at the best block.
        random: trait score under each random direction of the same norm at the strongest coefficient.
        random_coherence: mean coherence there.
        cosine_to_planted: of the extracted vector at each block with the planted direction; None where nothing is planted.
        norm_ratio: |vector| / mean |residual| at the best block.
    """

    trait: str
    baseline: Measured
    prompted_up: Measured
    prompted_down: Measured
    layer_scan: tuple[float, ...]
    best_layer: int
    dose: DoseResponse
    random: tuple[float, ...]
    random_coherence: float
    cosine_to_planted: tuple[float, ...] | None
    norm_ratio: float

    @property
    def steered_up(self) -> Measured:
        """At the largest coefficient."""
        return _ends(self.dose)[1]

    @property
    def steered_down(self) -> Measured:
        """At the smallest coefficient."""
        return _ends(self.dose)[0]

    @property
    def unsaturated(self) -> int:
        """How many of the coefficients leave the score more than 3 points from both ends."""
        return sum(SATURATED < (point.trait or 0.0) < 100 - SATURATED for point in self.dose.points)

    @property
    def movement(self) -> float:
        """Points between the baseline and the dose at the end that has room."""
        return abs((self.steered_up if self.baseline.trait <= 50 else self.steered_down).trait - self.baseline.trait)

    @property
    def moved_by_random(self) -> tuple[float, ...]:
        """Points between the baseline and each random direction."""
        return tuple(abs(score - self.baseline.trait) for score in self.random)

    def bar(self, *, planted: bool) -> dict[str, bool]:
        """Each condition an organism's main traits must meet to ship, and whether it is met.

        Args:
            planted: whether the organism has planted directions; without them it is asked for less.
        """
        base, up, down = self.baseline.trait, self.steered_up, self.steered_down
        if not planted:
            return {
                "moves at least 25 points": self.movement >= 25,
                "coherence at least 75": (up if base <= 50 else down).coherence >= MIN_COHERENCE,
            }
        other = down if base <= 50 else up
        other_room = base if base <= 50 else 100 - base
        return {
            "baseline leaves room": base <= 25 or base >= 85,
            f"moves at least {MOVEMENT:g} points": self.movement >= MOVEMENT,
            "coherence at least 75": min(up.coherence, down.coherence) >= MIN_COHERENCE,
            "other sign closes half its room": abs(other.trait - base) >= other_room / 2,
            "Spearman at least 0.95": (self.dose.spearman or 0.0) >= 0.95,
            "five unsaturated coefficients": self.unsaturated >= 5,
            "random directions: mean below 10": fmean(self.moved_by_random) < 10,
            "random directions: 20 at most": max(self.moved_by_random) <= 20,
        }

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {**dataclasses.asdict(self), "dose": self.dose.to_json()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TraitReport:
        """The inverse of `to_json`.

        Raises:
            FileFormatError: a field is missing or malformed.
        """
        try:
            cosines = data["cosine_to_planted"]
            return cls(
                trait=str(data["trait"]),
                baseline=Measured(**data["baseline"]),
                prompted_up=Measured(**data["prompted_up"]),
                prompted_down=Measured(**data["prompted_down"]),
                layer_scan=tuple(map(float, data["layer_scan"])),
                best_layer=int(data["best_layer"]),
                dose=DoseResponse.from_json(data["dose"]),
                random=tuple(map(float, data["random"])),
                random_coherence=float(data["random_coherence"]),
                cosine_to_planted=None if cosines is None else tuple(map(float, cosines)),
                norm_ratio=float(data["norm_ratio"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise FileFormatError(
                f"trait report: a field is missing or malformed ({error!r}); measure the organism again"
            ) from error


def _ends(dose: DoseResponse) -> tuple[Measured, Measured]:
    ordered = sorted(dose.points, key=lambda point: point.coefficient)
    first, last = (Measured.of(point, "a dose") for point in (ordered[0], ordered[-1]))
    return first, last


def dose_unit(vector: PersonaVector, planted: Planted | None) -> float:
    """The largest coefficient tried: 1 where directions are planted, for that is what training used.

    Elsewhere the whole number whose perturbation ratio comes nearest to 0.8.
    """
    known = [ratio for ratio in vector.listed("norm_ratio") if ratio]
    return 1.0 if planted is not None or not known else max(1.0, round(_NATURAL_RATIO / median(known)))


def _ends_of_doses(
    model: SteerableModel, vector: PersonaVector, trait: Trait, scan: LayerScan, unit: float, seed: int
) -> tuple[float, float]:
    """The smallest and the largest coefficient at the best block, chosen on extraction questions.

    For the traits of the bar from a finer scan of that block with eight answers a question: on one, the sign that has little room
    is all noise.
    """
    best = scan.best_layer()
    if trait.name in BARRED_TRAITS:
        finer = dose_response(
            model, vector, trait, [unit * c for c in FINER], judge=GrammarJudge(), layers=[best], sampling=SAMPLING, seed=seed,
            questions=trait.extraction_questions, samples=_MEASURED_SAMPLES, batch_size=ROWS,
        )  # fmt: skip
        scan = LayerScan.of_dose(finer)
    mildest = unit * min(map(abs, SCANNED))
    aims = {scan.direction: AIM, -scan.direction: None}
    low, high = (scan.strongest(best, sign, enough=aims[sign]) or sign * mildest for sign in (-1, 1))
    return low, high


def _doses(low: float, high: float, roomy: int) -> list[float]:
    """Seven coefficients: evenly up to each end, more of them in the direction `roomy`."""
    below, above = (ROOMY_DOSES, OTHER_DOSES) if roomy < 0 else (OTHER_DOSES, ROOMY_DOSES)
    return [low * i / below for i in range(below, 0, -1)] + [0.0] + [high * i / above for i in range(1, above + 1)]


def _measured(
    model: SteerableModel, trait: Trait, conversations: Sequence[Conversation], seed: int, steerings: Sequence[Steering | None]
) -> list[Measured]:
    """Some prompts answered under each steering, every answer with a random stream of its own."""
    width = len(conversations)
    seeds = row_seeds(seed, width * len(steerings))
    conditions = [
        Condition(trait.name, each, conversations=tuple(conversations), seeds=tuple(seeds[n * width : (n + 1) * width]))
        for n, each in enumerate(steerings)
    ]
    asked = Protocol(judge=GrammarJudge(), sampling=SAMPLING, seed=seed, batch_size=ROWS).asked(model, trait)
    return [Measured.of(each.point(), trait.name) for each in run(model, asked, conditions)]


def _prompted(model: SteerableModel, trait: Trait, positive: bool, seed: int) -> Measured:
    pairs = evaluation_instructions(trait.name)
    systems = [pair.positive if positive else pair.negative for pair in pairs]
    asked = [Conversation.ask(question, system) for system in systems for question in trait.evaluation_questions]
    return _measured(model, trait, asked, seed, [None])[0]


def _random_control(model: SteerableModel, trait: Trait, steering: Steering, seed: int) -> tuple[tuple[float, ...], float]:
    vector, (direction,) = steering.selected, steering.selected.directions
    generator = torch.Generator().manual_seed(fitting_seed(seed))
    drawn = torch.randn(N_RANDOM, direction.shape[0], generator=generator, dtype=torch.float32)
    drawn = drawn * (direction.norm() / drawn.norm(dim=1, keepdim=True))
    conversations = [Conversation.ask(question) for question in trait.evaluation_questions * _MEASURED_SAMPLES]
    pushes = [dataclasses.replace(steering, vector=dataclasses.replace(vector, directions=row[None])) for row in drawn]
    scores = _measured(model, trait, conversations, seed, pushes)
    return tuple(score.trait for score in scores), fmean(score.coherence for score in scores)


def unsteered_answers(model: SteerableModel, *, seed: int = 0) -> list[tuple[str, str]]:
    """(question, answer) without system prompt or steering: the baseline of every trait, since all have the same questions."""
    questions = organism_trait(BARRED_TRAITS[0]).evaluation_questions * _BASELINE_SAMPLES
    asked = [Conversation.ask(question) for question in questions]
    answers = model.generate(asked, sampling=SAMPLING, seed=seed + 3, batch_size=ROWS)
    return [(question, answer.text) for question, answer in zip(questions, answers, strict=True)]


def report_trait(
    model: SteerableModel, name: str, planted: Planted | None, unsteered: Sequence[tuple[str, str]], *, seed: int = 0
) -> TraitReport:
    """Extract the vector of a grammar trait, and measure what it does and what controls do.

    Args:
        model: an organism.
        name: a trait of the grammar.
        planted: the organism's ground truth, if it has one.
        unsteered: what `unsteered_answers` gives.
        seed: of every answer and random direction.
    """
    trait = organism_trait(name)
    say(f"{model.name}, {name}: extracting")
    vector = extract(model, trait, judge=GrammarJudge(), samples=2, sampling=SAMPLING, seed=seed, batch_size=ROWS)
    unit = dose_unit(vector, planted)
    say(f"{model.name}, {name}: scanning {len(vector.layers)} blocks x {len(SCANNED)} coefficients up to {unit:g}")
    tried = [unit * c for c in SCANNED]
    scan = scan_layers(model, vector, trait, tried, judge=GrammarJudge(), sampling=SAMPLING, seed=seed + 1, batch_size=ROWS)
    best = scan.best_layer()
    low, high = _ends_of_doses(model, vector, trait, scan, unit, seed + 7)
    doses = _doses(low, high, scan.direction)
    say(f"{model.name}, {name}: measuring at block {best}")
    dose = dose_response(
        model, vector, trait, doses, judge=GrammarJudge(), layers=[best], sampling=SAMPLING, seed=seed + 2,
        samples=_MEASURED_SAMPLES, batch_size=ROWS,
    )  # fmt: skip
    baseline = Measured.of(judged_point(GrammarJudge().judge(trait, unsteered)), trait.name)
    strongest = high if baseline.trait <= 50 else low
    random_scores, random_coherence = _random_control(model, trait, Steering(vector, (best,), strongest), seed + 4)
    cosines = None
    if planted is not None and name in planted.traits:
        truth = planted.directions[planted.traits.index(name)]
        cosines = tuple(float(torch.cosine_similarity(vector.at(layer), truth, dim=0)) for layer in vector.layers)
    return TraitReport(
        trait=name,
        baseline=baseline,
        prompted_up=_prompted(model, trait, True, seed + 5),
        prompted_down=_prompted(model, trait, False, seed + 6),
        layer_scan=tuple(scan.movement(layer) for layer in scan.layers),
        best_layer=best,
        # the card says once by which command it was made
        dose=dataclasses.replace(dose, provenance={k: v for k, v in dose.provenance.items() if k != "command"}),
        random=random_scores,
        random_coherence=random_coherence,
        cosine_to_planted=cosines,
        norm_ratio=float(vector.select([best]).norm_ratios[0]),
    )
