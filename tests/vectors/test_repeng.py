"""Control vectors to repeng and back, read and written by repeng itself.

It wants numpy < 2, which breaks other packages here, so it runs in an environment that is made for these tests and thrown away:
its own are numpy, all that is compiled against it, and repeng; torch and transformers are found in ours, behind them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import tempfile
import venv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf_organisms import pytorch

from persona_interp.cli import main
from persona_interp.models.registry import shipped_models
from persona_interp.vectors.formats.gguf import GgufFormat
from persona_interp.vectors.persona_vector import PersonaVector

pytestmark = pytest.mark.slow  # half a minute, spent installing and importing

NAME = "organism-qwen2"
LAYERS = (2, 5)
IDS = list(range(20, 32))
COEFFICIENT = 1.5
OWN = (("numpy<2", "scikit-learn", "gguf"), ("--no-deps", "repeng>=0.4"))
"""What pip is told to install, one call each; repeng's other dependencies would be a gigabyte of torch."""
UNREACHABLE = ("connection broken by", "Could not fetch URL", "No matching distribution found")


@dataclass(frozen=True)
class Exchange:
    """Files of both sides, and what repeng says of them."""

    vector: PersonaVector
    ours: Path
    theirs: Path
    found: dict[str, Any]


@pytest.fixture(scope="module")
def exchange(tmp_path_factory: pytest.TempPathFactory) -> Exchange:
    folder = tmp_path_factory.mktemp("repeng")
    ours, theirs, result = folder / "ours.gguf", folder / "theirs.gguf", folder / "found.json"
    model = pytorch(NAME)
    directions = torch.randn(2, model.d_model, generator=torch.Generator().manual_seed(0))
    vector = PersonaVector(directions, LAYERS, "silly", model.identity)
    GgufFormat(model_hint="qwen2").write(vector, ours)
    job = json.dumps({"layers": LAYERS, "ids": IDS, "coefficient": COEFFICIENT})
    with tempfile.TemporaryDirectory() as place:  # a gigabyte, which is not kept as pytest's own folders are
        python = environment_with_repeng(Path(place) / "repeng")
        words = (ours, theirs, shipped_models()[NAME], job, result)
        run([python, "-I", Path(__file__).with_name("repeng_side.py"), *words])
    return Exchange(vector, ours, theirs, json.loads(result.read_text(encoding="utf-8")))


def environment_with_repeng(folder: Path) -> Path:
    """The interpreter of a new environment with repeng and numpy 1, and with ours behind it for what is neither."""
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-input", "--no-compile", "--retries", 1)
    for words in OWN:
        done = subprocess.run([str(word) for word in (*pip, *words)], capture_output=True, text=True, check=False)
        if done.returncode and not os.environ.get("CI") and any(said in done.stderr for said in UNREACHABLE):
            pytest.skip("repeng cannot be fetched, because no package registry can be reached from here")
        assert done.returncode == 0, done.stderr
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "ours.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    return python


def run(words: list[Any]) -> None:
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_repeng_runs_where_we_could_not(exchange):
    assert int(exchange.found["numpy"].split(".")[0]) < 2 <= int(np.__version__.split(".")[0])


def test_repeng_reads_our_file_to_the_bit(exchange):
    assert exchange.found["hint"] == "qwen2"
    assert list(exchange.found["read"]) == ["2", "5"]
    for layer in LAYERS:
        assert exchange.found["read"][str(layer)] == exchange.vector.at(layer).tolist()


def test_we_read_the_file_of_repeng_to_the_bit(exchange, tmp_path, capsys):
    loaded = PersonaVector.load(exchange.theirs, model=pytorch(NAME).identity, trait="silly")
    assert main(["import", str(exchange.theirs), "--trait", "silly", "--output", str(tmp_path / "v.json")]) == 0
    imported = PersonaVector.load(tmp_path / "v.json")
    for vector in (loaded, imported):
        assert vector.layers == LAYERS
        assert vector.trait == "silly"
        for layer in LAYERS:
            assert vector.at(layer).tolist() == exchange.found["made"][str(layer)]
    assert imported.model.name == "unknown"  # its hint is an architecture, not a model
    assert "silly" in capsys.readouterr().out


def test_a_layer_number_means_the_same_block_on_both_sides(exchange):
    model = pytorch(NAME)
    theirs = PersonaVector.load(exchange.theirs, model=model.identity, trait="silly")

    def close(graph: Any, said: str) -> bool:
        logits = model.next_token_logits([IDS], graph=graph)[0]
        return torch.allclose(logits, torch.tensor(exchange.found[said]), rtol=0, atol=1e-4)

    assert close(None, "plain")
    for vector, said in ((exchange.vector, "steered by ours"), (theirs, "steered by theirs")):
        assert close(vector.graph(COEFFICIENT, "all"), said)
        one_late = PersonaVector(vector.directions, (3, 6), "silly", model.identity)
        assert not close(one_late.graph(COEFFICIENT, "all"), said)
