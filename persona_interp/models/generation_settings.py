"""Settings with which a Hugging Face model only does what the sampler says."""

from __future__ import annotations

from collections.abc import Collection

from transformers import GenerationConfig


def plain_settings(max_new_tokens: int, end_ids: Collection[int], pad_id: int) -> GenerationConfig:
    """Greedy over whatever the sampler leaves, until an end id or the limit.

    What is left open is filled from the checkpoint's own settings, on NDIF those of the server's model.
    """
    return GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=False,
        num_beams=1,
        use_cache=True,
        repetition_penalty=1.0,
        no_repeat_ngram_size=0,
        eos_token_id=sorted(end_ids) or None,
        pad_token_id=pad_id,
    )
