"""`predict_expression`: does the last prompt token foretell how much of a trait the answer will show?

*Persona Vectors* (arXiv 2507.21509, section 3) reports correlations of 0.75 to 0.83 over prompts that range from against a trait
to for it, and 0.25 to 0.83 within one kind of prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from persona_interp.errors import InvalidInputError
from persona_interp.interventions.graph import Capture, InterventionGraph
from persona_interp.judges.registry import load_judge
from persona_interp.models.results import Generation
from persona_interp.models.sampling import Sampling, row_seeds
from persona_interp.models.steerable import SteerableModel
from persona_interp.monitoring.conditions import Condition
from persona_interp.monitoring.prediction import Prediction, PromptOutcome
from persona_interp.monitoring.projection import Axis
from persona_interp.provenance import provenance
from persona_interp.traits.judging import Judge, Judgement
from persona_interp.traits.model_kinds import resolve_trait
from persona_interp.traits.trait import Trait
from persona_interp.vectors.layer_choice import choose_layer
from persona_interp.vectors.persona_vector import PersonaVector


def predict_expression(
    model: SteerableModel,
    vector: PersonaVector,
    trait: Trait | str | Path,
    conditions: Sequence[Condition],
    *,
    layer: int | None = None,
    samples: int = 4,
    judge: str | Judge | None = "auto",
    sampling: Sampling | None = None,
    seed: int = 0,
    batch_size: int | None = None,
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
        samples: answers a prompt; two or more tell how much of the scores is chance.
        judge: a judge or its name (`load_judge`).
        sampling: how answers are drawn; `Sampling()` if None.
        seed: of the answers.
        batch_size: rows run together; None lets the model choose.

    Raises:
        InvalidInputError: no prompt, `samples` below 1, two conditions of one name, or a prompt too long for the context.
        IncompatibleError: the vector does not fit the model.
    """
    vector.check_fits(model.identity)
    _check(conditions, samples)
    trait = resolve_trait(model, trait)
    scorer = load_judge(judge, model, trait=trait)
    sampling = sampling or Sampling()
    axis = Axis.of(vector, [choose_layer(vector, model.first_steerable_layer).layer if layer is None else layer], "activation")
    last, mean = Capture("prompt_last", layers=axis.layers), Capture("answer", layers=axis.layers)
    asked = [(condition.name, conversation) for condition in conditions for conversation in condition.conversations]
    rows = [conversation for _, conversation in asked for _ in range(samples)]
    answers = model.generate(
        rows,
        graph=InterventionGraph((last, mean)),
        sampling=sampling,
        seed=row_seeds(seed, len(rows)),
        batch_size=batch_size,
    )
    judged = scorer.judge(trait, [(row.question, answer.text) for row, answer in zip(rows, answers, strict=True)])
    prompts = []
    for place, (name, conversation) in enumerate(asked):
        part = slice(place * samples, (place + 1) * samples)
        prompts.append(_outcome(name, conversation.question, axis, (last, mean), answers[part], judged[part]))
    return Prediction(
        trait=trait.name,
        vector=vector.trait,
        model=model.identity,
        judge=scorer.name,
        layer=axis.layers[0],
        prompts=tuple(prompts),
        provenance=provenance(seed=seed, samples=samples, sampling=sampling.to_json(), vector=vector.model.to_json()),
    )


def _check(conditions: Sequence[Condition], samples: int) -> None:
    if samples < 1:
        raise InvalidInputError(f"samples is {samples}: give at least 1 answer a prompt")
    if not any(condition.conversations for condition in conditions):
        raise InvalidInputError("there is no prompt to answer: give at least one condition with conversations")
    names = [condition.name for condition in conditions]
    if repeated := [name for name in names if names.count(name) > 1]:
        raise InvalidInputError(f"two conditions are called {repeated[0]!r}: give each a name of its own")


def _outcome(
    condition: str,
    question: str,
    axis: Axis,
    captures: tuple[Capture, Capture],
    answers: Sequence[Generation],
    judged: Sequence[Judgement],
) -> PromptOutcome:
    last, mean = captures
    over_answers = [float(axis.project(answer.captured[mean])) for answer in answers if mean in answer.captured]
    return PromptOutcome(
        condition=condition,
        question=question,
        predicted=float(axis.project(answers[0].captured[last])),
        scores=tuple(judgement.trait for judgement in judged),
        coherence=tuple(judgement.coherence for judgement in judged),
        answer_projection=fmean(over_answers) if over_answers else None,
    )
