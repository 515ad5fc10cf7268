"""A server in a thread of the tests' process, and personas made of random directions."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import torch
import uvicorn

from persona_interp.interventions.graph import Capture, InterventionGraph
from persona_interp.models.steerable import SteerableModel
from persona_interp.serving.app import application
from persona_interp.serving.served import Served
from persona_interp.serving.server import Settings, served_model
from persona_interp.vectors.persona_vector import PersonaVector


def made_vector(model: SteerableModel, seed: int, trait: str = "made-up", ratio: float = 0.5) -> PersonaVector:
    """A random direction at every layer; coefficient 1 is `ratio` of the residual norm."""
    stream, norms = torch.Generator().manual_seed(seed), Capture("answer", "norm")
    (read,) = model.capture([("What is the river?", "The river is wide.")], InterventionGraph((norms,)))
    rows, lengths = {}, {}
    for layer, length in enumerate(read[norms][:, 0].tolist()):
        row = torch.randn(model.d_model, generator=stream)
        rows[layer], lengths[layer] = row / row.norm() * length * ratio, length
    return PersonaVector.from_directions(model, rows, trait=trait, resid_norms=lengths)


class Running:
    """A server in a thread of this process."""

    def __init__(self, served: Served, settings: Settings, api_key: str | None) -> None:
        self.served, self.log = served, list[str]()
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(512)
        app = application(served, self.log.append, api_key=api_key, log_prompts=settings.log_prompts, own_names_only=True)
        self._server = uvicorn.Server(uvicorn.Config(app, log_level="error", access_log=False))
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._listener]}, daemon=True)
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def http(self, **options) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=60, trust_env=False, **options)

    def close(self) -> None:
        self._server.should_exit = True
        self._thread.join(30)
        self._listener.close()


@contextmanager
def running(model: SteerableModel, folder: Path, *, api_key: str | None = None, **settings) -> Iterator[Running]:
    chosen = Settings(folder, **settings)
    found = Running(served_model(model, chosen), chosen, api_key)
    try:
        yield found
    finally:
        found.close()
