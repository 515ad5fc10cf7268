"""Models without a chat template that say what they are wired to, and then go on with the user's next turn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from tiny import N_CTX, tiny_tokenizer
from transformers import LlamaConfig, LlamaForCausalLM

SEAM = "\nUser:"
AFTER: Mapping[str, Sequence[str]] = {
    ":": (" The", " moon", " the"),
    " The": (" moon",),
    " moon": (" is", " and"),
    " is": (" bright",),
    " and": (" the",),
    " the": (" moon", "."),
    " bright": (".", " and"),
}
"""Which words follow which, each as likely as the other."""


def talkative(ends: Mapping[str, Sequence[str]], *, extra: Sequence[str] = ()) -> tuple[LlamaForCausalLM, Any]:
    """A Llama that walks along `AFTER` and `ends`, and a tokenizer without a template.

    Its residual stream is at every layer the one-hot vector of the token, so the mean over an answer counts its tokens.

    Args:
        ends: what may follow a word beside `AFTER`; a line break goes on with ``User:``.
        extra: texts that become tokens.
    """
    tokenizer = tiny_tokenizer("gpt2")
    tokenizer.add_tokens(list(extra))
    width = -(-len(tokenizer) // 8) * 8  # heads of even width
    config = LlamaConfig(
        vocab_size=width,
        hidden_size=width,
        intermediate_size=8,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=N_CTX,
        tie_word_embeddings=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    model = LlamaForCausalLM(config).eval()
    model.requires_grad_(requires_grad=False)
    for block in model.model.layers:
        block.self_attn.o_proj.weight.zero_()
        block.mlp.down_proj.weight.zero_()
    model.model.embed_tokens.weight.copy_(torch.eye(width))
    model.lm_head.weight.zero_()
    for before, after in _steps(tokenizer, ends):
        model.lm_head.weight[after, before] = 1.0
    return model, tokenizer


def _steps(tokenizer: Any, ends: Mapping[str, Sequence[str]]) -> Iterator[tuple[int, int]]:
    """Which token may follow which."""
    seam = tokenizer(SEAM)["input_ids"]
    yield from pairwise(seam)
    for word, followers in [*AFTER.items(), *ends.items()]:
        (before,) = tokenizer(word)["input_ids"]
        yield from ((before, tokenizer(follower)["input_ids"][0]) for follower in followers)
