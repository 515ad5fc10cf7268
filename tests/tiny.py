"""Tiny random models of the real Hugging Face classes, each with its own tokenizer, saved to a folder like any downloaded model.

Random weights with a wide spread: outputs differ clearly from token to token, so a test that compares two paths compares
something. They know no language; tests that need meaning use the trained organisms.
"""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

ARCHITECTURES = ("llama", "mistral", "qwen2", "gpt2")
N_CTX = 256

_SENTENCES = (
    "What is the capital of the country? The capital is a large city by the river.",
    "Tell me about the moon, please. The moon is bright and the night is quiet.",
    "You are a helpful assistant. Answer the question in a silly way, or in a formal way.",
    "How do bees make honey? Bees collect nectar and turn it into honey in the hive.",
    "0 1 2 3 4 5 6 7 8 9 10 20 50 75 100; user, assistant, system: rate the answer from 0 to 100.",
)

_CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' }}"
    "{{ message['content'] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)

CHAT_TEMPLATES: dict[str, str | None] = {
    "qwen2": _CHATML,
    "llama": "{{ bos_token }}" + _CHATML,
    # refuses a system message, as the real ones of this family did
    "mistral": (
        "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'system' %}"
        "{{ raise_exception('Only user and assistant roles are supported!') }}"
        "{% elif message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}"
        "{% else %}{{ ' ' + message['content'] + eos_token }}{% endif %}{% endfor %}"
    ),
    "gpt2": None,
}

_SPECIAL: dict[str, dict[str, str]] = {
    "qwen2": {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"},
    "llama": {"bos_token": "<s>", "eos_token": "<|im_end|>", "pad_token": "<pad>"},
    "mistral": {"bos_token": "<s>", "eos_token": "</s>"},  # no pad token, as in the real one
    "gpt2": {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"},
}
_EXTRA_TOKENS = {"qwen2": ["<|im_start|>"], "llama": ["<|im_start|>"]}


def tiny_tokenizer(architecture: str) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of some 400 entries, with the special tokens and chat template of its family."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = list(dict.fromkeys([*_SPECIAL[architecture].values(), *_EXTRA_TOKENS.get(architecture, [])]))
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(_SENTENCES, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **_SPECIAL[architecture])
    if CHAT_TEMPLATES[architecture] is not None:
        fast.chat_template = CHAT_TEMPLATES[architecture]
    return fast


def tiny_hf_model(architecture: str, tokenizer: PreTrainedTokenizerFast, *, seed: int = 0) -> PreTrainedModel:
    """A seeded random model in evaluation mode, float32, context 256; widths and depths differ between architectures."""
    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    shared = {"vocab_size": len(tokenizer), "initializer_range": 0.25, **ids}
    wide = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": N_CTX,
        **shared,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + 1000 * ARCHITECTURES.index(architecture))
        if architecture == "llama":
            model: PreTrainedModel = LlamaForCausalLM(LlamaConfig(**wide))
        elif architecture == "mistral":
            wide |= {"hidden_size": 64, "num_hidden_layers": 3}
            model = MistralForCausalLM(MistralConfig(**wide, sliding_window=None))
        elif architecture == "qwen2":
            model = Qwen2ForCausalLM(Qwen2Config(**wide, tie_word_embeddings=True))
        else:
            model = GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=3, n_head=4, n_positions=N_CTX, **shared))
    return model.eval()


def save_tiny_model(architecture: str, folder: Path, *, seed: int = 0) -> Path:
    """Write model and tokenizer to `folder`, as `from_pretrained` reads them; returns the folder."""
    tokenizer = tiny_tokenizer(architecture)
    tiny_hf_model(architecture, tokenizer, seed=seed).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
