"""Vectors of traits: a first one from few questions, within a minute or two, and a refined one made while people look at that."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from persona_interp.demo.jobs import Job, Stopped
from persona_interp.demo.limits import MAX_SAMPLES, checked_whole
from persona_interp.errors import InvalidInputError, PersonaInterpError, UnknownNameError
from persona_interp.interventions.graph import InterventionGraph
from persona_interp.jsonl_store import content_key
from persona_interp.judges.registry import load_judge
from persona_interp.locks import locked
from persona_interp.measure.coherent_range import coherent_range
from persona_interp.measure.dose import dose_response
from persona_interp.measure.scored_vector import scored
from persona_interp.models.sampling import Sampling
from persona_interp.models.steerable import SteerableModel
from persona_interp.organisms.grammar import TRAITS
from persona_interp.organisms.trait_texts import is_organism
from persona_interp.progress import say, track
from persona_interp.residuals.pooling import ANSWER_NORM
from persona_interp.storage import home
from persona_interp.traits.catalogue import trait_names
from persona_interp.traits.coherence import CHOSEN
from persona_interp.traits.judging import Judge
from persona_interp.traits.model_kinds import resolve_trait
from persona_interp.traits.trait import Trait
from persona_interp.vectors.extract import extract
from persona_interp.vectors.layer_choice import choose_layer
from persona_interp.vectors.persona_vector import PersonaVector

SAMPLES = 1
"""Answers per instruction and question, for each sign."""
FIRST, ALL = 4, 10
"""Questions of the first vector, with five pairs of instructions 40 answers, and of the refined one, 100."""
SAMPLING = Sampling(max_new_tokens=48)
TRIED = (-0.8, -0.6, -0.4, -0.2, 0.0, 0.2, 0.4, 0.6, 0.8)
"""Doses at which answers are read for coherence, as perturbation ratios."""
_ASKED, _ANSWER = 3, 32
"""Questions at each of them, and tokens of an answer."""
_PARTS = (50, 30, 20)
"""What rollouts, scores of layers and the usable range take of the time, in hundredths, about."""
_PAGE, _USABLE = "page", "usable"
_EXAMPLE = "silly"
"""The trait chosen at first: its answers can be told at a glance."""
_PATIENCE = 3600.0
"""Seconds one visitor waits for another who makes the same vector."""


def traits_offered(*, organism: bool) -> list[str]:
    """Names of the traits offered: on an organism those of its grammar, else the library's; then the user's own."""
    names = trait_names()
    own = [name for name, origin in names.items() if origin == "user"]
    if organism:
        return [*TRAITS, *(name for name in own if name not in TRAITS)]
    library = (name for name, origin in names.items() if origin == "library")
    return [*sorted(library, key=lambda name: name != _EXAMPLE), *own]


def judge_of(model: SteerableModel, trait: Trait) -> Judge:
    """Who scores answers for a trait: exact on an organism, for what its grammar knows.

    An organism follows no rubric, so other traits are scored there by how much likelier an answer is under the trait's own
    instructions. Other models score with the trait's rubric.
    """
    return load_judge("auto", model, trait=trait)


def folder_of(model: SteerableModel) -> Path:
    """Where the vectors of a model are kept: under ``demo`` in the user's data folder."""
    return home() / "demo" / model.identity.fingerprint[:16]


def kept_vector(model: SteerableModel, trait: Trait, samples: int = SAMPLES) -> PersonaVector | None:
    """The vector of `trait` as far as it has been made before."""
    for path in (_refined_file(model, trait, samples), _first_file(model, trait)):
        try:
            if path.exists():
                return PersonaVector.load(path)
        except PersonaInterpError:
            continue  # it will be made again
    return None


def first_vector(job: Job[Any], model: SteerableModel, trait: Trait) -> PersonaVector:
    """The vector of `trait`: the best there is, else one from few questions, whose answers nobody judges.

    Raises:
        PersonaInterpError: as `extract`.
    """
    job.doing(f"{trait.name}: looking for its vector in {model.name}")
    if (found := kept_vector(model, trait)) is not None:
        return found
    with _alone(model, trait):
        found = kept_vector(model, trait)
        if found is None:
            with track(1, f"{trait.name}: a first vector from {min(FIRST, len(trait.extraction_questions))} questions"):
                found = _extracted(model, trait, FIRST, None, SAMPLES)
            found.save(_first_file(model, trait))
        return found


def refine(model: SteerableModel, trait: Trait, samples: object = SAMPLES) -> PersonaVector:
    """The vector of `trait` from more questions, filtered by the judge, with scores of its layers and its usable range.

    What was made stays, whenever this ends: the next call goes on from there.

    Raises:
        InvalidInputError: `samples` is out of range.
        PersonaInterpError: as `extract`.
    """
    number = checked_whole(samples, "number of samples", 1, MAX_SAMPLES)
    path = _refined_file(model, trait, number)
    if path.exists() and is_refined(kept := PersonaVector.load(path)):
        return kept
    with _alone(model, trait), track(sum(_PARTS), f"{trait.name}: refining") as bar:
        vector = PersonaVector.load(path) if path.exists() else None
        bar.part = _PARTS[0]
        if vector is None:
            vector = _filtered(model, trait, number)
            vector.save(path)
        bar.advance(bar.part)
        bar.part = _PARTS[1]
        if _PAGE not in vector.provenance:
            vector = scored(vector, model, trait, _run_folder(model, trait), sampling=SAMPLING, seed=0)
            bar.advance(0)  # an end that was asked for meanwhile was taken for scores that cannot be had
            vector = _noted(vector, {})
            vector.save(path)
        bar.advance(bar.part)
        bar.part = _PARTS[2]
        if not is_refined(vector):
            vector = _noted(vector, {_USABLE: _usable(model, vector, trait)})
            vector.save(path)
        bar.advance(bar.part)
    return vector


