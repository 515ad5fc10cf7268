"""Two processes that read the same anchors: what either has read is kept, and they write one after the other."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from persona_interp.errors import InUseError
from persona_interp.models.steerable import SteerableModel
from persona_interp.transfers import reading
from persona_interp.transfers.anchor_rows import AnchorRows
from persona_interp.transfers.anchors import Anchor
from persona_interp.transfers.reading import read_rows

ANCHORS = [Anchor(f"What is thing {n}?", f"It is a calm and wide number {n}.") for n in range(50)]
_HOLDER = """
import sys
from pathlib import Path
from persona_interp.locks import locked
with locked(Path(sys.argv[1]), patience=0.0, what="it", remedy="wait"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def model(tiny_model: Callable[[str], SteerableModel]) -> SteerableModel:
    return tiny_model("llama")


def test_what_another_read_meanwhile_is_not_lost(model: SteerableModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = reading._means

    def slowly(*given: Any) -> Any:
        monkeypatch.setattr(reading, "_means", read)
        read_rows(model, ANCHORS, kinds=("prompts",), folder=tmp_path)  # somebody else, who is done first
        return read(*given)

    monkeypatch.setattr(reading, "_means", slowly)
    ours = read_rows(model, ANCHORS, kinds=("states",), folder=tmp_path)
    (file,) = tmp_path.glob("*.safetensors")
    kept = AnchorRows.load(file)
    assert kept.kinds == ("states", "prompts")
    assert torch.equal(kept.rows("states", 1), ours.rows("states", 1))
    alone = read_rows(model, ANCHORS, kinds=("prompts",), folder=tmp_path / "alone")
    assert torch.equal(kept.rows("prompts", 1), alone.rows("prompts", 1))


@contextmanager
def held(lock: Path) -> Iterator[None]:
    with subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield
        process.communicate()


def test_nobody_writes_while_another_process_does(model: SteerableModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read_rows(model, ANCHORS, kinds=("states",), folder=tmp_path)
    (file,) = tmp_path.glob("*.safetensors")
    before = file.read_bytes()
    monkeypatch.setattr(reading, "_PATIENCE", 0.1)
    with held(file.with_name(f".{file.name}.lock")):
        read_rows(model, ANCHORS, kinds=("states",), folder=tmp_path)  # reading takes no lock
        with pytest.raises(InUseError, match="safetensors is in use by another process: let that go on"):
            read_rows(model, ANCHORS, kinds=("prompts",), folder=tmp_path)
        assert file.read_bytes() == before
    assert read_rows(model, ANCHORS, kinds=("prompts",), folder=tmp_path).kinds == ("states", "prompts")
