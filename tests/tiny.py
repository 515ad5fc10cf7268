"""Tiny random models of the real Hugging Face classes, each with its own tokenizer, saved to a folder like any downloaded model.

Random weights with a wide spread: outputs differ clearly from token to token, so a test that compares two paths compares
something. They know no language; tests that need meaning use the trained organisms.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3Config,
    Gemma3ForCausalLM,
    Gemma3ForConditionalGeneration,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    GptOssConfig,
    GptOssForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    Olmo2Config,
    Olmo2ForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

ARCHITECTURES = ("llama", "mistral", "qwen2", "gpt2")
"""Those that most suites run over, as `architecture`."""
MORE_ARCHITECTURES = (
    "qwen3",
    "gemma2",
    "gemma3_text",
    "gemma3",
    "phi3",
    "olmo2",
    "gpt_neox",
    "gpt_oss",
    "mixtral",
    "qwen3_moe",
)
"""Those that only the suite of families runs over."""
WINDOW = 4
"""Tokens that a sliding window of these models lets a token see: fewer than any test text has."""
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
_TOKENIZED_LIKE = {"gemma2": "mistral", "phi3": "llama", "olmo2": "gpt2", "gpt_neox": "gpt2", "mixtral": "mistral"}  # else qwen2
_EXTRA_TOKENS = {"qwen2": ["<|im_start|>"], "llama": ["<|im_start|>"]}


def tiny_tokenizer(architecture: str) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of some 400 entries, with the special tokens and chat template of its family or one like it."""
    architecture = architecture if architecture in ARCHITECTURES else _TOKENIZED_LIKE.get(architecture, "qwen2")
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
    ids: dict[str, Any] = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    shared: dict[str, Any] = {"vocab_size": len(tokenizer), "initializer_range": 0.25, **ids}
    wide: dict[str, Any] = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": N_CTX,
        **shared,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + 1000 * (*ARCHITECTURES, *MORE_ARCHITECTURES).index(architecture))
        if architecture == "llama":
            model: PreTrainedModel = LlamaForCausalLM(LlamaConfig(**wide))
        elif architecture == "mistral":
            wide |= {"hidden_size": 64, "num_hidden_layers": 3}
            model = MistralForCausalLM(MistralConfig(**wide, sliding_window=None))
        elif architecture == "qwen2":
            model = Qwen2ForCausalLM(Qwen2Config(**wide, tie_word_embeddings=True))
        elif architecture == "gpt2":
            model = GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=3, n_head=4, n_positions=N_CTX, **shared))
        else:
            model = _further_model(architecture, wide)
            _scatter_gains_and_biases(model)
    return model.eval()


def _further_model(architecture: str, wide: dict[str, Any]) -> PreTrainedModel:
    """Wherever a class knows sliding windows, blocks with a window and without one take turns, or all have one."""
    gemma: dict[str, Any] = {**wide, "head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": WINDOW}
    experts: dict[str, Any] = {"num_local_experts": 4, "num_experts_per_tok": 2}
    turns = ["sliding_attention", "full_attention"] * 2
    if architecture == "qwen3":
        return Qwen3ForCausalLM(
            Qwen3Config(**wide, head_dim=16, use_sliding_window=True, sliding_window=WINDOW, layer_types=turns[::-1])
        )
    if architecture == "gemma2":
        return Gemma2ForCausalLM(Gemma2Config(**gemma))
    if architecture == "gemma3_text":
        return Gemma3ForCausalLM(Gemma3TextConfig(**gemma, layer_types=turns))
    if architecture == "gemma3":
        text = Gemma3TextConfig(**gemma, layer_types=turns)
        eyes: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
        eyes |= {"image_size": 8, "patch_size": 4, "model_type": "siglip_vision_model"}
        return Gemma3ForConditionalGeneration(Gemma3Config(text_config=text, vision_config=eyes, mm_tokens_per_image=4))
    if architecture == "phi3":
        return Phi3ForCausalLM(Phi3Config(**wide, original_max_position_embeddings=N_CTX, sliding_window=WINDOW))
    if architecture == "olmo2":
        return Olmo2ForCausalLM(Olmo2Config(**wide))
    if architecture == "gpt_neox":
        return GPTNeoXForCausalLM(GPTNeoXConfig(**{name: wide[name] for name in wide if name != "num_key_value_heads"}))
    if architecture == "gpt_oss":
        yarn = {"rope_type": "yarn", "rope_theta": 150000.0, "factor": 2.0, "original_max_position_embeddings": N_CTX // 2}
        return GptOssForCausalLM(GptOssConfig(**wide, **experts, head_dim=8, sliding_window=WINDOW, rope_parameters=yarn))
    if architecture == "mixtral":
        return MixtralForCausalLM(MixtralConfig(**wide, **experts, sliding_window=WINDOW))
    assert architecture == "qwen3_moe"
    experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "mlp_only_layers": [1]}
    return Qwen3MoeForCausalLM(Qwen3MoeConfig(**wide, **experts))


def _scatter_gains_and_biases(model: PreTrainedModel) -> None:
    """They start as ones and zeros, with which a forgotten one would go unseen."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 1 or name.endswith("bias"):
                parameter.add_(0.2 * torch.randn_like(parameter))


def save_tiny_model(architecture: str, folder: Path, *, seed: int = 0) -> Path:
    """Write model and tokenizer to `folder`, as `from_pretrained` reads them; returns the folder."""
    tokenizer = tiny_tokenizer(architecture)
    tiny_hf_model(architecture, tokenizer, seed=seed).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
