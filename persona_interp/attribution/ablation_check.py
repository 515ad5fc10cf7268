"""`ablation_check`: does the trait need the components that write along its vector, more than others?"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Unpack

from persona_interp.attribution.ablation import AblatedModel, Writes, mean_writes
from persona_interp.attribution.attribute import check_pairs, rows_of
from persona_interp.attribution.attribution import Attribution
from persona_interp.attribution.check import AblationArm, AblationCheck
from persona_interp.attribution.component import ABLATABLE, Component, Kind
from persona_interp.errors import IncompatibleError, InvalidInputError
from persona_interp.measure.conditions import Condition, prompted
from persona_interp.measure.point import DosePoint
from persona_interp.measure.protocol import Protocol, ProtocolOptions
from persona_interp.measure.run import Work
from persona_interp.models.sampling import derived_seed
from persona_interp.models.steerable import SteerableModel
from persona_interp.provenance import provenance
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
    **options: Unpack[ProtocolOptions],
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
        options: how it is measured, each by its name in `Protocol`: ``num_prompts`` of the evaluation questions, ``samples`` in
            each arm, ``judge``, ``sampling``, ``seed`` (of the random sets too; every arm draws from the same streams),
            ``folder``, ``batch_size``.

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
    protocol = Protocol.of(options)
    top, *drawn = component_sets(found, k, kinds, n_random, protocol.seed)
    asked = protocol.asked(model, trait or found.trait)
    bridge, rows, n = model.bridge(), rows_of(pairs), len(pairs)
    positive, negative = (
        mean_writes(model, bridge, some, found.layer, positions=found.positions, batch_size=protocol.batch_size)
        for some in (rows[:n], rows[n:])
    )
    for_it, against_it = prompted(asked.trait)
    with Work(asked) as work:

        def score(writes: Writes, condition: Condition = for_it) -> DosePoint:
            (answers,) = work.scored(AblatedModel(model, writes, bridge=bridge), [condition])
            return answers.point(examples=answers.texts[:1])

        def ablated(name: str, components: Sequence[Component], source: Writes) -> AblationArm:
            """Some components writing what `source` says."""
            return AblationArm(name, tuple(components), score({component: source[component] for component in components}))

        return AblationCheck(
            trait=asked.trait.name,
            model=model.name,
            judge=asked.judge.name,
            layer=found.layer,
            baseline=score({}),
            against=score({}, against_it),
            top=ablated("top", top, negative),
            placebo=ablated("placebo", top, positive),
            random=tuple(ablated(f"random {number}", some, negative) for number, some in enumerate(drawn, start=1)),
            questions=asked.questions,
            samples=asked.samples,
            provenance=provenance(model=model.identity.to_json(), **asked.record, kinds=list(kinds)),
        )


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
