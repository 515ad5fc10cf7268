"""What quantization does to persona vectors: to extracting one, and to steering with the one of the full-precision model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import torch

from persona_interp.jsonl_store import JsonlStore, content_key
from persona_interp.locks import folder_lock
from persona_interp.measure.bootstrap import QuestionBootstrap, slope
from persona_interp.measure.conditions import baseline, prompted, steered
from persona_interp.measure.controls import random_like
from persona_interp.measure.point import DosePoint, Points
from persona_interp.measure.protocol import Protocol
from persona_interp.measure.recovery import recovery
from persona_interp.measure.run import points_of
from persona_interp.measure.scored_vector import scored_vector
from persona_interp.models.chat import TokenisedAnswer
from persona_interp.models.engines.llama_cpp.model import LlamaCppModel
from persona_interp.models.registry import load_model
from persona_interp.models.sampling import Sampling
from persona_interp.models.steerable import SteerableModel
from persona_interp.organisms.gguf_export import KINDS, kept_gguf
from persona_interp.organisms.grammar_judge import GrammarJudge
from persona_interp.organisms.trait_texts import organism_trait
from persona_interp.progress import say
from persona_interp.studies.reproduction.quantized_steering import FORMAT_VERSION, FULL, OTHER_SEED, QuantizedSteering
from persona_interp.studies.reproduction.residual_parity import ResidualParity, give_table_gelu, residual_parity
from persona_interp.studies.transfers import RATIOS, SAMPLING
from persona_interp.traits.trait import Trait
from persona_interp.vectors.extract import extract
from persona_interp.vectors.layer_choice import choose_layer
from persona_interp.vectors.persona_vector import PersonaVector
from persona_interp.vectors.rollouts.run import run_settings
from persona_interp.vectors.steering import Steering

WEIGHTS = (FULL, OTHER_SEED, *KINDS)
BATCH = 256
_PARITY_SAMPLING = Sampling(max_new_tokens=48, temperature=0)


class _Curves(NamedTuple):
    """What steering one model with the full model's vector and with a random direction does."""

    baseline: DosePoint
    vector: Points
    random: Points


