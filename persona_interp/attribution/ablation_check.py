"""`ablation_check`: does the trait need the components that write along its vector, more than others?"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from persona_interp.attribution.ablation import AblatedModel, Writes, mean_writes
from persona_interp.attribution.attribute import check_pairs, rows_of
from persona_interp.attribution.attribution import Attribution
from persona_interp.attribution.check import AblationArm, AblationCheck
from persona_interp.attribution.component import ABLATABLE, Component, Kind
from persona_interp.errors import IncompatibleError, InvalidInputError
from persona_interp.judges.registry import load_judge
from persona_interp.measure.arms import Asked, prompted_arms
from persona_interp.measure.dose import DosePoint
from persona_interp.measure.evaluate import asked_questions
from persona_interp.measure.kept_work import KeptWork
from persona_interp.models.sampling import Sampling, derived_seed
from persona_interp.models.steerable import SteerableModel
from persona_interp.provenance import provenance
from persona_interp.traits.judging import Judge
from persona_interp.traits.model_kinds import resolve_trait
from persona_interp.traits.trait import Trait
from persona_interp.vectors.rollouts.kept_pairs import KeptPairs

N_RANDOM = 8
_SHARE = 4
"""One in so many of the components is ablated where no number is given."""


def ablation_check(
    model: SteerableModel,
    found: Attribution,
    pairs: KeptPairs,
    trait: Trait | str | Path | None = None,
    *,
    k: int | None = None,
    kinds: Sequence[Kind] = ("head",),
    n_random: int = N_RANDOM,
    num_prompts: int | None = None,
    samples: int = 1,
    judge: str | Judge | None = "auto",
    sampling: Sampling | None = None,
    seed: int = 0,
    folder: str | Path | None = None,
    batch_size: int | None = None,
) -> AblationCheck:
    """Ask for the trait while the components with the largest shares are ablated, and while random ones are.

    The trait's evaluation questions are asked under its positive system prompts; components were chosen on other questions. From
    the last prompt token on an ablated component writes a constant, its mean over the *negative* answers. Not zero, which no
    later block has ever met: language would break, and the trait with it. Not the mean over all answers either: components repeat
    each other, and where one is merely silent the rest still say enough. The placebo tells a constant from what it says: the same
    components write their mean over the *positive* answers.

    Heads alone are ablated by default: the MLP of block 0 is part of what a token is, and no language is left without it.

    Example:
        >>> pairs = kept_pairs("vectors/organism-qwen2_silly.run", vector)
        >>> check = ablation_check(model, attribute(model, vector, pairs=pairs), pairs)
        >>> print(check.excess, check.holds, check.reason())

    Args:
        model: the one attributed.
        found: says which components write.
        pairs: answers the means are taken over; those of the attribution.
        trait: judged and asked for; that of the attribution's name if None.
        k: how many are ablated; None: a quarter of those there are, rounded.
        kinds: ``head``, ``mlp`` or both.
        n_random: sets of other components, of the same kinds and from the same layers; fewer where there are not as many.
        num_prompts: how many of the questions are asked, from the first; all of them if None.
        samples: answers to each question in each arm.
        judge: a judge or its name (`load_judge`).
        sampling: how answers are drawn.
        seed: of answers and random sets. Every arm draws from the same streams.
        folder: keeps every answer and score as it is made; None: a temporary one, kept only if something goes wrong.
        batch_size: rows run together; None lets it choose.

    Raises:
        InvalidInputError: a number below 1, kinds that cannot be ablated, or too few other components for random sets.
        IncompatibleError: the attribution or the pairs are of another model.
        UnsupportedError: as `attribute`.
        UnknownNameError: the judge does not know the trait.
    """
    if found.provenance.get("model", {}).get("fingerprint") != model.identity.fingerprint:
        raise IncompatibleError(
            f"the attribution is of {found.model}, not of these weights of {model.name}: attribute them first"
        )
    check_pairs(pairs, model)
    sets = component_sets(found, k, kinds, n_random, seed)
    trait = resolve_trait(model, trait or found.trait)
    if samples < 1:
        raise InvalidInputError(f"samples is {samples}: give at least 1 answer a question")
    asked = Asked(asked_questions(trait, None, num_prompts), samples, seed)
    scorer = load_judge(judge, model, trait=trait)
    sampling = Sampling() if sampling is None else sampling
    bridge, rows, n = model.bridge(), rows_of(pairs), len(pairs)
    means: list[Writes] = [
        mean_writes(model, bridge, some, found.layer, positions=found.positions, batch_size=batch_size)
        for some in (rows[:n], rows[n:])
    ]
    with KeptWork(folder) as work:
        arms = _Arms(work, model, bridge, trait, asked, scorer, sampling, batch_size)
        positive, negative = means
        top, *drawn = sets
        return AblationCheck(
            trait=trait.name,
            model=model.name,
            judge=scorer.name,
            layer=found.layer,
            baseline=arms.score({}),
            against=arms.score({}, against=True),
            top=arms.ablated("top", top, negative),
            placebo=arms.ablated("placebo", top, positive),
            random=tuple(arms.ablated(f"random {number}", some, negative) for number, some in enumerate(drawn, start=1)),
            questions=asked.questions,
            samples=samples,
            provenance=provenance(model=model.identity.to_json(), seed=seed, sampling=sampling.to_json(), kinds=list(kinds)),
        )


class _Arms:
    """Answers under one ablation after another, made where they are not kept yet, and scored."""

    def __init__(
        self,
        work: KeptWork,
        model: SteerableModel,
        bridge: Any,
        trait: Trait,
        asked: Asked,
        judge: Judge,
        sampling: Sampling,
        batch_size: int | None,
    ) -> None:
        self._work, self._model, self._bridge, self._trait = work, model, bridge, trait
        self._asked, self._judge = asked, judge
        self._options: dict[str, Any] = {"positions": "response", "sampling": sampling, "batch_size": batch_size}
        self._prompted, self._prompted_against = prompted_arms(trait)

    def score(self, writes: Writes, *, against: bool = False) -> DosePoint:
        """Asked for the trait, or against it."""
        arm = self._prompted_against if against else self._prompted
        ablated = AblatedModel(self._model, writes, bridge=self._bridge)
        (texts,) = self._work.answers(ablated, [arm], self._asked, **self._options)
        exchanges = [(question, text) for (question, _), text in zip(self._asked.rows, texts, strict=True)]
        judged = self._work.judgements(self._judge, self._trait, exchanges)
        return DosePoint(0.0, None, tuple(j.trait for j in judged), tuple(j.coherence for j in judged), tuple(texts[:1]))

    def ablated(self, name: str, components: Sequence[Component], source: Writes) -> AblationArm:
        """Some components writing what `source` says."""
        writes = {component: source[component] for component in components}
        return AblationArm(name, tuple(components), self.score(writes))


def component_sets(
    found: Attribution, k: int | None, kinds: Sequence[Kind], n_random: int, seed: int
) -> list[tuple[Component, ...]]:
    """The top components, then random sets of as many others of each kind, no two alike while there are enough.

    Raises:
        InvalidInputError: as `ablation_check`.
    """
    if n_random < 1 or not kinds or not set(kinds) <= set(ABLATABLE):
        raise InvalidInputError(
            f"n_random is {n_random} and kinds {', '.join(kinds) or 'none'}: give at least 1 random set, and of the kinds "
            f"{', '.join(ABLATABLE)} one or both"
        )
    candidates = [component for component in found.components if component.kind in kinds]
    number = max(1, round(len(candidates) / _SHARE)) if k is None else k
    top = tuple(each.component for each in found.top(number, kinds))
    wanted = Counter(component.kind for component in top)
    others = {kind: [c for c in candidates if c.kind == kind and c not in top] for kind in wanted}
    for kind, n in wanted.items():
        if len(others[kind]) < n:
            raise InvalidInputError(
                f"{n} of the {n + len(others[kind])} {kind}s up to layer {found.layer} of {found.model} are among the top "
                f"{number}, so that as many others cannot be drawn to compare with: ablate fewer, one kind only, or attribute a "
                "later layer"
            )
    draw = random.Random(derived_seed(f"{seed}/random components"))
    drawn: list[tuple[Component, ...]] = []
    for _ in range(100 * n_random):
        picked = [c for kind, n in wanted.items() for c in draw.sample(others[kind], n)]
        some = tuple(sorted(picked, key=candidates.index))
        if some not in drawn:
            drawn.append(some)
        if len(drawn) == n_random:
            break
    return [top, *drawn]
