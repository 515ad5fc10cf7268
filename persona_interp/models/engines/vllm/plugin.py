"""The entry point ``vllm.general_plugins``: vLLM calls `register` in each of its processes.

It makes one way of loading known, ``load_format="persona_interp"``: vLLM's own loader, after which forward hooks are put on the
blocks. They are there before vLLM compiles the model, so the custom operation that they call is part of the compiled graph. What
is not loaded so is not touched.
"""

from __future__ import annotations

import multiprocessing

from persona_interp.models.engines.vllm.mounted import unmount

LOAD_FORMAT = "persona_interp"
WORKER = "persona_interp.models.engines.vllm.worker.PersonaWorker"
DRAWS = "persona_interp.models.engines.vllm.draws:RowDraws"


def register() -> None:
    """Make the way of loading known to this process. Twice does no harm."""
    if multiprocessing.parent_process() is not None:  # a process of vLLM's own, which has started from the user's main module
        unmount()
    from vllm.model_executor.model_loader import _LOAD_FORMAT_TO_MODEL_LOADER, register_model_loader  # pyright: ignore[reportMissingImports]

    if LOAD_FORMAT not in _LOAD_FORMAT_TO_MODEL_LOADER:
        from persona_interp.models.engines.vllm.loader import SteerableLoader

        register_model_loader(LOAD_FORMAT)(SteerableLoader)
