"""The bench of transfers: pairs of organisms, traits, methods, with the trait's style among the anchors and without."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from persona_interp.alignment.methods import EFFECTS, alignment_names
from persona_interp.measure.coherent_range import COHERENT
from persona_interp.measure.evaluate_transfer import evaluate_transfer
from persona_interp.measure.markdown_table import markdown_table
from persona_interp.measure.point import mean_known
from persona_interp.measure.protocol import Protocol
from persona_interp.measure.recovery import native_movement
from persona_interp.measure.scored_vector import scored_vector
from persona_interp.measure.statistics import Estimate
from persona_interp.measure.transfer_evaluation import TransferEvaluation
from persona_interp.models.registry import load_model
from persona_interp.models.sampling import Sampling
from persona_interp.organisms.anchors import organism_anchors
from persona_interp.organisms.grammar_judge import GrammarJudge
from persona_interp.organisms.trait_texts import organism_trait
from persona_interp.progress import say
from persona_interp.records import Record
from persona_interp.traits.coherence import coherent
from persona_interp.transfers.anchor_rows import AnchorRows
from persona_interp.transfers.anchors import Anchor
from persona_interp.transfers.coverage import Coverage
from persona_interp.transfers.reading import read_rows
from persona_interp.vectors.layer_choice import choose_layer
from persona_interp.vectors.persona_vector import PersonaVector

FORMAT_VERSION = 1
RATIOS = (-0.4, -0.2, 0.2, 0.4)
"""Perturbation ratios compared at."""
SAMPLING = Sampling(max_new_tokens=120)
SAMPLES = 2
LEFT_OUT_METHODS = (EFFECTS, "ridge")
_STYLE = {"silly": (0.0, 10.0), "honest": (90.0, 100.0), "optimistic": (0.0, 10.0), "polite": (0.0, 10.0), "verbose": (0.0, 10.0)}
"""Trait -> exact scores of the texts that are left when its style, or its opposite where that is the rarer one, is taken out."""
BAR = {"mean": 0.8, "least": 0.6, "control": 0.1, "naive": 0.15}


@dataclass(frozen=True)
class TransferCase(Record):
    """One vector carried from one organism into another.

    Attributes:
        source: its name.
        target: likewise.
        trait: name of the trait.
        native: points the target's own vector moves the score by at most.
        source_layer: 0-based.
        target_layer: chosen by the method, from anchors alone.
        native_layer: where the target's own vector steers.
        recoveries: method -> recovery, with all styles among the anchors.
        controls: control -> recovery, for effects.
        cosines: method -> cosine to the native vector at the layer steered, None where that has no such layer.
        coverage: of the source vector: norm, effect, signal.
        quality: of the map by effects, on held-out anchors.
        coherence: the lowest mean coherence under the carried vector; None: not judged.
        verdict: in words, for effects.
        left_out: the same for anchors without the trait's style: recoveries, coverage and quality.
    """

    json_kind = "transfer case"
    json_version = 1

    source: str
    target: str
    trait: str
    native: float
    source_layer: int
    target_layer: int
    native_layer: int
    recoveries: Mapping[str, Estimate]
    controls: Mapping[str, Estimate]
    cosines: Mapping[str, float | None]
    coverage: Mapping[str, float | None]
    quality: Mapping[str, float]
    coherence: float | None
    verdict: str
    left_out: Mapping[str, Any]

    @classmethod
    def json_fields(cls, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """Recoveries without the trait's style as estimates, too."""
        left_out = data["left_out"]
        recoveries = {name: Estimate.from_json(found) for name, found in left_out["recoveries"].items()}
        return {**data, "left_out": {**left_out, "recoveries": recoveries}}


