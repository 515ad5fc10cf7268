"""One file adds an alignment, a judge, a file format, an operation, a way to make a direction, a family of models, or an engine.

The file lies outside the package and is known to it by nothing but its entry points, as a package on an index would be.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import fake_engine
import pytest

TOY = '''
"""A toy of each kind."""

from __future__ import annotations

import json
from dataclasses import dataclass

import torch

from persona_interp.alignment.linear_alignment import LinearAlignment
from persona_interp.alignment.methods import register_alignment
from persona_interp.interventions.operations import Add, register_operation
from persona_interp.judges.kinds import register_judge
from persona_interp.models.families import FamilyLayout, register_family
from persona_interp.traits.judging import Judgement
from persona_interp.vectors.estimators import register_estimator
from persona_interp.vectors.formats import register_format


@register_alignment("toy-halves")
@dataclass
class Halves(LinearAlignment):
    """Half of the naive map."""

    def _matrix(self, whole, parts):
        return torch.eye(len(whole.source_mean), len(whole.target_mean), dtype=torch.float64) / 2


class LengthJudge:
    name = "toy-length"

    def __init__(self, unit):
        self.unit = unit

    def judge(self, trait, exchanges):
        return [Judgement(min(100.0, len(answer) * self.unit), 100.0) for _, answer in exchanges]


register_judge(
    "toy-length", lambda model, argument: LengthJudge(float(argument or 1)), guard=False, form="toy-length[:UNIT]",
    help="how long an answer is",
)


class ToyFormat:
    suffix = ".toy"
    says_whose = True
    for_others = False

    def write(self, vector, path):
        path.write_text("toy" + json.dumps({"trait": vector.trait, "rows": vector.directions.tolist()}))

    def read(self, path, *, model, trait):
        from persona_interp.models.identity import ModelIdentity
        from persona_interp.vectors.persona_vector import PersonaVector

        found = json.loads(path.read_text().removeprefix("toy"))
        rows = torch.tensor(found["rows"])
        return PersonaVector(
            trait=found["trait"], model=ModelIdentity("toy", None, "", len(rows), rows.shape[1]), layers=tuple(range(len(rows))),
            directions=rows, positions="response_avg", estimator="mean_difference",
        )


register_format(ToyFormat())


@register_operation
@dataclass(frozen=True, eq=False)
class Twice(Add):
    """Adds it twice."""

    kind = "toy_twice"

    @staticmethod
    def transform(resid, direction, coefficient):
        return resid + (2 * coefficient * direction).to(resid.dtype)


register_estimator("toy-median", lambda positive, negative: positive.median(0).values - negative.median(0).values)
register_family(FamilyLayout("toy_llama", llama_equivalent=True, why_no_twin="it is a toy"))
'''

ENTRY_POINTS = """
[persona_interp.alignments]
toy = toy_extension
[persona_interp.judges]
toy = toy_extension
[persona_interp.formats]
toy = toy_extension
[persona_interp.operations]
toy = toy_extension
[persona_interp.estimators]
toy = toy_extension
[persona_interp.families]
toy = toy_extension
[persona_interp.engines]
toy = toy_engine
"""

HELPS = """
import argparse, json, sys
from persona_interp.cli import build_parser
parser = build_parser()
(commands,) = [each for each in parser._actions if isinstance(each, argparse._SubParsersAction)]
assert "toy_extension" not in sys.modules and "torch" not in sys.modules
asked = ("evaluate-transfer", "evaluate", "extract-vectors", "export", "info", "apply-steering")
print(json.dumps({name: " ".join(commands.choices[name].format_help().split()) for name in asked}))
"""

API = """
import json, sys
from types import SimpleNamespace
import torch
import persona_interp as pi
from persona_interp.alignment.methods import alignment_method, alignment_names
from persona_interp.errors import UnsupportedError
from persona_interp.interventions.operations import OPERATIONS, operation_from_json
from persona_interp.judges.registry import load_judge
from persona_interp.models.baked import _needs_conversion
from persona_interp.models.families import layout_of
from persona_interp.organisms.twins.stream import stream_of
from persona_interp.vectors.estimators import estimator
assert "toy_extension" not in sys.modules
toy_family = SimpleNamespace(model_type="toy_llama")
assert layout_of(toy_family).blocks == "model.layers"
assert _needs_conversion(toy_family, "toy")  # the same entry says that it can be baked, and why it has no twin
try:
    stream_of(toy_family, "toy")
except UnsupportedError as error:
    assert "it is a toy. Families that have: gpt2, llama" in str(error), error
rows = torch.randn(8, 4, dtype=torch.float64)
fitted = alignment_method("toy-halves").fit(rows, rows)
moved = fitted.transform_directions(rows[:1])
judge = load_judge("toy-length:10", SimpleNamespace(name="m", config=None))
score = judge.judge(pi.load_trait("silly"), [("Q?", "four")])[0].trait
vector = pi.PersonaVector.load(sys.argv[1])
graph = vector.graph(1.5, layers=[0], operation=OPERATIONS["toy_twice"])
again = pi.InterventionGraph.from_json(graph.to_json())
vector.save(sys.argv[2])
print(json.dumps({
    "alignments": alignment_names(), "halved": bool(torch.allclose(moved, rows[:1] / 2)), "score": score,
    "trait": pi.PersonaVector.load(sys.argv[2]).trait, "operation": again.nodes[0].operation.kind,
    "median": estimator("toy-median")(torch.ones(3, 4), torch.zeros(3, 4)).tolist(),
}))
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder on the path that holds one module, installed as a distribution with entry points."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "toy_extension.py").write_text(TOY)
    (folder / "fake_engine.py").write_text(Path(fake_engine.__file__).read_text())
    (folder / "toy_engine.py").write_text("import fake_engine\n\nfake_engine.register()\n")
    about = folder / "toy_extension-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-extension\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(ENTRY_POINTS)
    return folder


