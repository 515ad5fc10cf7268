"""The core runs without TransformerLens; what needs it names its extra, also where it is installed but does not fit."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from persona_interp.errors import MissingExtraError
from persona_interp.models import bridge, installation
from persona_interp.models.load import load_model

ROOT = Path(__file__).parents[2]
PIP = 'pip install "persona-interp[lens]"'
_CHILD = """
import sys
import torch

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "transformer_lens":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
import persona_interp as pi
from persona_interp.cli import main

model = pi.load_model("organism-qwen2")
directions = torch.randn(model.n_layers, model.d_model, generator=torch.Generator().manual_seed(0))
vector = pi.PersonaVector(directions, tuple(range(model.n_layers)), "silly", model.identity)
assert model.generate([pi.Conversation.ask("How big is the boat?")], graph=vector.graph(0.5, layers=[3]))[0].text
with pi.steered(model.hf_model, vector.graph(0.5, layers=[3])):
    model.hf_model(torch.tensor([[1, 2, 3]]))
vector.save("silly.json")
for raises in (model.bridge, lambda: pi.attribute(model, vector, layer=3)):
    try:
        raises()
        sys.exit("nothing was raised")
    except pi.errors.MissingExtraError as error:
        print(error)
print("attribute:", main(["attribute", "--model", "organism-qwen2", "--vectors", "silly.json", "--layer", "3"]))
print("doctor:", main(["doctor", "--model", "organism-qwen2"]))
print("imported:", "transformer_lens" in sys.modules)
"""


def test_where_transformer_lens_cannot_be_imported_all_else_works(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _CHILD],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PERSONA_INTERP_HOME": str(tmp_path), "COLUMNS": "200"},
    )
    assert ran.returncode == 0, ran.stderr
    assert "imported: False" in ran.stdout
    assert ran.stdout.count(f"{PIP} (it is not installed)") >= 3, "bridge(), attribute() and doctor's table"
    assert "attribute: 2" in ran.stdout
    assert PIP in ran.stderr, "the command says it too"
    assert "doctor: 0" in ran.stdout, "what is not installed is not broken"


def test_newer_transformers_are_refused_before_anything_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bridge, "version", {"transformers": "5.24.0", "transformer-lens": "4.3.0"}.__getitem__)
    with pytest.raises(MissingExtraError, match="lens.*transformer-lens 4.3.0 needs transformers below 5.24, and 5.24.0"):
        load_model("organism-gpt2").bridge()
    assert "does not fit" in installation.installation().engines["TransformerLens"]


def test_the_bound_is_that_of_the_extra() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras: dict[str, list[str]] = project["optional-dependencies"]
    assert f"transformers<{bridge.TOO_NEW}" in extras[bridge.EXTRA]
    assert not any("transformer-lens" in each for each in project["dependencies"])
    for extra in ("test", "notebook"):
        assert any("lens" in each.partition("[")[2] for each in extras[extra] if each.startswith("persona-interp[")), extra


def test_a_package_too_new_for_an_extra_is_told_by_doctor(monkeypatch: pytest.MonkeyPatch) -> None:
    from packaging.requirements import Requirement

    found: Callable[[str], str | None] = {"transformers": "5.24.0", "here": "1.0"}.get
    monkeypatch.setattr(installation, "_version", found)
    lacking = [installation._lacking(Requirement(text)) for text in ("transformers<5.24", "here>=1", "absent>2")]
    assert lacking == ["transformers<5.24 (5.24.0 is installed)", None, "absent"]
