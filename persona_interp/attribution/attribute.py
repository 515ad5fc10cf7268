"""`attribute`: which attention heads and MLPs write along a persona vector."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from persona_interp.attribution.attribution import Attribution, Contribution
from persona_interp.attribution.decomposition import Decomposition, decompose
from persona_interp.errors import IncompatibleError, InvalidInputError
from persona_interp.judges.registry import optional_judge
from persona_interp.measure.bootstrap import QuestionBootstrap, Scores
from persona_interp.measure.statistics import Estimate
from persona_interp.models.chat import TokenisedAnswer
from persona_interp.models.sampling import Sampling
from persona_interp.models.steerable import SteerableModel
from persona_interp.provenance import provenance
from persona_interp.residuals.pooling import POOLINGS
from persona_interp.traits.judging import Judge
from persona_interp.traits.model_kinds import resolve_trait
from persona_interp.traits.trait import Trait
from persona_interp.vectors.layer_choice import choose_layer
from persona_interp.vectors.persona_vector import PersonaVector
from persona_interp.vectors.rollouts.kept_pairs import KeptPairs, made_pairs


def attribute(
    model: SteerableModel,
    vector: PersonaVector,
    trait: Trait | str | Path | None = None,
    *,
    layer: int | None = None,
    pairs: KeptPairs | None = None,
    judge: str | Judge | None = "auto",
    samples: int = 1,
    sampling: Sampling | None = None,
    seed: int = 0,
    folder: str | Path | None = None,
    batch_size: int | None = None,
) -> Attribution:
    """Split the difference of positive and negative answers along `vector` over everything that writes into the stream.

    A block's output is the sum of the embedding and of what every attention head and MLP up to it added. Each of these is
    projected on the unit vector of `layer`, averaged over the tokens the vector is read at and over answers, positive minus
    negative (direct attribution; Elhage et al. 2021, A Mathematical Framework for Transformer Circuits). The parts sum to the
    difference of the stream itself, which is checked in every run. That is what is written, not what it does:
    `ablation_check` asks that.

    The model is run through TransformerLens (``model.bridge()``, eager attention) and is not changed.

    Example:
        >>> found = attribute(model, vector, pairs=kept_pairs("vectors/organism-qwen2_silly.run", vector))
        >>> print(found.top(3), found.share_of("head"))

    Args:
        model: the vector's own.
        vector: whose direction at `layer` counts.
        trait: whose instructions are answered where no `pairs` are given; that of the vector's name if None.
        layer: 0-based block whose output is explained; None: `choose_layer`.
        pairs: answers, of `kept_pairs` or `made_pairs`; None: they are made.
        judge: filters those that are made (`load_judge`); None keeps all.
        samples: answers made per instruction and question, for each sign.
        sampling: of answers made.
        seed: likewise.
        folder: keeps answers made; that of an extraction with the same settings has them already.
        batch_size: rows run together; None lets it choose.

    Raises:
        InvalidInputError: the vector has no such layer or is zero there, or there are no pairs.
        IncompatibleError: the vector or the pairs are of another model.
        MissingExtraError: the extra ``lens`` is not installed, or does not fit the installed transformers.
        UnsupportedError: TransformerLens cannot run the model (GGUF, remote, an architecture without an adapter), does not show
            its heads, or something it does not show writes into the stream.
        PersonaInterpError: fewer than eight pairs passed the filter.
    """
    vector.check_fits(model.identity)
    chosen = choose_layer(vector, model.first_steerable_layer).layer if layer is None else layer
    direction = vector.at(chosen)
    if not float(direction.norm()):
        raise InvalidInputError(f"the vector {vector.trait!r} is zero at layer {chosen}: choose another layer")
    bridge = model.bridge()  # raises now where there is none
    if pairs is None:
        asked = resolve_trait(model, trait or vector.trait)
        scorer = optional_judge(judge, model, trait=asked)
        options: dict[str, Any] = {"samples": samples, "sampling": sampling, "seed": seed, "folder": folder}
        pairs = made_pairs(model, asked, judge=scorer, **options, batch_size=batch_size)
    check_pairs(pairs, model)
    positions = vector.positions if vector.positions in POOLINGS else "response_avg"
    rows = rows_of(pairs)
    found = decompose(model, bridge, rows, chosen, direction, positions=positions, batch_size=batch_size)
    return _attribution(model, vector, chosen, positions, pairs, found)


def rows_of(pairs: KeptPairs) -> list[TokenisedAnswer]:
    """All positive answers, then all negative ones."""
    rollouts = (*pairs.positive, *pairs.negative)
    return [TokenisedAnswer((*rollout.prompt_ids, *rollout.answer_ids), len(rollout.prompt_ids)) for rollout in rollouts]


def check_pairs(pairs: KeptPairs, model: SteerableModel) -> None:
    """Refuse pairs whose ids mean nothing to `model`.

    Raises:
        InvalidInputError: there are none.
        IncompatibleError: another model made them.
    """
    if not len(pairs):
        raise InvalidInputError("there are no pairs of answers to attribute: extract, or make some with made_pairs()")
    if pairs.model != model.identity.fingerprint:
        raise IncompatibleError(
            f"the answers are of model {pairs.model!r}, not of {model.name} ({model.identity.fingerprint!r}): give the folder of "
            "an extraction from this model, or none to have them made"
        )


def _attribution(
    model: SteerableModel, vector: PersonaVector, layer: int, positions: str, pairs: KeptPairs, found: Decomposition
) -> Attribution:
    n = len(pairs)
    questions = _Questions(pairs)
    positive, negative = found.parts[:n].mean(dim=0).tolist(), found.parts[n:].mean(dim=0).tolist()
    differences, whole = found.parts[:n] - found.parts[n:], (found.whole[:n] - found.whole[n:]).tolist()
    contributions = tuple(
        Contribution(component, positive[column], negative[column], questions.mean(values), questions.share(values, whole))
        for column, component in enumerate(found.components)
        if (values := differences[:, column].tolist())
    )
    return Attribution(
        trait=vector.trait,
        model=model.name,
        layer=layer,
        positions=positions,
        n_pairs=n,
        n_questions=questions.n,
        judge=pairs.judged_by,
        whole=questions.mean(whole),
        contributions=contributions,
        gap=found.gap,
        provenance=provenance(
            model=model.identity.to_json(),
            vector={**vector.model.to_json(), "norm": float(vector.at(layer).norm())},
            resid_norm=found.resid_norm,
        ),
    )


class _Questions:
    """Intervals over the questions of some pairs; a value a pair."""

    def __init__(self, pairs: KeptPairs) -> None:
        members: dict[str, list[int]] = {}
        for number, question in enumerate(pairs.questions):
            members.setdefault(question, []).append(number)
        self.n = len(members)
        self._members = list(members.values())
        self._most = max(map(len, self._members))
        self._bootstrap = QuestionBootstrap(self.n, self._most)

    def mean(self, values: Sequence[float]) -> Estimate:
        return self._bootstrap.mean(self._table(values))

    def share(self, values: Sequence[float], whole: Sequence[float]) -> Estimate:
        return self._bootstrap.over_curve([0.0, 1.0], [self._table(values), self._table(whole)], _ratio)

    def _table(self, values: Sequence[float]) -> Scores:
        """Question by question, filled up with None to the same number of pairs each."""
        return [
            None if place >= len(members) else values[members[place]] for members in self._members for place in range(self._most)
        ]


def _ratio(_x: Any, means: Any) -> Any:
    with np.errstate(invalid="ignore", divide="ignore"):
        return means[:, 0] / means[:, 1]
