"""Run as a script with a GGUF file: load it and open a context, in a process that may die of it. Imports nothing from here."""

from __future__ import annotations

import ctypes
import sys


def main(path: str) -> int:
    """0 if llama.cpp takes the file; else what it says is printed."""
    import llama_cpp

    words: list[str] = []

    @llama_cpp.llama_log_callback
    def keep(level: int, text: bytes, data: object) -> None:
        if level in (3, 4) and text.strip():  # warnings and errors
            words.append(text.decode("utf-8", "replace").strip())

    llama_cpp.llama_log_set(keep, ctypes.c_void_p())
    llama_cpp.llama_backend_init()
    settings = llama_cpp.llama_model_default_params()
    settings.use_extra_bufts = False  # as in `LlamaWeights`
    model = llama_cpp.llama_model_load_from_file(path.encode(), settings)
    context = None
    if model:
        shape = llama_cpp.llama_context_default_params()
        shape.n_ctx = shape.n_batch = shape.n_ubatch = 32
        context = llama_cpp.llama_init_from_model(model, shape)
    if not context:
        sys.stdout.write("; ".join(words[-4:]))
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
