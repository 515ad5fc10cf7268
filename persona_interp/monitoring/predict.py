"""`predict_expression`: does the last prompt token foretell how much of a trait the answer will show?

*Persona Vectors* (arXiv 2507.21509, section 3) reports correlations of 0.75 to 0.83 over prompts that range from against a trait
to for it, and 0.25 to 0.83 within one kind of prompt.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Unpack

from persona_interp.errors import InvalidInputError
from persona_interp.interventions.graph import Capture
from persona_interp.measure.conditions import Condition
from persona_interp.measure.point import mean_known
from persona_interp.measure.protocol import Protocol, ProtocolOptions
from persona_interp.measure.run import Answers, Reading, Work
from persona_interp.models.results import Generation
from persona_interp.models.sampling import row_seeds
from persona_interp.models.steerable import SteerableModel
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
        conditions: prompts by kind, as their ``conversations``; see `monitoring.conditions`.
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
    questions = [conversation.question for condition in conditions for conversation in condition.conversations or ()]
    asked = protocol.asked(model, trait, questions, distinct=False)
    seeds = iter(row_seeds(protocol.seed, len(questions) * asked.samples))
    repeated = [_repeated(condition, asked.samples, seeds) for condition in conditions]
    with Work(asked) as work:
        found = work.judged(work.answers(model, repeated, _reading(axis, vector)))
    return Prediction(
        trait=asked.trait.name,
        vector=vector.trait,
        model=model.identity,
        judge=asked.judge.name,
        layer=axis.layers[0],
        prompts=tuple(outcome for each in found for outcome in _outcomes(each, asked.samples)),
        provenance=provenance(**asked.record, samples=asked.samples, vector=vector.model.to_json()),
    )


def _check(conditions: Sequence[Condition]) -> None:
    if not any(condition.conversations for condition in conditions):
        raise InvalidInputError("there is no prompt to answer: give at least one condition with conversations")
    names = [condition.name for condition in conditions]
    if repeated := [name for name in names if names.count(name) > 1]:
        raise InvalidInputError(f"two conditions are called {repeated[0]!r}: give each a name of its own")


def _repeated(condition: Condition, samples: int, seeds: Iterator[int]) -> Condition:
    """Every prompt so many times, each with a random stream of its own."""
    rows = tuple(conversation for conversation in condition.conversations or () for _ in range(samples))
    return replace(condition, conversations=rows, seeds=tuple(next(seeds) for _ in rows))


def _reading(axis: Axis, vector: PersonaVector) -> Reading:
    """Projections of the last prompt token, and of the mean over the answer's tokens; None where it has none."""
    last, mean = Capture("prompt_last", layers=axis.layers), Capture("answer", layers=axis.layers)

    def values(answer: Generation) -> list[float | None]:
        captured = answer.captured
        return [float(axis.project(captured[last])), float(axis.project(captured[mean])) if mean in captured else None]

    return Reading((last, mean), values, Steering(vector, axis.layers).key)


def _outcomes(found: Answers, samples: int) -> Iterator[PromptOutcome]:
    """One a prompt of a condition."""
    for start in range(0, len(found.texts), samples):
        part = slice(start, start + samples)
        readings, judged = found.readings[part], found.judgements[part]
        yield PromptOutcome(
            condition=found.condition.name,
            question=found.questions[start],
            predicted=readings[0][0] or 0.0,
            scores=tuple(judgement.trait for judgement in judged),
            coherence=tuple(judgement.coherence for judgement in judged),
            answer_projection=mean_known([mean for _, mean in readings]),
        )
