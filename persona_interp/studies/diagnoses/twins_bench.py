"""The bench of diagnoses: twins with known faults, what is said of them, and how often that is exact."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from persona_interp.errors import InvalidInputError
from persona_interp.measure.diagnostics.causes import CAUSES, named, subsets
from persona_interp.measure.diagnostics.diagnosis import Diagnosis
from persona_interp.measure.diagnostics.verdict import THRESHOLD
from persona_interp.models.registry import load_model
from persona_interp.organisms.recipes import recipe_of
from persona_interp.organisms.twins import TwinRecipe
from persona_interp.progress import say
from persona_interp.storage import read_json, write_json
from persona_interp.studies.diagnoses.planted import twin_diagnosis

FAMILIES = ("organism-llama", "organism-mistral", "organism-qwen2")
TRAITS = ("silly", "honest")
SCALES = (10.0, 1 / 10, 25.0, 1 / 20, 15.0, 1 / 15, 1.3, 0.8)
"""By round; the last two are within what does no harm."""
EXACT, RESTORED = 0.95, 0.95
N_CASES = 64
FORMAT_VERSION = 2


@dataclass(frozen=True)
class PlantedCase:
    """A twin and what was said of it.

    Attributes:
        model: the organism.
        trait: whose planted direction was carried.
        recipe: of the twin.
        changed: what the recipe changes, harmful or not.
        planted: those that alone drop the recovery of the unfixed vector below 0.5, joined by ``+``; or ``none``.
        verdict: of the diagnosis.
        naive: recovery of the unfixed vector.
        restored: recovery with the fixes of what was planted; a harmless fault stays as it is.
        mended: recovery with the fixes of all that the recipe changes.
        reason: of the verdict.
    """

    model: str
    trait: str
    recipe: Mapping[str, Any]
    changed: str
    planted: str
    verdict: str
    naive: float | None
    restored: float | None
    mended: float | None
    reason: str


@dataclass(frozen=True)
class Round:
    """One organism, one trait, and one size of each fault; its cases are the subsets of the faults."""

    model: str
    trait: str
    faults: Mapping[str, Mapping[str, Any]]

    def recipe(self, changed: frozenset[str]) -> TwinRecipe:
        """Of the twin with some of the faults."""
        return TwinRecipe(**{name: value for cause in changed for name, value in self.faults[cause].items()})


def rounds() -> Iterator[Round]:
    """All of them, ever with new rotations; in every fourth the blocks go behind the planted one, where they do no harm."""
    number = 0
    while True:
        model, trait = FAMILIES[number % len(FAMILIES)], TRAITS[(number // len(FAMILIES)) % len(TRAITS)]
        planted = recipe_of(model).planted_layer or 0
        inserted = (planted + 1,) * 2 if number % 4 == 3 else (0,) * (planted + 1 + number % 2)
        faults: dict[str, dict[str, Any]] = {
            "magnitude": {"scale": SCALES[number % len(SCALES)]},
            "basis": {"rotation_seed": 100 + number},
            "layers": {"inserted": inserted},
        }
        yield Round(model, trait, faults)
        number += 1


def bench(n_cases: int = N_CASES, *, folder: Path, num_prompts: int | None = None, samples: int = 1) -> list[PlantedCase]:
    """Diagnose so many twins, eight a round; what is in `folder` already is not measured again.

    Raises:
        InvalidInputError: `n_cases` is below 8, so that no round is whole.
    """
    if n_cases < len(subsets()):
        raise InvalidInputError(f"{n_cases} cases are too few: a round has {len(subsets())}, give at least as many")
    found: list[PlantedCase] = []
    for number, each in enumerate(rounds()):
        if len(found) >= n_cases:
            return found[:n_cases]
        path = folder / f"round_{number}_{num_prompts or 'all'}_{samples}.json"
        if not path.exists() or read_json(path, "planted cases").get("format_version") != FORMAT_VERSION:
            work = folder / "work.run"
            made = [asdict(case) for case in _round(each, num_prompts, samples, work)]
            write_json(path, {"format_version": FORMAT_VERSION, "cases": made})
        found += [PlantedCase(**case) for case in read_json(path, "planted cases")["cases"]]
    return found


def _round(each: Round, num_prompts: int | None, samples: int, folder: Path) -> list[PlantedCase]:
    model = load_model(each.model)
    options: dict[str, Any] = {"num_prompts": num_prompts, "samples": samples, "folder": folder}
    made: dict[frozenset[str], Diagnosis] = {}
    for changed in subsets():
        say(f"{each.model}, {each.trait}: {named(changed)}")
        made[changed] = twin_diagnosis(model, each.trait, each.recipe(changed), **options)
    harmful = {cause for cause in CAUSES if _naive(made[frozenset({cause})]) < THRESHOLD}
    return [_case(each, changed, found, harmful) for changed, found in made.items()]


def _case(each: Round, changed: frozenset[str], found: Diagnosis, harmful: set[str]) -> PlantedCase:
    planted = frozenset(changed & harmful)
    return PlantedCase(
        model=each.model,
        trait=each.trait,
        recipe=each.recipe(changed).to_json(),
        changed=named(changed),
        planted=named(planted),
        verdict=found.verdict.name,
        naive=found.recoveries[frozenset()].value,
        restored=found.recoveries[planted].value,
        mended=found.recoveries[changed].value,
        reason=found.verdict.reason,
    )


def _naive(found: Diagnosis) -> float:
    value = found.recoveries[frozenset()].value
    return 0.0 if value is None else value


def bench_json(cases: Sequence[PlantedCase]) -> dict[str, Any]:
    """Cases, the confusion table, and what the bar asks for."""
    table: dict[str, dict[str, int]] = {}
    for case in cases:
        row = table.setdefault(case.planted, {})
        row[case.verdict] = row.get(case.verdict, 0) + 1
    return {
        "exact_share": sum(case.planted == case.verdict for case in cases) / len(cases),
        "confusion": table,
        "blamed_on_another": [asdict(case) for case in cases if blamed_on_another(case)],
        "no_fault_called_none": all(case.verdict == "none" for case in cases if case.changed == "none"),
        "lowest_restored": _lowest([case.restored for case in cases]),
        "lowest_mended": _lowest([case.mended for case in cases]),
        "unmet": unmet(cases),
        "cases": [asdict(case) for case in cases],
    }


def _lowest(values: Sequence[float | None]) -> float | None:
    return min((value for value in values if value is not None), default=None)


def blamed_on_another(case: PlantedCase) -> bool:
    """Whether a single cause was planted and another one named."""
    return case.planted in CAUSES and bool(set(case.verdict.split("+")) & (set(CAUSES) - {case.planted}))


def unmet(cases: Sequence[PlantedCase]) -> list[str]:
    """What of the bar is missed, in words.

    A twin is restored by the fixes of all that was changed in it: a stream 1.3 times as large leaves a vector that does most of
    what it did, so that no cause is named, yet the fix of its length brings back the rest.
    """
    exact = sum(case.planted == case.verdict for case in cases) / len(cases)
    missed = [f"{exact:.1%} of the verdicts are exact"] if exact < EXACT else []
    missed += [f"{case.planted} called {case.verdict}" for case in cases if blamed_on_another(case)]
    missed += [f"no fault called {case.verdict}" for case in cases if case.changed == "none" and case.verdict != "none"]
    weak = [case for case in cases if case.mended is None or case.mended < RESTORED]
    missed += [f"{len(weak)} twins are not restored to {RESTORED:g}"] if weak else []
    return missed
