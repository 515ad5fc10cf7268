"""How well each layer steers: the result of every method that answers it, from geometry to a behavioural sweep."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from persona_interp.errors import InvalidInputError
from persona_interp.html_table import html_table
from persona_interp.measure.statistics import Estimate
from persona_interp.records import Record
from persona_interp.vectors.persona_vector import PersonaVector

METHODS: dict[str, str] = {
    "sweep": "behaviour: the furthest the trait score moves while answers stay coherent, in points",
    "screened-likelihood": "likelihood, at the layers where a small push does most: the share of what the trait's instructions "
    "do to the log probabilities of words that steering at perturbation ratio .2 does too",
    "likelihood": "likelihood: by how much steering raises the log probability of answers with the trait, in nats a token",
    "gradient": "first order: how fast that rises at coefficient 0, in nats a token and unit of perturbation ratio",
    "lens": "logit lens: how far the vector, read through the unembedding, raises the words of answers with the trait, in nats",
    "geometry": "geometry, not behaviour: held-out AUROC of projections, then the norm ratio",
}
"""What each method's score means, with its unit."""
CAUSAL = ("sweep", "screened-likelihood", "likelihood", "gradient")
"""Methods that run the model under steering, or differentiate it."""


@dataclasses.dataclass(frozen=True)
class LayerScore(Record):
    """One layer.

    Attributes:
        layer: 0-based block.
        score: in the unit of the method, at the best dose on all answers: layers are ranked by it. None where it could not be
            had.
        low: end of the 95 % interval over questions, of `held_out` where a dose was picked, else of `score`; None where there is
            none.
        high: likewise.
        coefficient: at which the score was reached; None for methods without one.
        perturbation_ratio: there.
        coherence_cost: points of coherence lost there against the unsteered model; None for methods without answers.
        usable: smallest and largest coefficient tried around 0 up to which coherence stays at 75 or more; likewise None.
        held_out: the score on questions that the dose was not picked on, see `held_out_best`: what to expect of it, below `score`
            more often than not; None where no dose was picked, or it could not be had.
    """

    json_kind = "layer score"
    json_newer = ("held_out",)

    layer: int
    score: float | None
    low: float | None = None
    high: float | None = None
    coefficient: float | None = None
    perturbation_ratio: float | None = None
    coherence_cost: float | None = None
    usable: tuple[float, float] | None = None
    held_out: float | None = None

    @property
    def reported(self) -> Estimate:
        """What is said of the layer with its interval: `held_out` where a dose was picked, else `score`."""
        return Estimate(self.score if self.held_out is None else self.held_out, self.low, self.high, 0)