class TransferBench:
    """Makes cases; vectors, anchors and answers are kept in a folder, so nothing is made twice.

    Args:
        folder: where work is kept.
        seed: of everything.
        samples: answers to each question under each condition.
    """

    def __init__(self, folder: Path, *, seed: int = 0, samples: int = SAMPLES) -> None:
        self.folder, self.seed, self.samples = folder, seed, samples
        self.anchors: tuple[Anchor, ...] = organism_anchors()
        self._known: dict[tuple[str, ...], Any] = {}

    def case(self, source: str, target: str, trait: str) -> TransferCase:
        """Carry `trait` from `source` to `target` in every way, and measure."""
        say(f"{trait}: {source} to {target}")
        vector, native = self._vector(source, trait), self._vector(target, trait)
        other = self._vector(source, "silly" if trait == "honest" else "honest")
        rows = self._rows(source), self._rows(target)
        model = self._model(target)
        layer = choose_layer(native).layer
        unit = float(native.norms[native.row(layer)]) / rows[1].resid_norms[layer]
        protocol = Protocol(
            judge=GrammarJudge(), samples=self.samples, sampling=SAMPLING, seed=self.seed,
            folder=self.folder / "answers" / target, batch_size=256,
        )  # fmt: skip
        doses = [ratio / unit for ratio in RATIOS]
        found = evaluate_transfer(
            model, vector, native, trait, doses, source_rows=rows[0], target_rows=rows[1], methods=alignment_names(),
            other=other, protocol=protocol,
        )  # fmt: skip
        kept = self._without_style(trait)
        without = evaluate_transfer(
            model, vector, native, trait, doses, source_rows=rows[0].subset(kept), target_rows=rows[1].subset(kept),
            methods=LEFT_OUT_METHODS, controls=False, protocol=protocol,
        )  # fmt: skip
        return _case(found, without, len(kept))

    def _model(self, name: str) -> Any:
        return self._once(("model", name), lambda: load_model(name))

    def _vector(self, name: str, trait: str) -> PersonaVector:
        def make() -> PersonaVector:
            folder = self.folder / "vectors" / name
            return scored_vector(
                self._model(name), organism_trait(trait), folder, judge=GrammarJudge(), sampling=SAMPLING, seed=self.seed,
                batch_size=256,
            )  # fmt: skip

        return self._once(("vector", name, trait), make)

    def _rows(self, name: str) -> AnchorRows:
        return self._once(("rows", name), lambda: read_rows(self._model(name), self.anchors, folder=self.folder / "anchors"))

    def _without_style(self, trait: str) -> list[int]:
        """Anchors whose exact score says that the trait's style, or its rarer opposite, is not in them."""
        judged = GrammarJudge().judge(organism_trait(trait), [(anchor.prompt, anchor.text) for anchor in self.anchors])
        low, high = _STYLE[trait]
        return [place for place, each in enumerate(judged) if each.trait is not None and low <= each.trait <= high]

    def _once(self, key: tuple[str, ...], make: Any) -> Any:
        if key not in self._known:
            self._known[key] = make()
        return self._known[key]


def _case(found: TransferEvaluation, without: TransferEvaluation, n_left: int) -> TransferCase:
    report = found.main.report
    return TransferCase(
        source=found.source,
        target=found.target,
        trait=found.trait,
        native=native_movement(found.native, found.baseline),
        source_layer=int(report["source_layer"]),
        target_layer=int(report["target_layer"]),
        native_layer=found.native_layer,
        recoveries={each.method: found.recovery_of(each.points) for each in found.carried},
        controls=found.control_recoveries,
        cosines={each.method: each.cosine_to_native for each in found.carried},
        coverage=dict(report["coverage"]),
        quality=_quality(report),
        coherence=min((known for point in found.main.points if (known := point.coherence) is not None), default=None),
        verdict=found.verdict,
        left_out={
            "n_anchors": n_left,
            "recoveries": {each.method: without.recovery_of(each.points) for each in without.carried},
            "coverage": dict(without.main.report["coverage"]),
            "quality": _quality(without.main.report),
        },
    )


def _quality(report: Mapping[str, Any]) -> dict[str, float]:
    return next(dict(each["quality"]) for each in report["layers"] if each["layer"] == report["target_layer"])


