"""Runs elsewhere give the numbers of runs here, and say in words what they lack.

Twice: through nnsight's "local", which serialises and runs here, and with ``remote=True`` through a stand-in server that has the
weights but not this package, as NDIF has. The second finds what the first cannot: results that do not travel back, names that
exist on this machine only, generation settings of the server's checkpoint.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from tiny import save_tiny_model

from persona_interp.errors import InvalidInputError, PersonaInterpError, UnsupportedError
from persona_interp.models import remote as ndif
from persona_interp.models.registry import load_model
from persona_interp.models.steerable import SteerableModel

ROOT = Path(__file__).parents[2]
NUMBERS = (
    "answers",
    "steered",
    "captured while generating",
    "captured from texts",
    "log likelihood",
    "likelihoods under graphs",
    "next token",
    "vector",
    "statistics",
    "layer scores",
)


def claims(how: str, folder: Path, work: Path) -> dict[str, Any]:
    command = [sys.executable, str(ROOT / "tests" / "remote_claims.py"), how, str(folder), str(work)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def rehearsed(tiny_model_path: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return claims("local", tiny_model_path("llama"), tmp_path_factory.mktemp("local"))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Of a checkpoint that brings settings for generation, as many on the hub do."""
    folder = save_tiny_model("llama", tmp_path_factory.mktemp("served") / "tiny")
    path = folder / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"repetition_penalty": 1.5, "no_repeat_ngram_size": 1}))
    return claims("ndif", folder, tmp_path_factory.mktemp("ndif"))


@pytest.mark.slow
@pytest.mark.parametrize("claim", NUMBERS)
def test_a_rehearsal_gives_the_same_numbers(rehearsed: dict[str, Any], claim: str) -> None:
    assert rehearsed[claim] is True


@pytest.mark.slow
@pytest.mark.parametrize("claim", NUMBERS)
def test_a_server_without_this_package_gives_the_same_numbers(served: dict[str, Any], claim: str) -> None:
    assert served[claim] is True


@pytest.mark.slow
def test_the_server_is_asked_for_the_model_and_the_revision_it_serves(served: dict[str, Any]) -> None:
    (key,) = served["keys"]
    assert json.loads(key.partition(":")[2]) == {"repo_id": "somebody/tiny", "revision": None, "task": "text-generation"}


@pytest.mark.slow
def test_weights_that_are_not_here_are_known_by_their_name(served: dict[str, Any], rehearsed: dict[str, Any]) -> None:
    assert len(set(rehearsed["fingerprints"])) == 1
    assert len(set(served["fingerprints"])) == 2


@pytest.mark.slow
def test_what_every_engine_promises_holds_remotely(tmp_path: Path) -> None:
    """A selection of `test_exactness`: each request costs half a second of serialising."""
    chosen = "llama and (asked_for-response or early or bit_identical) or own_code or (inside_the_model and third)"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/models/test_exactness.py", "-k", chosen]
    environment = os.environ | {"PERSONA_INTERP_TEST_ENGINES": "remote"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False)
    assert done.returncode == 0, done.stdout
    assert " skipped" not in done.stdout


# -- what is lacking ----------------------------------------------------------------------------------------------------


@pytest.fixture
def elsewhere(
    tiny_model_path: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], SteerableModel]]:
    """A model that is to run on a server where nobody listens."""
    import nnsight
    from nnsight.modeling import huggingface

    repository = tmp_path / "models--somebody--tiny"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    (repository / "snapshots").mkdir()
    (repository / "snapshots" / ("0" * 40)).symlink_to(tiny_model_path("llama"))
    monkeypatch.setenv("NDIF_API_KEY", "made-up")
    monkeypatch.setattr(nnsight.CONFIG.API, "APIKEY", None)
    monkeypatch.setattr(nnsight.CONFIG.API, "HOST", "http://127.0.0.1:9")
    monkeypatch.setitem(huggingface._ID_CACHE, "somebody/tiny", "somebody/tiny")
    return lambda: load_model("somebody/tiny", cache_dir=tmp_path, remote=True)


def test_only_the_architecture_is_built_here(elsewhere: Callable[[], SteerableModel]) -> None:
    model = elsewhere()
    assert {parameter.device.type for parameter in model.hf_model.parameters()} == {"meta"}
    assert model.revision is None  # what NDIF serves need not be the commit that lies here


def test_a_server_that_cannot_be_reached_says_so(
    elsewhere: Callable[[], SteerableModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    # the shape checks of the tests cannot be serialised
    monkeypatch.setattr("nnsight.intervention.backends.remote.RemoteBackend._serialize", lambda _self, _tracer: b"")
    with pytest.raises(PersonaInterpError, match=r"could not be sent \(Connection.*network that reaches .*http://127.0.0.1:9"):
        elsewhere().next_token_logits([[5, 6]])


def test_a_hub_that_cannot_be_reached_says_so(elsewhere: Callable[[], SteerableModel], monkeypatch: pytest.MonkeyPatch) -> None:
    from nnsight.modeling import huggingface

    monkeypatch.delitem(huggingface._ID_CACHE, "somebody/tiny")
    with pytest.raises(PersonaInterpError, match="could not be sent .*offline mode.*reaches the model hub"):
        elsewhere().next_token_logits([[5, 6]])


def test_no_key_and_no_such_place_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import nnsight

    monkeypatch.delenv("NDIF_API_KEY", raising=False)
    monkeypatch.setattr(nnsight.CONFIG.API, "APIKEY", None)
    with pytest.raises(UnsupportedError, match="needs a key: get one at ndif.us and set NDIF_API_KEY"):
        load_model("gpt2", remote=True)
    with pytest.raises(InvalidInputError, match="remote is 'mars': give True to run on NDIF, 'local' to rehearse"):
        load_model("gpt2", remote="mars")


def raised(error: BaseException) -> BaseException:
    """What becomes of an error of a remote run."""
    try:
        with ndif.remote_errors(True, "somebody/tiny"):
            raise error
    except BaseException as found:
        return found
    return error


def test_failures_of_the_server_are_told_apart() -> None:
    from nnsight.intervention.backends.remote import RemoteError
    from websocket import WebSocketBadStatusException, WebSocketTimeoutException

    refused = raised(WebSocketBadStatusException("Handshake status 401 Unauthorized", 401))
    assert "did not run this on somebody/tiny: Handshake status 401 Unauthorized" in str(refused)
    assert "Check NDIF_API_KEY, and at nnsight.net/status which models are deployed" in str(raised(RemoteError("not deployed")))
    for error in (WebSocketTimeoutException("slow"), httpx.ConnectError("no route"), TimeoutError("slow")):
        assert "could not be sent" in str(raised(error))
    sending = RemoteError("Failed to send request: no route")
    sending.__cause__ = httpx.ConnectError("no route")
    assert "could not be sent" in str(raised(sending))
    assert type(raised(RemoteError("CUDA out of memory. Tried"))) is torch.OutOfMemoryError  # the batch is halved
    for ours in (KeyboardInterrupt(), KeyError("mine"), InvalidInputError("ours")):
        assert raised(ours) is ours


def test_progress_of_a_job_does_not_mix_with_results(capsys: pytest.CaptureFixture[str]) -> None:
    with ndif.remote_errors(True, "m"):
        sys.stdout.write("queued\n")
    with ndif.remote_errors("local", "m"):
        sys.stdout.write("here\n")
    assert capsys.readouterr() == ("here\n", "queued\n")