def ran(site: Path, code: str, *words: Path) -> Any:
    path = os.pathsep.join([str(site), str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_help_names_what_a_file_outside_the_package_adds_and_the_parser_loads_none_of_it(site: Path) -> None:
    found = {name: str(text).replace("- ", "-") for name, text in ran(site, HELPS).items()}  # lines break at hyphens
    assert "toy-halves" in found["evaluate-transfer"]
    for command in ("evaluate", "evaluate-transfer", "extract-vectors"):
        assert "toy-length[:UNIT] (how long an answer is)" in found[command]
        assert "endpoint:MODEL" in found[command]
        assert "grammar (the exact one of the model organisms)" in found[command]
    assert "toy, " in found["export"]
    assert ".toy" in found["info"]
    assert "toy-median" in found["extract-vectors"]
    assert "toy_twice" in found["apply-steering"]
    assert "what runs it: torch, llama.cpp, transformer_lens, vllm, endpoint, memory (" in found["apply-steering"]


def test_each_is_used_by_its_name_in_python(site: Path, tmp_path: Path) -> None:
    given = tmp_path / "given.toy"
    given.write_text("toy" + json.dumps({"trait": "loud", "rows": [[1.0, 0.0], [0.0, 1.0]]}))
    found = ran(site, API, given, tmp_path / "out.toy")
    assert found["alignments"][:2] == ["effects", "procrustes"]
    assert found["alignments"][-1] == "toy-halves"
    assert found["halved"] is True
    assert found["score"] == 40.0
    assert found["trait"] == "loud"
    assert found["operation"] == "toy_twice"
    assert found["median"] == [1.0] * 4


TAKEN = """
import json
from persona_interp.alignment.methods import LinearAlignment, register_alignment
from persona_interp.errors import InvalidInputError
from persona_interp.interventions.operations import Add, register_operation
from persona_interp.judges.kinds import register_judge
from persona_interp.vectors.estimators import register_estimator
from persona_interp.models.engines.capabilities import Capabilities
from persona_interp.models.engines.registry import register_engine
from persona_interp.models.families import FamilyLayout, register_family
from persona_interp.vectors.formats import register_format
def map_of(name): return register_alignment(name)(type("R", (LinearAlignment,), {}))
refused = []
for again in (
    lambda: map_of("ridge"), lambda: map_of("effects"), lambda: register_judge("grammar", lambda model, argument: None),
    lambda: register_format(type("F", (), {"suffix": ".json"})()), lambda: register_operation(type("A", (Add,), {"kind": "add"})),
    lambda: register_estimator("pca", lambda positive, negative: positive),
    lambda: register_family(FamilyLayout("llama", blocks="elsewhere")),
    lambda: register_engine("torch", opens=print, load=lambda *_: None, capabilities=Capabilities("t"), runs="all"),
):
    try:
        again()
    except InvalidInputError as error:
        refused.append(str(error))
print(json.dumps(refused))
"""


ENGINE = """
import json, sys
from persona_interp import Capture, Conversation, InterventionGraph, Sampling, load_model
from persona_interp.models.registry import find_model
assert "fake_engine" not in sys.modules
model = load_model(sys.argv[1])
(answer,) = model.generate([Conversation.ask("Hi?")], graph=InterventionGraph((Capture("answer"),)), sampling=Sampling(4, 0))
refused = ""
try:
    load_model(sys.argv[1], engine="torch")
except Exception as error:
    refused = str(error)
print(json.dumps({
    "engine": model.capabilities.engine, "found": find_model(sys.argv[1]).engine, "ids": len(answer.answer_ids),
    "read": list(answer.captured[Capture("answer")].shape), "refused": refused,
}))
"""


def test_an_engine_is_found_by_what_it_opens(site: Path, tmp_path: Path) -> None:
    weights = tmp_path / "small.fake"
    weights.write_text("3")
    found = ran(site, ENGINE, weights)
    assert (found["engine"], found["found"]) == ("memory", "memory")
    assert found["ids"] == 4
    assert found["read"] == [3, 16]
    assert "engine 'torch' runs Hugging Face models, GGUF files, which" in found["refused"]


def test_a_name_that_is_built_in_is_refused_before_anything_was_asked_for(site: Path) -> None:
    refused = ran(site, TAKEN)
    assert [" ".join(str(each).split()[:4]) for each in refused] == [
        "alignment method 'ridge' is",
        "alignment method 'effects' is",
        "judge 'grammar' is already",
        "vector format '.json' is",
        "operation kind 'add' is",
        "estimator 'pca' is already",
        "model family 'llama' is",
        "engine 'torch' is already",
    ]
