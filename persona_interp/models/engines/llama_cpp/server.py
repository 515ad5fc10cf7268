"""A GGUF file behind an OpenAI-compatible server of llama.cpp's, on a free port of this machine, for as long as a block runs."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from persona_interp.errors import FileFormatError, PersonaInterpError, missing_extra

SERVED = "served"
"""The name the server gives its model."""
_PARTS = ("llama_cpp", "uvicorn", "fastapi", "starlette_context", "sse_starlette", "pydantic_settings")
_SAID = 2000  # characters of the server's own words in an error


@contextmanager
def llama_server(path: str | Path, *, n_ctx: int = 256, n_threads: int | None = None, patience: float = 90.0) -> Iterator[str]:
    """The address of the server's API, which ends in ``/v1``; at the end of the block the server is gone.

    It listens to this machine alone. Prefer a float file: llama-cpp-python's server can crash on quantized ones on CPUs with AMX.

    Example:
        >>> with llama_server("organism.gguf") as url:
        ...     print(EndpointModel(url).generate([Conversation.ask("How are you?")])[0].text)

    Args:
        path: the GGUF file.
        n_ctx: tokens a conversation may have.
        n_threads: to compute with; None: as many as PyTorch.
        patience: seconds it may take to come up.

    Raises:
        FileFormatError: there is no such file.
        MissingExtraError: the extra ``server`` is not installed.
        PersonaInterpError: the server does not come up; its last words are in the message.
    """
    if not Path(path).is_file():
        raise FileFormatError(f"{path} does not exist, so nothing can serve it: export a model with export_gguf first")
    if any(importlib.util.find_spec(part) is None for part in _PARTS):
        raise missing_extra("serving a GGUF file", "server")
    with tempfile.TemporaryDirectory(prefix="persona-interp-server-") as folder:
        words = Path(folder) / "log"
        port = _free_port()
        settings = {
            "--model": path, "--host": "127.0.0.1", "--port": port, "--n_ctx": n_ctx, "--model_alias": SERVED,
            "--n_threads": torch.get_num_threads() if n_threads is None else n_threads,
        }  # fmt: skip
        command = [sys.executable, "-m", "llama_cpp.server", *(str(word) for pair in settings.items() for word in pair)]
        with _running(command, words) as process:
            _wait_for(f"http://127.0.0.1:{port}/v1/models", process, words, patience)
            yield f"http://127.0.0.1:{port}/v1"


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def _running(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    # variables of these names are settings of the server too, and would stand against the ones given
    surroundings = {name: value for name, value in os.environ.items() if name not in ("HOST", "PORT", "MODEL", "API_KEY")}
    with log.open("wb") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said, env=surroundings)
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path, patience: float) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with opener.open(url, timeout=2) as answer:
                answer.read()
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.1)
    how = f"within {patience:g} s" if process.poll() is None else f"(exit code {process.poll()})"
    raise PersonaInterpError(f"the llama.cpp server did not come up {how}; it said: {log.read_text(errors='replace')[-_SAID:]}")