@dataclasses.dataclass(frozen=True)
class LayerEffectiveness(Record):
    """Scores of all layers by one method.

    Example:
        >>> found = layer_effectiveness(model, vector, trait)
        >>> found.best().layer, [score.layer for score in found.top(3)]

    Attributes:
        trait: name of the trait.
        model: name of the model.
        method: one of `METHODS`.
        scores: one a layer, in the order of the layers.
        n_tokens: tokens generated to find out.
        provenance: versions, seed, settings.

    Raises:
        InvalidInputError: no layer, or a method that is not known.
    """

    json_kind = "layer effectiveness"
    json_version = 1
    json_names = ("unit", "*")

    trait: str
    model: str
    method: str
    scores: tuple[LayerScore, ...]
    n_tokens: int = 0
    provenance: Mapping[str, Any] = dataclasses.field(default_factory=dict[str, Any])

    def __post_init__(self) -> None:
        if self.method not in METHODS or not self.scores:
            raise InvalidInputError(
                f"layer effectiveness by {self.method!r} of {len(self.scores)} layers: give at least one layer, and one of the "
                f"methods {', '.join(METHODS)}"
            )

    @property
    def unit(self) -> str:
        """What a score means."""
        return METHODS[self.method]

    @property
    def layers(self) -> tuple[int, ...]:
        """0-based blocks."""
        return tuple(score.layer for score in self.scores)

    @property
    def values(self) -> tuple[float | None, ...]:
        """The score of each layer."""
        return tuple(score.score for score in self.scores)

    def at(self, layer: int) -> LayerScore:
        """The score of one layer.

        Raises:
            InvalidInputError: it was not scored; lists those that were.
        """
        for score in self.scores:
            if score.layer == layer:
                return score
        raise InvalidInputError(f"layer {layer} was not scored: there are {', '.join(map(str, self.layers))}")

    def top(self, k: int) -> tuple[LayerScore, ...]:
        """The `k` layers with the highest scores, best first; of equal ones the earlier. Layers without a score are left out.

        Raises:
            InvalidInputError: `k` is below 1, or no layer has a score.
        """
        scored = [score for score in self.scores if score.score is not None]
        if k < 1 or not scored:
            raise InvalidInputError(f"top({k}) of {len(scored)} layers with a score: ask for at least 1, of at least 1")
        return tuple(sorted(scored, key=lambda score: (-(score.score or 0.0), score.layer))[:k])

    def best(self) -> LayerScore:
        """The layer with the highest score."""
        return self.top(1)[0]

    def importance(self) -> dict[int, float]:
        """Layer -> its share of all scores above 0, for layers that have one.

        Raises:
            InvalidInputError: no layer has a score above 0.
        """
        positive = {score.layer: score.score for score in self.scores if score.score is not None and score.score > 0}
        if not positive:
            raise InvalidInputError(
                f"no layer of {self.model} has a score above 0 for {self.trait!r}: there is nothing to steer at"
            )
        total = sum(positive.values())
        return {layer: score / total for layer, score in positive.items()}

    def reason(self) -> str:
        """In words, which layer is best and what that rests on."""
        best = self.best()
        interval = "" if best.low is None or best.high is None else f" [{best.low:.3g}, {best.high:.3g}]"
        if best.held_out is not None:
            interval = f" ({best.held_out:.3g}{interval} on questions that its dose was not picked on)"
        others = ", ".join(f"{score.layer}: {score.score:.3g}" for score in self.top(min(3, len(self.scores)))[1:])
        return f"layer {best.layer}: {best.score:.3g}{interval} by {METHODS[self.method]}" + (
            f" (next: {others})" if others else ""
        )

    def recorded_in(self, vector: PersonaVector) -> PersonaVector:
        """`vector` with these scores as its statistic ``effectiveness``, which `choose_layer` goes by.

        Raises:
            InvalidInputError: a layer of the vector was not scored, or the scores are of another trait.
        """
        if self.trait != vector.trait:
            raise InvalidInputError(
                f"the scores are of {self.trait!r}, the vector is of {vector.trait!r}: score the vector's own"
            )
        values = tuple(self.at(layer).score for layer in vector.layers)
        noted = {"method": self.method, "n_tokens": self.n_tokens}
        return dataclasses.replace(
            vector,
            statistics={**vector.statistics, "effectiveness": values},
            provenance={**vector.provenance, "effectiveness": noted},
        )

    def _repr_html_(self) -> str:
        """In a notebook: which layer and why, and a row for each, the best in bold; what no layer has is left out."""
        named = [field.name for field in dataclasses.fields(LayerScore) if field.name != "usable"]
        columns = {name.replace("_", " "): [getattr(score, name) for score in self.scores] for name in named}
        known = {name: values for name, values in columns.items() if any(value is not None for value in values)}
        if "score" not in known:
            return html_table(f"{self.trait} in {self.model}: no layer has a score", known)
        title = f"{self.trait} in {self.model}, {self.reason()}"
        return html_table(title, known, bars="score", best=self.scores.index(self.best()))

    def __repr__(self) -> str:
        scored = any(value is not None for value in self.values)
        best = f"best layer {self.best().layer}" if scored else "no layer has a score"
        return f"LayerEffectiveness({self.trait!r} in {self.model}, {self.method}, {best})"
