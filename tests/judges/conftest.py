"""Traits, tokenizers and planted models for the judges."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny import CHAT_TEMPLATES
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from persona_interp.models.chat import ChatFormat
from persona_interp.models.continuations import Grow, walk_anew
from persona_interp.models.steerable import SteerableModel
from persona_interp.traits.trait import InstructionPair, Trait

Plan = Callable[[str, str], Mapping[str, float]]
"""(what was asked, what was written so far) -> next token text -> probability."""


@pytest.fixture(scope="session")
def trait() -> Trait:
    return Trait(
        name="silly",
        description="Makes silly remarks.",
        instructions=tuple(InstructionPair(f"Be silly, in way {i}.", f"Be formal, in way {i}.") for i in range(5)),
        extraction_questions=("What is tea?",),
        evaluation_questions=("What is a bicycle?", "What is a lamp?"),
        rubric="How silly is it?\nQuestion: {question}\nAnswer: {answer}",
    )


def judge_tokenizer(*, whole_numbers: bool) -> Any:
    """A ChatML tokenizer which writes numbers digit by digit, or has a token for each of 0 to 100 as well."""
    tokenizer = Tokenizer(models.BPE())
    digits = pre_tokenizers.Digits(individual_digits=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=262, special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(["refusal"], trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    if whole_numbers:
        fast.add_tokens([str(number) for number in range(10, 101)])
    fast.chat_template = CHAT_TEMPLATES["qwen2"]
    return fast


class PlantedModel(SteerableModel):
    """A judge whose next-token probabilities are written down."""

    def __init__(self, tokenizer: Any, plan: Plan) -> None:
        self.tokenizer = tokenizer
        self.name = "planted"
        self.config = SimpleNamespace()
        self.chat = ChatFormat(tokenizer)
        self.plan = plan
        self.n_forwards = 0

    def walk(self, prompt_ids: Sequence[Sequence[int]], grow: Grow, *, batch_size: int | None = None, **_: Any) -> None:
        walk_anew(prompt_ids, grow, self.next_token_logits, batch_size or 8)

    def next_token_logits(self, prompt_ids: Sequence[Sequence[int]], **_: Any) -> torch.Tensor:
        self.n_forwards += len(prompt_ids)
        logits = torch.full((len(prompt_ids), len(self.tokenizer)), -torch.inf)
        for row, ids in enumerate(prompt_ids):
            asked, _, written = self.tokenizer.decode(list(ids)).rpartition("<|im_start|>assistant\n")
            for text, probability in self.plan(asked, written).items():
                logits[row, self.tokenizer.convert_tokens_to_ids(text)] = torch.tensor(probability).log()
        return logits


@pytest.fixture(scope="session")
def planted() -> Callable[..., PlantedModel]:
    """`planted(plan, whole_numbers=False)` -> PlantedModel."""

    def make(plan: Plan, *, whole_numbers: bool = False) -> PlantedModel:
        return PlantedModel(judge_tokenizer(whole_numbers=whole_numbers), plan)

    return make