def unmet(cases: Sequence[TransferCase]) -> list[str]:
    """What the bar asks of the planted families and is not there; empty where it is met.

    Undefined recoveries do not count. Controls are held to it on average: single ones scatter by chance, see `summary`.
    """
    known = [(case, value) for case in cases if (value := case.recoveries[EFFECTS].value) is not None]
    said: list[str] = []
    if not known:
        return ["recovery is known of no transfer"]
    if (mean := fmean(value for _, value in known)) < BAR["mean"]:
        said.append(f"mean recovery {mean:.2f} < {BAR['mean']}")
    for case, value in known:
        if value < BAR["least"] or not coherent(case.coherence, COHERENT):
            said.append(f"{_pair(case)}: recovery {value:.2f}, coherence {_whole(case.coherence)}")
    for name, most in (("random", BAR["control"]), ("shuffled", BAR["control"]), ("naive", BAR["naive"])):
        drawn = [_control(case, name).value for case, _ in known]
        if (beside := mean_known(drawn)) is None or beside > most:
            said.append(f"{name}: not known" if beside is None else f"{name}: {beside:.2f} on average > {most}")
    return said


def summary(cases: Sequence[TransferCase]) -> str:
    """The bar in one paragraph: means over the cases in which recovery is defined, and the extremes."""
    known = [case for case in cases if case.recoveries[EFFECTS].value is not None]
    if not known:
        return "no target's own vector moves its trait by 20 points: recovery is undefined everywhere"

    def spread(found: Sequence[Estimate]) -> str:
        values = [each.value for each in found if each.value is not None]
        return f"{fmean(values):.2f} on average ({min(values):.2f} to {max(values):.2f})" if values else "not known"

    recovered = spread([case.recoveries[EFFECTS] for case in known])
    controls = [f"{name} {spread([_control(case, name) for case in known])}" for name in ("random", "shuffled", "naive")]
    least = min((case.coherence for case in known if case.coherence is not None), default=None)
    return (
        f"{len(known)} of {len(cases)} defined; effects recover {recovered}; {'; '.join(controls)}; "
        f"lowest coherence {_whole(least)}"
    )


def _whole(coherence: float | None) -> str:
    return "not judged" if coherence is None else f"{coherence:.0f}"


def transfer_markdown(cases: Sequence[TransferCase]) -> str:
    """Two tables: recovery by method and control, and what coverage says with and without the trait's style."""
    states = [name for name in alignment_names() if name not in (EFFECTS, "naive")]
    controls = ("random", "shuffled", "naive", "equal depth", "wrong trait", "prompt only")
    headings = ("pair", "trait", "native", "layers", EFFECTS, *states, *controls, "coherence")
    rows: list[tuple[str, ...]] = []
    for case in cases:
        layers = f"{case.source_layer} → {case.target_layer} ({case.native_layer})"
        points = [_brief(case.recoveries[name]) for name in states] + [_brief(_control(case, name)) for name in controls]
        cells = (_short(case), case.trait, f"{case.native:.0f}", layers, str(case.recoveries[EFFECTS]), *points)
        rows.append((*cells, _whole(case.coherence)))
    lines = [*markdown_table(headings, rows), ""]
    kinds = ("states", "effects")
    headings = ("pair", "trait", *(f"support of {kind}{end}" for end in ("", ", left out") for kind in kinds),
                *(f"{name}, left out" for name in LEFT_OUT_METHODS))  # fmt: skip
    rows = []
    for case in cases:
        supports = [support(case, kind, left_out=left_out) for left_out in (False, True) for kind in kinds]
        left = [_brief(case.left_out["recoveries"][name]) for name in LEFT_OUT_METHODS]
        rows.append((_short(case), case.trait, *("–" if s is None else f"{s:.2f}" for s in supports), *left))
    return "\n".join([*lines, *markdown_table(headings, rows)]) + "\n"


def support(case: TransferCase, kind: str, *, left_out: bool) -> float | None:
    """What the anchors can be expected to carry, see `Coverage.support`: all of them, or those without the trait's style."""
    covered, quality = (case.left_out["coverage"], case.left_out["quality"]) if left_out else (case.coverage, case.quality)
    return Coverage(**covered).support(kind, quality)


def _control(case: TransferCase, name: str) -> Estimate:
    return case.recoveries["naive"] if name == "naive" else case.controls[name]


def _short(case: TransferCase) -> str:
    return f"{case.source.removeprefix('organism-')} → {case.target.removeprefix('organism-')}"


def _pair(case: TransferCase) -> str:
    return f"{case.trait}, {_short(case)}"


def _brief(estimate: Estimate) -> str:
    return "–" if estimate.value is None else f"{estimate.value:.2f}"
