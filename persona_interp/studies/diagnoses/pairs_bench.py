"""The bench of real pairs: how far three causes explain that vectors, as they are, fail between families of organisms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from persona_interp.errors import FileFormatError
from persona_interp.measure.diagnostics.causes import named
from persona_interp.measure.diagnostics.diagnose import diagnose
from persona_interp.measure.diagnostics.diagnosis import Diagnosis
from persona_interp.measure.scored_vector import scored_vector
from persona_interp.measure.statistics import Estimate
from persona_interp.models.registry import load_model
from persona_interp.models.sampling import Sampling
from persona_interp.models.steerable import SteerableModel
from persona_interp.organisms.anchors import organism_anchors
from persona_interp.organisms.grammar_judge import GrammarJudge
from persona_interp.organisms.trait_texts import organism_trait
from persona_interp.progress import say
from persona_interp.records import Record
from persona_interp.storage import check_format_version, read_json, write_json
from persona_interp.studies.diagnoses.twins_bench import TRAITS
from persona_interp.transfers.reading import read_rows
from persona_interp.vectors.persona_vector import PersonaVector

FORMAT_VERSION = 1
ORGANISMS = ("organism-gpt2", "organism-llama", "organism-mistral", "organism-qwen2")
SAMPLING = Sampling(max_new_tokens=120)
BATCH = 256
_MEASURED = {
    "magnitude": ("norm_ratio", "source_perturbation_ratio", "unfixed_perturbation_ratio", "native_perturbation_ratio"),
    "basis": ("method", "held_out_r2", "cosine_to_native_before", "cosine_to_native_after"),
    "layers": ("source_layer", "same_index", "matched_layer", "native_layer", "shift", "shared_stream"),
}


@dataclass(frozen=True)
class PairCase(Record):
    """What is said of one vector's transfer from one organism into another.

    Attributes:
        source: its name.
        target: likewise.
        trait: name of the trait.
        verdict: of the diagnosis.
        reason: of the verdict.
        causes: each ``present``, ``excluded`` or ``open``.
        attribution: Shapley values of the three fixes; None where there is no recovery.
        recoveries: of every subset of fixes, by their names joined with ``+``.
        left_without: cause -> the effect of all fixes but its own, over that of all.
        by_states: recovery with all three fixed, the basis by a linear map of states; None where that is the fix anyway.
        measurements: a few of each cause's.
    """

    json_kind = "pair"

    source: str
    target: str
    trait: str
    verdict: str
    reason: str
    causes: Mapping[str, str]
    attribution: Mapping[str, float] | None
    recoveries: Mapping[str, Estimate]
    left_without: Mapping[str, Estimate]
    by_states: Estimate | None
    measurements: Mapping[str, Mapping[str, Any]]

    @property
    def naive(self) -> Estimate:
        """Recovery with nothing fixed."""
        return self.recoveries["none"]

    @property
    def full(self) -> Estimate:
        """Recovery with all three fixed."""
        return self.recoveries["magnitude+basis+layers"]

    @classmethod
    def of(cls, found: Diagnosis) -> PairCase:
        """What the bench keeps of a diagnosis."""
        return cls(
            found.source,
            found.target,
            found.trait,
            found.verdict.name,
            found.verdict.reason,
            found.verdict.causes,
            found.attribution,
            {named(fixed): value for fixed, value in found.recoveries.items()},
            found.left_without,
            found.recovery_by_states,
            {cause: {name: found.measurements[cause][name] for name in names} for cause, names in _MEASURED.items()},
        )


def pairs_bench(
    names: Sequence[str] = ORGANISMS,
    traits: Sequence[str] = TRAITS,
    *,
    folder: Path,
    num_prompts: int | None = None,
    samples: int = 1,
) -> list[PairCase]:
    """Diagnose every ordered pair of organisms; vectors, anchors, answers and diagnoses are kept in `folder`.

    Vectors are extracted, not the planted directions: this is a transfer as a user meets it.
    """
    model = cache(load_model)
    anchors = organism_anchors()

    @cache
    def vector(name: str, trait: str) -> PersonaVector:
        kept = folder / "vectors" / name
        options: dict[str, Any] = {"judge": GrammarJudge(), "sampling": SAMPLING, "batch_size": BATCH}
        return scored_vector(model(name), organism_trait(trait), kept, **options)

    def made(source: str, target: str, trait: str) -> Diagnosis:
        path = folder / f"{source}_to_{target}_{trait}_{num_prompts or 'all'}_{samples}.json"
        if path.exists():
            return Diagnosis.from_json(read_json(path, "diagnosis"), source=str(path))
        say(f"{trait}: {source} to {target}")
        models: list[SteerableModel] = [model(source), model(target)]
        rows = [read_rows(each, anchors, folder=folder / "anchors") for each in models]
        found = diagnose(
            models[1], vector(source, trait), vector(target, trait), organism_trait(trait), None, num_prompts,
            source_rows=rows[0], target_rows=rows[1], judge=GrammarJudge(), samples=samples, sampling=SAMPLING,
            folder=folder / "answers", batch_size=BATCH,
        )  # fmt: skip
        write_json(path, found.to_json())
        return found

    return [
        PairCase.of(made(source, target, trait)) for trait in traits for source in names for target in names if source != target
    ]


def pairs_json(cases: Sequence[PairCase]) -> dict[str, Any]:
    """Cases as JSON values."""
    return {"format_version": FORMAT_VERSION, "cases": [case.to_json() for case in cases]}


def pairs_from_json(data: Mapping[str, Any], *, source: str = "diagnoses of pairs") -> list[PairCase]:
    """The inverse.

    Raises:
        FileFormatError: another format version, or a field that is missing or malformed.
    """
    check_format_version(data, FORMAT_VERSION, source)
    if not isinstance(data.get("cases"), list):
        raise FileFormatError(f"{source}: field 'cases' is missing or no list")
    return [PairCase.from_json(case, source=source) for case in data["cases"]]
