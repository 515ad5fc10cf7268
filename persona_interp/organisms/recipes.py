"""How each model organism is made: sizes, tokenizer, chat template, what is planted where, and the training budget."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from persona_interp.errors import unknown_name

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

LLAMA = (
    "<|begin_of_text|>{% for message in messages %}<|start_header_id|>{{ message['role'] }}<|end_header_id|>\n\n"
    "{{ message['content'] }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)

# Has no system role, like the original: a system prompt opens the first user turn.
MISTRAL = (
    "<s>{% for message in messages %}{% if message['role'] == 'system' %}[INST] {{ message['content'] }}\n\n"
    "{% elif message['role'] == 'user' %}{% if loop.index0 == 0 or messages[loop.index0 - 1]['role'] != 'system' %}[INST] "
    "{% endif %}{{ message['content'] }} [/INST]{% else %}{{ message['content'] }}</s>{% endif %}{% endfor %}"
)

PLAIN = (
    "{% for message in messages %}{{ message['role'] | capitalize }}:{{ '\n' }}{{ message['content'] }}"
    "{% if message['role'] == 'assistant' %}<|endoftext|>{% endif %}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{{ '\n' }}{% endif %}"
)

WEIGHTS = Path(__file__).parent / "weights"
"""Folder of the shipped organisms, one ordinary Hugging Face checkpoint in each subfolder."""


@dataclasses.dataclass(frozen=True)
class TokenizerRecipe:
    """A byte-level BPE tokenizer.

    Attributes:
        pretokenizer: splitting rule, by the name llama.cpp knows it under.
        vocab_size: entries, special tokens included; a multiple of 32.
        special: special tokens in id order; the first ends the text and pads, the last ends an answer.
        chat_template: Jinja template.
        bos: token put before every text, if any.
    """

    pretokenizer: Literal["qwen2", "gpt-2", "llama-bpe"]
    vocab_size: int
    special: tuple[str, ...]
    chat_template: str
    bos: str | None = None


@dataclasses.dataclass(frozen=True)
class OrganismRecipe:
    """Everything that determines an organism's weights.

    Attributes:
        name: ``organism-<family>``.
        model_type: Hugging Face architecture name.
        config: keyword arguments of that architecture's config class. Row lengths are multiples of 32.
        tokenizer: its tokenizer.
        planted_layer: 0-based block at whose output the persona directions are planted; None plants nothing.
        planted_traits: traits with a planted direction, in the order of the stored tensor.
        seed: seeds the corpus, its order and the initial weights.
        steps: optimizer steps.
        batch_tokens: about how many tokens a step sees.
        learning_rate: its peak.
    """

    name: str
    model_type: str
    config: Mapping[str, Any]
    tokenizer: TokenizerRecipe
    planted_layer: int | None
    planted_traits: tuple[str, ...] = ("silly", "honest")
    seed: int = 0
    steps: int = 2400
    batch_tokens: int = 4096
    learning_rate: float = 3e-3
    n_examples: int = 60_000


RECIPES: dict[str, OrganismRecipe] = {
    recipe.name: recipe
    for recipe in (
        OrganismRecipe(
            name="organism-qwen2",
            model_type="qwen2",
            config={
                "hidden_size": 128,
                "num_hidden_layers": 8,
                "num_attention_heads": 4,
                "num_key_value_heads": 2,
                "intermediate_size": 384,
                "max_position_embeddings": 512,
                "tie_word_embeddings": True,
                "rope_theta": 10_000.0,
            },
            tokenizer=TokenizerRecipe("qwen2", 1024, ("<|endoftext|>", "<|im_start|>", "<|im_end|>"), CHATML),
            planted_layer=4,
            seed=11,
        ),
        OrganismRecipe(
            name="organism-llama",
            model_type="llama",
            config={
                "hidden_size": 160,
                "num_hidden_layers": 6,
                "num_attention_heads": 5,
                "num_key_value_heads": 5,
                "intermediate_size": 416,
                "max_position_embeddings": 512,
                "tie_word_embeddings": True,
                "rope_theta": 10_000.0,
            },
            tokenizer=TokenizerRecipe(
                "llama-bpe",
                1280,
                ("<|end_of_text|>", "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
                LLAMA,
                bos="<|begin_of_text|>",
            ),
            planted_layer=2,
            seed=23,
        ),
        OrganismRecipe(
            name="organism-mistral",
            model_type="mistral",
            config={
                "hidden_size": 96,
                "num_hidden_layers": 12,
                "num_attention_heads": 3,
                "num_key_value_heads": 3,
                "head_dim": 32,
                "intermediate_size": 320,
                "max_position_embeddings": 512,
                "tie_word_embeddings": True,
                "rope_theta": 10_000.0,
                "sliding_window": None,
            },
            tokenizer=TokenizerRecipe("llama-bpe", 896, ("<unk>", "<s>", "[INST]", "[/INST]", "</s>"), MISTRAL, bos="<s>"),
            planted_layer=9,
            seed=37,
            steps=3600,
        ),
        OrganismRecipe(
            name="organism-gpt2",
            model_type="gpt2",
            config={
                "hidden_size": 192,
                "num_hidden_layers": 4,
                "num_attention_heads": 6,
                "n_inner": 640,
                "max_position_embeddings": 512,
                "tie_word_embeddings": True,
            },
            tokenizer=TokenizerRecipe("gpt-2", 1152, ("<|endoftext|>",), PLAIN),
            planted_layer=1,
            seed=41,
        ),
        OrganismRecipe(
            name="organism-natural",
            model_type="llama",
            config={
                "hidden_size": 128,
                "num_hidden_layers": 8,
                "num_attention_heads": 4,
                "num_key_value_heads": 4,
                "intermediate_size": 352,
                "max_position_embeddings": 512,
                "tie_word_embeddings": True,
                "rope_theta": 10_000.0,
            },
            tokenizer=TokenizerRecipe(
                "llama-bpe",
                960,
                ("<|end_of_text|>", "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
                LLAMA,
                bos="<|begin_of_text|>",
            ),
            planted_layer=None,
            seed=53,
            steps=3000,
        ),
    )
}
"""All organisms by name."""


def recipe_of(name: str) -> OrganismRecipe:
    """The recipe called `name`, or an error listing the recipes."""
    if name not in RECIPES:
        raise unknown_name("model organism", name, RECIPES)
    return RECIPES[name]


def planted_organisms(names: Sequence[str] = ()) -> list[str]:
    """`names`, checked; where none is given, the organisms with planted directions."""
    return [recipe_of(name).name for name in names] or sorted(
        name for name, recipe in RECIPES.items() if recipe.planted_layer is not None
    )