class QuantizationBench:
    """Makes rows; files, rollouts, answers and finished rows are kept in a folder, so that work cut short goes on.

    Args:
        folder: where work is kept.
        samples: answers to each question under each condition.
        seed: of everything; the row of another seed has the next one.
        sampling: of all answers.
        questions: asked for extraction and for evaluation; None: all.
    """

    def __init__(
        self,
        folder: Path,
        *,
        samples: int = 2,
        seed: int = 0,
        sampling: Sampling = SAMPLING,
        questions: int | None = None,
    ) -> None:
        self.folder, self.samples, self.seed, self.sampling, self.questions = folder, samples, seed, sampling, questions
        with ExitStack() as held:
            held.enter_context(folder_lock(folder))
            self._done = JsonlStore(folder / "rows.jsonl")
            self._held = held.pop_all()
        self._model: Callable[[str], SteerableModel] = cache(lambda name: load_model(name, dtype="float32"))
        self._known: dict[tuple[str, str], _Curves] = {}

    def __enter__(self) -> QuantizationBench:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        del error, trace
        self._held.close()
        if kind is not None:
            say(f"{len(self._done)} finished rows are kept in {self.folder}: the same again goes on from there")

    def parity(self, name: str, traits: Sequence[str]) -> tuple[ResidualParity, ...]:
        """Block outputs of the float32 file against PyTorch, on answers under no system prompt and under the traits' own.

        For GPT-2 also against PyTorch with llama.cpp's GELU, which is the one thing that the two compute differently.
        """
        source = self._model(name)
        key = content_key(FORMAT_VERSION, "parity", source.identity.fingerprint, list(traits), self.questions)
        if key not in self._done:
            say(f"{name}: residuals of the float32 file")
            self._done.put(key, {"parity": [each.to_json() for each in self._parity(source, traits)]})
        return tuple(ResidualParity.from_json(each) for each in self._done.get(key)["parity"])

    def rows(self, name: str, trait: str, weights: Sequence[str] = WEIGHTS) -> Iterator[QuantizedSteering]:
        """One row after the other, as they are done."""
        for kind in weights:
            settings = (self.samples, self.seed, self.sampling.to_json(), self.questions)
            key = content_key(FORMAT_VERSION, self._model(name).identity.fingerprint, trait, kind, *settings)
            if key not in self._done:
                say(f"{name}, {trait}: {kind}")
                self._done.put(key, {"row": self._row(name, self._trait(trait), kind).to_json()})
            yield QuantizedSteering.from_json(self._done.get(key)["row"])

    def _row(self, name: str, trait: Trait, kind: str) -> QuantizedSteering:
        source = self._model(name)
        vector = scored_vector(
            source, trait, self.folder / "vectors" / name, judge=GrammarJudge(), sampling=self.sampling, seed=self.seed,
            batch_size=BATCH,
        )  # fmt: skip
        layer = choose_layer(vector, 1).layer
        steering = vector.select([layer])
        if (name, trait.name) not in self._known:
            self._known[name, trait.name] = self._steered(source, steering, trait, FULL, self.seed)
        reference = self._known[name, trait.name]
        if kind == FULL:
            return self._measured(kind, vector, vector, layer, reference, reference)
        if kind == OTHER_SEED:
            found = self._steered(source, steering, trait, kind, self.seed + 1)
            own = self._extracted(source, trait, kind, self.seed + 1)
        else:
            with LlamaCppModel(kept_gguf(source, self.folder / "models", kind), name=name) as model:
                found = self._steered(model, steering, trait, kind, self.seed)
                own = self._extracted(model, trait, kind, self.seed)
        return self._measured(kind, vector, own, layer, reference, found)

    def _measured(
        self, kind: str, vector: PersonaVector, own: PersonaVector, layer: int, reference: _Curves, found: _Curves
    ) -> QuantizedSteering:
        bootstrap = QuestionBootstrap(found.baseline.n // self.samples, self.samples)
        curve = [*found.vector, found.baseline]
        tenths = [10 * ratio for ratio in (*RATIOS, 0.0)]
        against = (reference.vector, reference.baseline, bootstrap)
        return QuantizedSteering(
            model=vector.model.name,
            trait=vector.trait,
            weights=kind,
            layer=layer,
            cosines=tuple(torch.cosine_similarity(vector.directions.double(), own.directions.double(), dim=1).tolist()),
            slope=bootstrap.over_curve(tenths, [point.trait_scores for point in curve], slope),
            share=recovery([found.vector], *against, unsteered=found.baseline),
            random=recovery([found.random], *against, unsteered=found.baseline),
            coherence=min((point.coherence for point in curve if point.coherence is not None), default=None),
        )

    def _steered(self, model: SteerableModel, steering: PersonaVector, trait: Trait, kind: str, seed: int) -> _Curves:
        """Answers are kept by kind: a float32 file has the fingerprint of its PyTorch model, and would pass for it."""
        doses = [ratio / (steering.listed("norm_ratio")[0] or 1.0) for ratio in RATIOS]
        own, drawn = Steering(steering), Steering(random_like(steering, 1, self.seed))
        arms = {
            "baseline": [baseline(own)],
            "vector": steered(steering.trait, own, doses),
            "random": steered("random", drawn, doses),
        }
        protocol = Protocol(
            judge=GrammarJudge(), samples=self.samples, sampling=self.sampling, seed=seed,
            folder=self.folder / "answers" / model.name / kind, batch_size=BATCH,
        )  # fmt: skip
        points = points_of(model, protocol.asked(model, trait), arms)
        return _Curves(points["baseline"][0], points["vector"], points["random"])

    def _extracted(self, model: SteerableModel, trait: Trait, kind: str, seed: int) -> PersonaVector:
        """A vector of `model` from answers of its own."""
        key = content_key(run_settings(model, trait, trait.extraction_questions, self.sampling, seed, None))[:12]
        return extract(
            model, trait, judge=GrammarJudge(), samples=1, sampling=self.sampling, seed=seed,
            folder=self.folder / "rollouts" / model.name / kind / f"{trait.name}-{key}", batch_size=BATCH,
        )  # fmt: skip

    def _trait(self, name: str) -> Trait:
        trait = organism_trait(name)
        asked = (trait.extraction_questions[: self.questions], trait.evaluation_questions[: self.questions])
        return replace(trait, extraction_questions=asked[0], evaluation_questions=asked[1])

    def _parity(self, source: SteerableModel, traits: Sequence[str]) -> Iterator[ResidualParity]:
        texts = self._texts(source, [self._trait(trait) for trait in traits])
        with LlamaCppModel(kept_gguf(source, self.folder / "models", "f32"), name=source.name) as native:
            yield residual_parity(native, source, texts, reference=FULL)
            if source.config.model_type == "gpt2":
                twin = load_model(source.name, dtype="float32")
                give_table_gelu(twin.hf_model)
                yield residual_parity(native, twin, texts, reference=f"{FULL} with llama.cpp's GELU")

    def _texts(self, source: SteerableModel, traits: Sequence[Trait]) -> list[TokenisedAnswer]:
        """Every evaluation question without a system prompt and under each trait's own, with the likeliest answer."""
        asked = Protocol(judge=GrammarJudge(), seed=self.seed).asked(source, traits[0])
        arms = [baseline(), *(condition for trait in traits for condition in prompted(trait))]
        conversations = [conversation for each in arms for conversation, _ in each.rows(asked)]
        answers = source.generate(conversations, sampling=_PARITY_SAMPLING, batch_size=BATCH)
        pairs = zip(conversations, answers, strict=True)
        return [source.chat.tokenise(conversation, answer.text) for conversation, answer in pairs]
