"""Models that run in vLLM, for tests in an environment that has it; each is loaded once a process."""

from __future__ import annotations

import os
from functools import cache
from typing import Any

from persona_interp.models.registry import load_model
from persona_interp.models.steerable import SteerableModel

CHUNK = 32
"""Tokens of all requests that one step takes, so that a longer prompt is cut into chunks."""
BLOCK = 32
"""Tokens of a block of the prefix cache."""


@cache
def vllm_model(name: str, *, caching: bool = True, chunk: int = CHUNK, **options: Any) -> SteerableModel:
    """In this process, so that starting it costs a fraction; small chunks and blocks, so that there are several of each."""
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    arguments = {
        "block_size": BLOCK,
        "max_num_batched_tokens": chunk,
        "max_num_seqs": min(chunk, 32),
        "enable_prefix_caching": caching,
        "kv_cache_memory_bytes": 2**28,
        **options,
    }
    return load_model(name, engine="vllm", dtype="float32", engine_options=arguments)
