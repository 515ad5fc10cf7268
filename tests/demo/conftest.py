"""What the tests of the web demo share: two models on a shelf, vectors without an extraction, jobs run to their end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from persona_interp.demo.jobs import Job
from persona_interp.demo.shelf import Shelf
from persona_interp.demo.site import Site
from persona_interp.errors import UnsupportedError
from persona_interp.models.steerable import SteerableModel
from persona_interp.plotting.png import find_browser
from persona_interp.vectors.persona_vector import PersonaVector


@pytest.fixture(scope="session")
def shelf() -> Iterator[Shelf]:
    """Two organisms, loaded once."""
    shelf = Shelf(["organism-qwen2", "organism-llama"])
    yield shelf
    shelf.close()


@pytest.fixture
def site(shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A site with an empty home."""
    monkeypatch.setenv("PERSONA_INTERP_HOME", str(tmp_path / "home"))
    site = Site(shelf)
    yield site
    site.sessions.close()


@pytest.fixture
def model(shelf: Shelf) -> SteerableModel:
    return shelf.model("organism-qwen2")


@pytest.fixture
def random_vector() -> Callable[..., PersonaVector]:
    """`random_vector(model, seed)`: long enough to change what is said."""

    def make(model: SteerableModel, seed: int = 0, trait: str = "silly") -> PersonaVector:
        generator = torch.Generator().manual_seed(seed)
        directions = 20 * torch.randn(model.n_layers, model.d_model, generator=generator)
        norms = (200.0,) * model.n_layers
        return PersonaVector(directions, tuple(range(model.n_layers)), trait, model.identity, statistics={"resid_norm": norms})

    return make


@pytest.fixture
def done() -> Callable[..., Any]:
    """`done(work)`: the result of a job's work, run as the page runs it."""

    def run(work: Callable[[Job[Any]], Any]) -> Any:
        def shown(job: Job[Any]) -> None:
            job.show(work(job))

        return Job(shown).start().result()

    return run


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A browser; `.ci/run` installs it, so that nothing is skipped there."""
    try:
        path = find_browser()
    except UnsupportedError as error:
        pytest.skip(f"runs once Chromium is installed: {error}")
    from playwright.sync_api import sync_playwright

    flags = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=flags)
        yield browser
        browser.close()
