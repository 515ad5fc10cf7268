"""A reproduction, step by step: what a step found is on disk before the next begins, and is not made again."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from persona_interp.jsonl_store import content_key
from persona_interp.judges.registry import load_judge
from persona_interp.measure.evaluate import evaluate
from persona_interp.measure.evaluate_transfer import evaluate_transfer
from persona_interp.measure.evaluation import Evaluation
from persona_interp.measure.modulation import Modulated
from persona_interp.measure.scored_vector import scored_vector
from persona_interp.measure.transfer_evaluation import TransferEvaluation
from persona_interp.models.registry import load_model
from persona_interp.models.steerable import SteerableModel
from persona_interp.organisms.trait_texts import resolve_trait
from persona_interp.progress import say
from persona_interp.provenance import provenance
from persona_interp.storage import check_format_version, ensure_writable, read_json, safe_name, write_json
from persona_interp.studies.reproduction.modulation_bench import modulation_case
from persona_interp.studies.reproduction.preset import COEFFICIENTS, RATIOS, Preset
from persona_interp.studies.reproduction.results import Extracted, Reproduction
from persona_interp.transfers.anchor_rows import AnchorRows
from persona_interp.transfers.anchors import Anchor, anchors_for
from persona_interp.transfers.reading import known_rows, read_rows
from persona_interp.vectors.layer_choice import choose_layer
from persona_interp.vectors.persona_vector import PersonaVector

FORMAT_VERSION = 1
Loader = Callable[[str], SteerableModel]


def reproduce(
    preset: Preset,
    folder: str | Path,
    *,
    anchors: tuple[Anchor, ...] | None = None,
    load: Loader = load_model,
    seed: int = 0,
    batch_size: int | None = None,
) -> Reproduction:
    """Run every experiment of a preset that `folder` does not hold yet. One model is in memory at a time.

    Example:
        >>> found = reproduce(PRESETS["organisms"], "experiments/paper_results")
        >>> [(claim.claim, claim.holds) for claim in claims(found)]

    Args:
        preset: what to run.
        folder: keeps vectors, anchors' rows, answers and results.
        anchors: texts that carry vectors; None: `anchors_for` the models.
        load: makes a model from its name.
        seed: of all answers.
        batch_size: rows run together; None lets the models choose.

    Raises:
        PersonaInterpError: a step failed; those before it are kept, and the same call goes on from there.
    """
    return _Run(preset, Path(folder), anchors or anchors_for(preset.models), load, seed, batch_size).all()


class _Run:
    def __init__(
        self, preset: Preset, folder: Path, anchors: tuple[Anchor, ...], load: Loader, seed: int, batch_size: int | None
    ) -> None:
        self.preset, self.folder, self.anchors, self.load = preset, folder, anchors, load
        self.options = {"sampling": preset.sampling, "seed": seed, "batch_size": batch_size}
        self.settings = content_key(preset.to_json(), [[each.prompt, each.text] for each in anchors], seed)
        self.seconds: dict[str, float] = {}
        self._loaded: tuple[str, SteerableModel] | None = None

    def all(self) -> Reproduction:
        """Every step, those of one model together, so that it is loaded once, and once more if it is a target."""
        preset = self.preset
        extracted: list[dict[str, Any]] = []
        evaluations: list[dict[str, Any]] = []
        for name in preset.models:
            extracted += [self._extract(name, trait) for trait in preset.traits]
            evaluations += [self._evaluate(name, trait) for trait in preset.traits]
            self._rows(name)
        transfers = [
            self._transfer(source, target, trait)
            for target in preset.models
            for source, into in preset.pairs
            if into == target
            for trait in preset.traits
        ]
        first = preset.models[0]
        modulations = [self._modulate(first, trait) for trait in preset.traits] if preset.black_box else []
        self._release()
        return Reproduction(
            preset=preset.to_json(),
            extracted=tuple(Extracted(**each) for each in extracted),
            evaluations=tuple(Evaluation.from_json(each) for each in evaluations),
            transfers=tuple(TransferEvaluation.from_json(each) for each in transfers),
            modulations=tuple(Modulated.from_json(each) for step in modulations for each in step["modes"]),
            seconds=self.seconds,
            provenance=provenance(seed=self.options["seed"], settings=self.settings),
        )

    # -- steps -----------------------------------------------------------------------------------------------------

    def _extract(self, name: str, trait: str) -> dict[str, Any]:
        def make() -> dict[str, Any]:
            model = self._model(name)
            judge = load_judge(self.preset.judge, model, trait=resolve_trait(model, trait))
            vector = scored_vector(
                model, resolve_trait(model, trait), self._of(name, "vectors"), judge=judge,
                samples=self.preset.extraction_samples, **self.options,
            )  # fmt: skip
            vector.save(self._vector_file(name, trait))
            chosen = choose_layer(vector)
            place = vector.layers.index(chosen.layer)
            scores = vector.effectiveness
            return {
                "model": model.name,
                "trait": vector.trait,
                "layer": chosen.layer,
                "reason": chosen.reason,
                "ratio": vector.listed("norm_ratio")[place],
                "counts": dict(vector.counts),
                "scores": {str(layer): score for layer, score in zip(vector.layers, scores, strict=False)},
            }

        return self._step(f"extract_{name}_{trait}", make, needs=self._vector_file(name, trait))

    def _evaluate(self, name: str, trait: str) -> dict[str, Any]:
        def make() -> dict[str, Any]:
            model, vector = self._model(name), self._vector(name, trait)
            return evaluate(
                model, vector, resolve_trait(model, trait), COEFFICIENTS, self.preset.questions, judge=self.preset.judge,
                layers=[choose_layer(vector).layer], samples=self.preset.samples, n_random=self.preset.n_random,
                other=self._other(name, trait), folder=self._of(name, "answers"), **self.options,
            ).to_json()  # fmt: skip

        return self._step(f"evaluate_{name}_{trait}", make)

    def _transfer(self, source: str, target: str, trait: str) -> dict[str, Any]:
        def make() -> dict[str, Any]:
            vector, native = self._vector(source, trait), self._vector(target, trait)
            source_rows = self._rows(source)
            target_rows, model = self._rows(target), self._model(target)
            layer = choose_layer(native).layer
            unit = float(native.norms[native.row(layer)]) / target_rows.resid_norms[layer]
            return evaluate_transfer(
                model, vector, native, resolve_trait(model, trait), [ratio / unit for ratio in RATIOS], self.preset.questions,
                source_rows=source_rows, target_rows=target_rows, methods=self.preset.methods,
                other=self._other(source, trait), judge=self.preset.judge, samples=self.preset.samples,
                folder=self._of(target, "answers"), **self.options,
            ).to_json()  # fmt: skip

        return self._step(f"transfer_{source}_to_{target}_{trait}", make)

    def _modulate(self, name: str, trait: str) -> dict[str, Any]:
        def make() -> dict[str, Any]:
            vector = self._vector(name, trait)
            found = modulation_case(
                name, trait, vector, self._other(name, trait), self.folder / "gguf", judge=self.preset.judge,
                load=self._model, num_prompts=self.preset.questions, samples=self.preset.samples, **self.options,
            )  # fmt: skip
            return {"modes": [each.to_json() for each in found]}

        return self._step(f"modulate_{name}_{trait}", make)

    # -- what steps share ------------------------------------------------------------------------------------------

    def _step(self, name: str, make: Callable[[], Mapping[str, Any]], *, needs: Path | None = None) -> dict[str, Any]:
        """The result kept under `name` if it was made with the same settings, else made and kept."""
        path = self.folder / "steps" / f"{safe_name(name)}.json"
        if path.exists() and (needs is None or needs.exists()):
            kept = read_json(path, "step of a reproduction")
            check_format_version(kept, FORMAT_VERSION, str(path))
            if kept.get("settings") == self.settings:
                self.seconds[name] = kept["seconds"]
                return kept["result"]
            say(f"{name}: made with other settings; making it again")
        ensure_writable(path)
        say(name.replace("_", " "))
        begun = time.monotonic()
        result = dict(make())
        self.seconds[name] = round(time.monotonic() - begun, 1)
        record = {"format_version": FORMAT_VERSION, "settings": self.settings, "seconds": self.seconds[name], "result": result}
        return read_json(write_json(path, record))["result"]  # as a later run will find it

    def _model(self, name: str) -> SteerableModel:
        if self._loaded is None or self._loaded[0] != name:
            self._release()
            self._loaded = (name, self.load(name))
        return self._loaded[1]

    def _release(self) -> None:
        self._loaded = None
        gc.collect()

    def _rows(self, name: str) -> AnchorRows:
        """What a model made of the anchors; it is loaded only if it never read them."""
        folder = self.folder / "anchors"
        fingerprint = self._vector(name, self.preset.traits[0]).model.fingerprint
        found = known_rows(fingerprint, self.anchors, folder)
        if found is not None:
            return found
        return read_rows(self._model(name), self.anchors, folder=folder, batch_size=self.options["batch_size"])

    def _vector(self, name: str, trait: str) -> PersonaVector:
        return PersonaVector.load(self._vector_file(name, trait))

    def _other(self, name: str, trait: str) -> PersonaVector | None:
        """The vector of another trait, the control of this one's; None where there is no other."""
        traits = self.preset.traits
        return self._vector(name, traits[(traits.index(trait) + 1) % len(traits)]) if len(traits) > 1 else None

    def _vector_file(self, name: str, trait: str) -> Path:
        return self.folder / "vectors" / f"{safe_name(name)}_{safe_name(trait)}.json"

    def _of(self, name: str, what: str) -> Path:
        return self.folder / "work" / safe_name(name) / what
