"""Which layer steers: every layer tried at several coefficients on the same questions, and scored for what it did."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from persona_interp.errors import InvalidInputError
from persona_interp.interventions.graph import InterventionGraph
from persona_interp.judges.registry import load_judge
from persona_interp.models.sampling import Sampling, row_seeds
from persona_interp.models.steerable import SteerableModel
from persona_interp.traits.conversation import Conversation
from persona_interp.traits.judging import Judge, Judgement
from persona_interp.traits.trait import Trait
from persona_interp.vectors.persona_vector import PersonaVector

MIN_COHERENCE = 75.0
"""Mean coherence, 0-100, below which a movement does not count; the paper keeps its doses above it (arXiv 2507.21509)."""

_FAR_ENOUGH = 0.9
"""Share of a layer's furthest movement that is far enough: past it, more strength mostly buys more damage."""
_ROOM_CLOSED = 0.75
"""Share of the way from the baseline to the end of the scale that is far enough too."""
_AS_GOOD = 0.8
"""Share of the furthest layer's movement that counts as equal: on the twenty questions of a scan, less is noise."""


@dataclass(frozen=True)
class Scores:
    """Mean trait score and mean coherence of some answers, 0-100; None where no answer has a score."""

    trait: float | None
    coherence: float | None

    @classmethod
    def of(cls, judgements: Sequence[Judgement]) -> Scores:
        """The means over the judgements that have a score."""
        trait = [judgement.trait for judgement in judgements if judgement.trait is not None]
        coherence = [judgement.coherence for judgement in judgements if judgement.coherence is not None]
        return cls(fmean(trait) if trait else None, fmean(coherence) if coherence else None)


@dataclass(frozen=True)
class ScanCell:
    """What one coefficient did at one layer.

    Attributes:
        perturbation: |coefficient * vector| / mean |residual| there; None where the vector does not say.
    """

    layer: int
    coefficient: float
    scores: Scores
    perturbation: float | None = None


@dataclass(frozen=True)
class LayerScan:
    """A behavioural scan over layers and coefficients.

    Attributes:
        layers: 0-based blocks tried.
        baseline: the unsteered model on the same questions.
        cells: one for each layer and coefficient.
    """

    layers: tuple[int, ...]
    baseline: Scores
    cells: tuple[ScanCell, ...]

    @property
    def direction(self) -> int:
        """+1 if the baseline leaves more room upwards, else -1."""
        return 1 if (self.baseline.trait or 0.0) <= 50 else -1

    def movement(self, layer: int, direction: int | None = None) -> float:
        """The furthest the trait score moved at `layer` in `direction` (the roomier one if None) while coherent, in points.

        0 where no coherent coefficient moved it that way.
        """
        direction = self.direction if direction is None else direction
        return max([0.0, *(direction * moved for moved, _ in self._moves(layer))])

    def best_layer(self) -> int:
        """The layer that moves the score in the direction with room by the smallest push.

        Of the layers that get 80 % as far as the furthest one, the one whose `strongest` coefficient perturbs the residual stream
        least, since a random direction of the same length then does least too. Without known perturbations, the furthest one.
        """
        furthest = max(map(self.movement, self.layers))
        candidates = [layer for layer in self.layers if self.movement(layer) >= _AS_GOOD * furthest]
        return min(candidates, key=lambda layer: (self._push(layer), -self.movement(layer)))

    def _push(self, layer: int) -> float:
        coefficient = self.strongest(layer, self.direction)
        found = [cell.perturbation for cell in self.cells if (cell.layer, cell.coefficient) == (layer, coefficient)]
        return math.inf if not found or found[0] is None else found[0]

    def strongest(self, layer: int, direction: int, *, enough: float = 100.0) -> float | None:
        """The mildest coherent coefficient that goes far enough in `direction`.

        Far enough is three quarters of the way from the baseline to the end of the scale, 90 % as far as `layer` ever gets, or
        `enough` points, whichever is nearest. None where no coherent coefficient of that sign moves the score that way.
        """
        base = self.baseline.trait or 0.0
        room = 100 - base if direction > 0 else base
        target = min(_FAR_ENOUGH * self.movement(layer, direction), _ROOM_CLOSED * room, enough)
        reaching = [
            abs(coefficient)
            for moved, coefficient in self._moves(layer)
            if coefficient * direction > 0 and direction * moved > 0 and direction * moved >= target
        ]
        return direction * min(reaching) if reaching else None

    def _moves(self, layer: int) -> list[tuple[float, float]]:
        """(movement, coefficient) of the coherent cells of `layer`; a judge without coherence counts as coherent."""
        base = self.baseline.trait
        return [
            (cell.scores.trait - base, cell.coefficient)
            for cell in self.cells
            if cell.layer == layer
            and base is not None
            and cell.scores.trait is not None
            and (cell.scores.coherence is None or cell.scores.coherence >= MIN_COHERENCE)
        ]


def scan_layers(
    model: SteerableModel,
    vector: PersonaVector,
    trait: Trait,
    coefficients: Sequence[float],
    *,
    questions: Sequence[str] | None = None,
    judge: str | Judge | None = None,
    sampling: Sampling | None = None,
    seed: int = 0,
    batch_size: int | None = None,
) -> LayerScan:
    """Steer at every layer of `vector`, at each coefficient, in one batched generation whose rows carry their own write.

    Args:
        model: the model to steer.
        vector: what to add, one direction a layer.
        trait: what to look for.
        coefficients: multiply the vector as it is; the unsteered baseline is always measured beside them.
        questions: the trait's extraction questions if None, so that a layer is never chosen on the evaluation questions.
        judge: a judge or its name (`load_judge`); "auto" if None.
        sampling: how to draw answers.
        seed: of the answers; the same question has the same random stream in every cell.
        batch_size: rows run together, chosen by the model if None.

    Example:
        >>> scan = scan_layers(model, vector, trait, [-1.0, 1.0])
        >>> scan.best_layer()

    Raises:
        InvalidInputError: no coefficient, or no question.
        IncompatibleError: the vector does not fit the model.
    """
    vector.check_fits(model.identity)
    asked = tuple(trait.extraction_questions if questions is None else questions)
    if not asked or not coefficients:
        raise InvalidInputError(f"a scan needs questions and coefficients: {len(asked)} and {len(coefficients)} were given")
    scorer = load_judge("auto" if judge is None else judge, model)
    places = [(layer, float(coefficient)) for layer in vector.layers for coefficient in coefficients]
    width = len(asked)
    graph = InterventionGraph()
    for number, (layer, coefficient) in enumerate(places, start=1):
        graph += vector.graph(coefficient, layers=[layer], rows=range(number * width, (number + 1) * width))
    n_groups = len(places) + 1
    answers = model.generate(
        [Conversation.ask(question) for question in asked] * n_groups,
        graph=graph,
        sampling=sampling,
        seed=row_seeds(seed, width) * n_groups,
        batch_size=batch_size,
    )
    exchanges = [(question, answer.text) for question, answer in zip(asked * n_groups, answers, strict=True)]
    judgements = scorer.judge(trait, exchanges)
    scores = [Scores.of(judgements[start : start + width]) for start in range(0, len(judgements), width)]
    ratios = dict(zip(vector.layers, vector.norm_ratios, strict=True))
    cells = tuple(
        ScanCell(layer, coefficient, found, None if (ratio := ratios[layer]) is None else abs(coefficient) * ratio)
        for (layer, coefficient), found in zip(places, scores[1:], strict=True)
    )
    return LayerScan(vector.layers, scores[0], cells)
