"""A real llama.cpp server of a GGUF file, on a free port of this machine."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PATIENCE = 90.0


@contextmanager
def llama_server(model: Path, log: Path, *, n_ctx: int = 256) -> Iterator[str]:
    """The address of its API; it is gone at the end. The file must be float: quantized ones can crash it on CPUs with AMX."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = (
        "--model",
        model,
        "--host",
        "127.0.0.1",
        "--port",
        port,
        "--n_ctx",
        n_ctx,
        "--n_threads",
        1,
        "--model_alias",
        "served",
    )
    command = [sys.executable, "-m", "llama_cpp.server", *map(str, words)]
    surroundings = {name: value for name, value in os.environ.items() if name not in ("HOST", "PORT", "MODEL", "API_KEY")}
    with log.open("wb") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said, env=surroundings)
        try:
            _wait_for(f"http://127.0.0.1:{port}/v1/models", process, log)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with opener.open(url, timeout=2) as answer:
                answer.read()
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.1)
    raise RuntimeError(
        f"llama_cpp.server did not come up (exit code {process.poll()}): {log.read_text(errors='replace')[-2000:]}"
    )
