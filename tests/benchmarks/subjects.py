"""What is measured: a shipped organism, and a random model of the shape of a small real one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from persona_interp.models.registry import load_model
from persona_interp.models.steerable import SteerableModel
from persona_interp.organisms.trait_texts import organism_trait
from persona_interp.traits import Conversation, Trait

VOCABULARY = 16_384


@dataclass(frozen=True)
class Subject:
    """A model as this package runs it, and the same weights in a module that nothing has wrapped."""

    name: str
    model: SteerableModel
    bare: Any

    @property
    def trait(self) -> Trait:
        return organism_trait("silly")

    def conversations(self, n: int) -> list[Conversation]:
        """Prompts of different lengths: questions with and without a system prompt."""
        trait = self.trait
        systems = [None, *(pair.positive for pair in trait.instructions)]
        questions = trait.extraction_questions
        return [Conversation.ask(questions[i % len(questions)], system=systems[i % len(systems)]) for i in range(n)]


def organism() -> Subject:
    model = load_model("organism-qwen2", device="cpu")
    return Subject("organism-qwen2", model, load_model("organism-qwen2", device="cpu").hf_model)


def hundred_million(device: str = "cpu") -> Subject:
    """A Qwen2 of 12 blocks, width 768, vocabulary 16k and random weights, with the organism's tokenizer filled up."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    tokenizer = load_model("organism-qwen2", device="cpu").tokenizer
    tokenizer.add_tokens([f"<unused-{number}>" for number in range(VOCABULARY - len(tokenizer))])
    config = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=768,
        intermediate_size=2048,
        num_hidden_layers=12,
        num_attention_heads=12,
        num_key_value_heads=12,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )

    def made() -> Any:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return Qwen2ForCausalLM(config).eval().to(device)

    return Subject("random-qwen2-100m", SteerableModel(made(), tokenizer, name="random-qwen2-100m"), made())