def is_refined(vector: PersonaVector) -> bool:
    """Whether `refine` has done with it all it does."""
    return _USABLE in vector.provenance.get(_PAGE, {})


def usable_range(vector: PersonaVector) -> tuple[int, float, float] | None:
    """(layer, smallest, largest ratio) up to which answers stayed coherent when they were tried; None where they were not."""
    found = vector.provenance.get(_PAGE, {}).get(_USABLE)
    try:
        return int(found["layer"]), float(found["low"]), float(found["high"])
    except (KeyError, TypeError, ValueError):
        return None


def with_norms(model: SteerableModel, vector: PersonaVector, questions: tuple[str, ...]) -> PersonaVector:
    """`vector`, knowing the residual norms of the model, without which no dose has a meaning; measured where it does not.

    Raises:
        InvalidInputError: the model's answers are empty.
    """
    if not vector.norm_ratios.isnan().any():
        return vector
    answers = model.generate(questions, graph=InterventionGraph((ANSWER_NORM,)), sampling=Sampling(max_new_tokens=_ANSWER))
    read = [answer.captured[ANSWER_NORM].double() for answer in answers if ANSWER_NORM in answer.captured]
    if not read:
        raise InvalidInputError(f"{model.name} answers nothing, so that doses have no meaning: choose another model")
    mean = sum(read[1:], read[0]) / len(read)
    norms = tuple(float(mean[layer]) for layer in vector.layers)
    return replace(vector, statistics={**vector.statistics, "resid_norm": norms})


def trait_called(model: SteerableModel, name: str) -> Trait:
    """The trait of that name, as `model` understands it.

    Raises:
        UnknownNameError: it is not offered for this model.
    """
    offered = traits_offered(organism=is_organism(model))
    if name not in offered:
        raise UnknownNameError(f"{model.name} has no trait {name!r} here. There are {', '.join(offered)}")
    return resolve_trait(model, name)


def known_trait(model: SteerableModel, vector: PersonaVector) -> Trait | None:
    """The trait a vector is of, for scoring answers; None where it goes by a name that is no trait's here."""
    offered = traits_offered(organism=is_organism(model))
    return resolve_trait(model, vector.trait) if vector.trait in offered else None


def _extracted(model: SteerableModel, trait: Trait, n_questions: int, judge: Judge | None, samples: int) -> PersonaVector:
    """From the first questions; all extractions of a trait share their answers."""
    return extract(
        model, trait, judge=judge, samples=samples, questions=trait.extraction_questions[:n_questions], sampling=SAMPLING,
        folder=_run_folder(model, trait),
    )  # fmt: skip


def _filtered(model: SteerableModel, trait: Trait, samples: int) -> PersonaVector:
    """By the judge, or with all answers where it leaves too few."""
    try:
        return _extracted(model, trait, ALL, judge_of(model, trait), samples)
    except (InvalidInputError, Stopped):
        raise
    except PersonaInterpError as error:
        found = _extracted(model, trait, ALL, None, samples)
        say(f"note: all answers are kept, because those the judge keeps are not enough ({error})")
        return found


def _usable(model: SteerableModel, vector: PersonaVector, trait: Trait) -> dict[str, Any]:
    """Up to which ratios answers stay coherent at the best layer; empty where nobody can tell."""
    layer = choose_layer(vector, model.first_steerable_layer).layer
    try:
        judge = judge_of(model, trait) if is_organism(model) else "perplexity"
        found = dose_response(
            model, vector, trait, ratios=TRIED, layers=layer, questions=trait.extraction_questions[:_ASKED], judge=judge,
            sampling=Sampling(max_new_tokens=_ANSWER),
        )  # fmt: skip
        span = coherent_range(found.points, CHOSEN)
    except (InvalidInputError, UnknownNameError) as error:
        say(f"note: the usable range could not be measured ({error})")
        return {}
    if span is None:
        return {}
    at_one = float(vector.norm_ratios[vector.row(layer)])
    return {"layer": layer, "low": round(span.low * at_one, 6), "high": round(span.high * at_one, 6), "judge": found.judge}


def _noted(vector: PersonaVector, added: dict[str, Any]) -> PersonaVector:
    return replace(vector, provenance={**vector.provenance, _PAGE: {**vector.provenance.get(_PAGE, {}), **added}})


def _alone(model: SteerableModel, trait: Trait) -> Any:
    """Held while one visitor has the vector made, so that another who asks for it gets what the first made."""
    return locked(
        _run_folder(model, trait).with_suffix(".making"), patience=_PATIENCE, what=f"the vector of {trait.name!r}",
        remedy="wait until it is made",
    )  # fmt: skip


def _key(model: SteerableModel, trait: Trait) -> str:
    return content_key(model.identity.fingerprint, str(model.dtype), trait.to_json(), SAMPLING.to_json())[:12]


def _first_file(model: SteerableModel, trait: Trait) -> Path:
    return folder_of(model) / f"{trait.name}-{_key(model, trait)}.first.json"


def _refined_file(model: SteerableModel, trait: Trait, samples: int) -> Path:
    return folder_of(model) / f"{trait.name}-{_key(model, trait)}.{samples}.json"


def _run_folder(model: SteerableModel, trait: Trait) -> Path:
    return folder_of(model) / f"{trait.name}-{_key(model, trait)}.run"
