"""The result of `predict_expression`: what the last prompt token foretold, and what the answers then showed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from statistics import fmean, variance
from typing import Any

from persona_interp.measure.point import mean_known
from persona_interp.measure.statistics import Estimate, pearson, pearson_within, spearman
from persona_interp.models.identity import ModelIdentity
from persona_interp.records import Record


@dataclass(frozen=True)
class PromptOutcome(Record):
    """One prompt.

    Attributes:
        condition: its condition's name.
        question: what the user said last.
        predicted: projection at the last prompt token, before anything is answered.
        scores: trait score of each sampled answer, 0-100; None where the judge gave none.
        coherence: their coherence.
        answer_projection: mean over the answers' tokens, for comparison; None where the answers have none.
    """

    json_kind = "prompt"
    json_names = ("condition", "question", "predicted", "actual", "*")

    condition: str
    question: str
    predicted: float
    scores: tuple[float | None, ...]
    coherence: tuple[float | None, ...]
    answer_projection: float | None

    @property
    def actual(self) -> float | None:
        """Mean trait score over the answers that have one."""
        return mean_known(self.scores)


@dataclass(frozen=True)
class Prediction(Record):
    """Predicted against actual trait expression.

    A high correlation across conditions may say no more than that the vector tells a prompt for the trait from one against it;
    that within conditions says whether it tells two prompts of one kind apart.

    Attributes:
        trait: scored in the answers.
        vector: trait of the vector.
        model: which answered.
        judge: which scored.
        layer: 0-based block that was read.
        prompts: in the order of their conditions.
        provenance: versions, seed, sampling.
    """

    json_kind = "prediction"
    json_version = 1
    json_names = ("trait", "vector", "model", "judge", "layer", "across", "across_ranks", "between", "within")

    trait: str
    vector: str
    model: ModelIdentity
    judge: str
    layer: int
    prompts: tuple[PromptOutcome, ...]
    provenance: Mapping[str, Any] = field(default_factory=dict[str, Any], compare=False)

    @property
    def conditions(self) -> tuple[str, ...]:
        """Their names, in order."""
        return tuple(dict.fromkeys(prompt.condition for prompt in self.prompts))

    @cached_property
    def _scored(self) -> list[tuple[PromptOutcome, float]]:
        return [(prompt, prompt.actual) for prompt in self.prompts if prompt.actual is not None]

    @cached_property
    def across(self) -> Estimate:
        """Pearson's correlation over all prompts. Its interval takes them as independent, for these conditions."""
        return pearson([prompt.predicted for prompt, _ in self._scored], [actual for _, actual in self._scored])

    @cached_property
    def across_ranks(self) -> Estimate:
        """Spearman's, likewise."""
        return spearman([prompt.predicted for prompt, _ in self._scored], [actual for _, actual in self._scored])

    @cached_property
    def between(self) -> Estimate:
        """Pearson's over the means of the conditions: as many points as there are conditions."""
        groups = [[(p.predicted, actual) for p, actual in self._scored if p.condition == name] for name in self.conditions]
        means = [tuple(map(fmean, zip(*group, strict=True))) for group in groups if group]
        return pearson([mean[0] for mean in means], [mean[1] for mean in means])

    @cached_property
    def within(self) -> Estimate:
        """Pearson's with each condition's mean taken away from both sides."""
        return pearson_within(
            [prompt.predicted for prompt, _ in self._scored],
            [actual for _, actual in self._scored],
            [prompt.condition for prompt, _ in self._scored],
        )

    def within_one(self, condition: str) -> Estimate:
        """Pearson's over the prompts of one condition; without a value where its answers do not differ."""
        chosen = [(prompt.predicted, actual) for prompt, actual in self._scored if prompt.condition == condition]
        return pearson([predicted for predicted, _ in chosen], [actual for _, actual in chosen])

    def ceiling(self, condition: str | None = None) -> float | None:
        """About the largest correlation within a condition (all of them if None) that anything could reach; 0 to 1.

        The score of a prompt is a mean over a few sampled answers. The share of its variance within conditions that is not
        due to the draw of these answers has this square root. None without two scored answers a prompt, or without variance.
        """
        groups: dict[str, list[float]] = {}
        noise: list[float] = []
        for prompt, actual in self._scored:
            if condition in (None, prompt.condition):
                groups.setdefault(prompt.condition, []).append(actual)
                known = [score for score in prompt.scores if score is not None]
                if len(known) > 1:
                    noise.append(variance(known) / len(known))
        freedom = sum(len(group) - 1 for group in groups.values())
        squares = math.fsum((actual - fmean(group)) ** 2 for group in groups.values() for actual in group)
        if not noise or freedom < 1 or squares <= 0:
            return None
        return math.sqrt(max(0.0, 1 - fmean(noise) / (squares / freedom)))

    def mean_score(self, condition: str) -> float | None:
        """Mean trait score of a condition's prompts."""
        return mean_known([actual for prompt, actual in self._scored if prompt.condition == condition])

    def mean_coherence(self, condition: str) -> float | None:
        """Mean coherence of a condition's answers."""
        return mean_known([each for prompt in self.prompts if prompt.condition == condition for each in prompt.coherence])

    def json_items(self) -> dict[str, Any]:
        """Correlations are written beside what they follow from."""
        within = {name: {**self.within_one(name).to_json(), "ceiling": self.ceiling(name)} for name in self.conditions}
        rest = {"prompts": self.prompts, "provenance": self.provenance}
        return {**super().json_items(), "ceiling_within": self.ceiling(), "conditions": within, **rest}
