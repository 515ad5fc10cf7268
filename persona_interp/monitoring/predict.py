"""`predict_expression`: does the last prompt token foretell how much of a trait the answer will show?

*Persona Vectors* (arXiv 2507.21509, section 3) reports correlations of 0.75 to 0.83 over prompts that range from against a trait
to for it, and 0.25 to 0.83 within one kind of prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Unpack

from persona_interp.errors import InvalidInputError
from persona_interp.interventions.graph import Capture
from persona_interp.measure.conditions import Condition as MeasuredCondition
from persona_interp.measure.protocol import Protocol, ProtocolOptions
from persona_interp.measure.run import Answers, Reading, Work
from persona_interp.models.results import Generation
from persona_interp.models.sampling import row_seeds
from persona_interp.models.steerable import SteerableModel
from persona_interp.monitoring.conditions import Condition
from persona_interp.monitoring.prediction import Prediction, PromptOutcome
from persona_interp.monitoring.projection import Axis
from persona_interp.provenance import provenance
from persona_interp.traits.trait import Trait
from persona_interp.vectors.layer_choice import choose_layer
from persona_interp.vectors.persona_vector import PersonaVector
from persona_interp.vectors.steering import Steering

SAMPLES = 4


def predict_expression(
    model: SteerableModel,
    vector: PersonaVector,
    trait: Trait | str | Path,
    conditions: Sequence[Condition],
    *,
    layer: int | None = None,
    **options: Unpack[ProtocolOptions],
) -> Prediction:
    """Project the last token of every prompt, sample answers to it, score them, and compare.

    Example:
        >>> conditions = system_prompt_conditions(trait.evaluation_questions, trait.instructions)
        >>> found = predict_expression(model, vector, trait, conditions)
        >>> print(found.across, found.within, found.ceiling())

    Args:
        model: which answers; nothing is steered.
        vector: of this model.
        trait: looked for in the answers, or its name (`resolve_trait`).
        conditions: prompts by kind, see `monitoring.conditions`.
        layer: of the vector; `choose_layer`'s if None.
        options: how it is measured, each by its name in `Protocol`: ``samples`` are the answers a prompt (4 if not given; two or
            more tell how much of the scores is chance), ``judge``, ``sampling``, ``seed``, ``folder``, ``batch_size``.

    Raises:
        InvalidInputError: no prompt, `samples` below 1, two conditions of one name, or a prompt too long for the context.
        IncompatibleError: the vector does not fit the model.
    """
    vector.check_fits(model.identity)
    protocol = Protocol.of({"protocol": Protocol(samples=SAMPLES), **options})
    _check(conditions)
    axis = Axis.of(vector, [choose_layer(vector, model.first_steerable_layer).layer if layer is None else layer], "activation")
    prompts = [conversation for condition in conditions for conversation in condition.conversations]
    asked = protocol.asked(model, trait, [conversation.question for conversation in prompts], distinct=False)
    rows = tuple(conversation for conversation in prompts for _ in range(asked.samples))
    every = MeasuredCondition("prompts", conversations=rows, seeds=tuple(row_seeds(protocol.seed, len(rows))))
    with Work(asked) as work:
        (found,) = work.judged(work.answers(model, [every], _reading(axis, vector)))
    names = [condition.name for condition in conditions for _ in condition.conversations]
    parts = [slice(start, start + asked.samples) for start in range(0, len(rows), asked.samples)]
    return Prediction(
        trait=asked.trait.name,
        vector=vector.trait,
        model=model.identity,
        judge=asked.judge.name,
        layer=axis.layers[0],
        prompts=tuple(_outcome(name, found, part) for name, part in zip(names, parts, strict=True)),
        provenance=provenance(**asked.record, samples=asked.samples, vector=vector.model.to_json()),
    )


def _check(conditions: Sequence[Condition]) -> None:
    if not any(condition.conversations for condition in conditions):
        raise InvalidInputError("there is no prompt to answer: give at least one condition with conversations")
    names = [condition.name for condition in conditions]
    if repeated := [name for name in names if names.count(name) > 1]:
        raise InvalidInputError(f"two conditions are called {repeated[0]!r}: give each a name of its own")


def _reading(axis: Axis, vector: PersonaVector) -> Reading:
    """Projections of the last prompt token, and of the mean over the answer's tokens; None where it has none."""
    last, mean = Capture("prompt_last", layers=axis.layers), Capture("answer", layers=axis.layers)

    def values(answer: Generation) -> list[float | None]:
        captured = answer.captured
        return [float(axis.project(captured[last])), float(axis.project(captured[mean])) if mean in captured else None]

    return Reading((last, mean), values, Steering(vector, axis.layers).key)


def _outcome(condition: str, found: Answers, part: slice) -> PromptOutcome:
    """One prompt, whose answers are a part of all."""
    readings, judged = found.readings[part], found.judgements[part]
    over_answers = [mean for _, mean in readings if mean is not None]
    return PromptOutcome(
        condition=condition,
        question=found.questions[part.start],
        predicted=readings[0][0] or 0.0,
        scores=tuple(judgement.trait for judgement in judged),
        coherence=tuple(judgement.coherence for judgement in judged),
        answer_projection=fmean(over_answers) if over_answers else None,
    )
