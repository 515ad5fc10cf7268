"""A vector with scores of its layers, as `extract-vectors` makes it, kept in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from persona_interp.errors import PersonaInterpError
from persona_interp.jsonl_store import content_key
from persona_interp.judges.determinants import determinants
from persona_interp.judges.registry import optional_judge
from persona_interp.measure.contrast_pairs import kept_pairs
from persona_interp.measure.effectiveness import LayerEffectiveness
from persona_interp.measure.layer_effectiveness import AUTO, layer_effectiveness, pairs_sampling
from persona_interp.models.sampling import Sampling
from persona_interp.models.steerable import SteerableModel
from persona_interp.progress import say
from persona_interp.traits.judging import Judge
from persona_interp.traits.model_kinds import resolve_trait
from persona_interp.traits.trait import Trait
from persona_interp.vectors.extract import extract
from persona_interp.vectors.persona_vector import PersonaVector

PAIRS = "contrast_pairs.json"


def scored(
    vector: PersonaVector,
    model: SteerableModel,
    trait: Trait | str | Path,
    folder: Path,
    *,
    sampling: Sampling,
    seed: int,
    batch_size: int | None = None,
    method: str = AUTO,
) -> PersonaVector:
    """`vector` with a score of every layer, and a line that says which is best and why.

    Where there can be none it is given back as it is, with a note: it is not lost.
    """
    options: dict[str, Any] = {"sampling": sampling, "seed": seed, "batch_size": batch_size, "method": method}
    found = layer_scores(vector, model, trait, folder, **options)
    if found is None:
        return vector
    say(found.reason())
    return found.recorded_in(vector)


def layer_scores(
    vector: PersonaVector,
    model: SteerableModel,
    trait: Trait | str | Path,
    folder: Path,
    *,
    sampling: Sampling,
    seed: int,
    batch_size: int | None,
    method: str,
) -> LayerEffectiveness | None:
    """The score of every layer, by pairs of answers that are kept in `folder`; None, and a note, where there can be none."""
    try:
        drawn = pairs_sampling(method, sampling)
        pairs = kept_pairs(folder / PAIRS, model, trait, sampling=drawn, seed=seed + 1, batch_size=batch_size)
        return layer_effectiveness(model, vector, trait, method=method, pairs=pairs, batch_size=batch_size)
    except PersonaInterpError as error:
        say(f"note: the layers could not be scored ({error}); --layer auto will go by geometry")
        return None


def scored_vector(
    model: SteerableModel,
    trait: Trait | str | Path,
    folder: Path,
    *,
    judge: str | Judge | None,
    samples: int = 1,
    sampling: Sampling | None = None,
    seed: int = 0,
    batch_size: int | None = None,
) -> PersonaVector:
    """A vector of `trait` with scores of its layers; the one in `folder` if it was made from the same weights and settings.

    Raises:
        PersonaInterpError: as `extract`.
    """
    sampling = Sampling() if sampling is None else sampling
    trait = resolve_trait(model, trait)
    judge = optional_judge(judge, model, trait=trait)
    path = kept_file(model, trait, folder, judge=judge, samples=samples, sampling=sampling, seed=seed)
    if path.exists():
        return PersonaVector.load(path)
    run = path.with_suffix(".run")
    options = {"sampling": sampling, "seed": seed, "batch_size": batch_size}
    vector = extract(model, trait, judge=judge, samples=samples, folder=run, **options)
    vector = scored(vector, model, trait, run, **options)
    vector.save(path)
    return vector


def kept_file(
    model: SteerableModel,
    trait: Trait | str | Path,
    folder: Path,
    *,
    judge: str | Judge | None,
    samples: int = 1,
    sampling: Sampling | None = None,
    seed: int = 0,
) -> Path:
    """Where `scored_vector` keeps its vector, there or not; rollouts lie in a folder of that name ending in ``.run``."""
    trait = resolve_trait(model, trait)
    judge = optional_judge(judge, model, trait=trait)
    key = content_key(
        model.identity.fingerprint, str(model.dtype), trait.to_json(), None if judge is None else determinants(judge, trait),
        samples, (Sampling() if sampling is None else sampling).to_json(), seed,
    )[:12]  # fmt: skip
    return folder / f"{trait.name}-{key}.json"
