"""`layer-effectiveness`: scores of every layer in a table, in files and in the vector, for --layer auto of the other commands."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from persona_interp.measure.effectiveness import LayerEffectiveness
from persona_interp.measure.layer_scan import LayerScan
from persona_interp.models.steerable import SteerableModel
from persona_interp.storage import read_json
from persona_interp.vectors.persona_vector import PersonaVector

BRIEF = ("--max-new-tokens", 5, "--pairs", 3)


@pytest.fixture
def score(run: Callable, tiny_model_path: Callable[[str], Path], trait_file: Path) -> Callable:
    model = tiny_model_path("qwen2")

    def call(*words: object):
        return run("layer-effectiveness", "--model", model, "--trait", trait_file, *BRIEF, *words)

    return call


@pytest.fixture
def vector(run: Callable, tiny_model_path: Callable[[str], Path], trait_file: Path) -> Path:
    base = ("--model", tiny_model_path("qwen2"), "--trait", trait_file, "--samples", 1, "--max-new-tokens", 5, "--judge", "none")
    assert run("extract-vectors", *base, "--output", "v.json", "--layer-scores", "none").code == 0
    return Path("v.json")


def test_scores_are_shown_recorded_and_written(score: Callable, vector: Path) -> None:
    ran = score("--vectors", vector, "--method", "likelihood", "gradient", "lens", "geometry", "--output", "layers.json")
    assert ran.code == 0, ran.err
    for method in ("likelihood", "gradient", "lens", "geometry"):
        assert f"by {method}" in ran.out
    assert "geometry, not behaviour" in ran.out
    found = read_json(Path("layers.json"), "layers")
    methods = [LayerEffectiveness.from_json(entry) for entry in found["methods"]]
    assert [method.method for method in methods] == ["likelihood", "gradient", "lens", "geometry"]
    assert found["best"] == methods[0].best().layer
    recorded = PersonaVector.load(vector).listed("effectiveness")
    assert recorded == pytest.approx(methods[0].values)


def test_layer_auto_says_what_it_chose_and_why(
    score: Callable, vector: Path, run: Callable, tiny_model_path: Callable[[str], Path]
) -> None:
    steer = ("apply-steering", "--model", tiny_model_path("qwen2"), "--vectors", vector, "--prompt", "Hi", "--max-new-tokens", 3)
    assert "geometry, not behaviour" in run(*steer).err
    assert score("--vectors", vector).code == 0
    best = PersonaVector.load(vector)
    scores = best.listed("effectiveness")
    layer = best.layers[max(range(len(scores)), key=lambda row: scores[row] or -1.0)]
    assert f"layer {layer}: the most effective of 4 by screened-likelihood" in run(*steer).err


def test_a_sweep_and_a_cliff_generate_with_the_judge_asked_for(score: Callable, vector: Path) -> None:
    words = ("--method", "sweep", "--ratios", 0.5, "--judge", "contrast", "--cliff", "--figure", "layers.html")
    ran = score("--vectors", vector, *words)
    assert ran.code == 2, "the contrast judge has no coherence to find a cliff by"
    assert "gives no coherence" in ran.err
    assert PersonaVector.load(vector).provenance["effectiveness"]["method"] == "sweep", "what was found before is kept"
    words = ("--method", "sweep", "--ratios", 0.5, "--judge", "contrast", "--figure", "layers.html", "--scan", "scan.json")
    ran = score("--vectors", vector, *words)
    assert ran.code == 0, ran.err
    scan = LayerScan.from_json(read_json(Path("scan.json"), "layer scan"))
    assert scan.layers == PersonaVector.load(vector).layers
    assert {len(points) for points in scan.by_layer.values()} == {2}
    assert "behaviour: the furthest the trait score moves" in ran.out
    assert "plotly" in Path("layers.html").read_text(encoding="utf-8")


def test_without_a_vector_one_is_extracted_once(score: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = score("--samples", 1, "--judge", "none")
    assert ran.code == 0, ran.err
    assert "there is no vectors/tiny-qwen2_loud.json: extracting 'loud'" in ran.err
    assert "effectiveness" in PersonaVector.load("vectors/tiny-qwen2_loud.json").statistics
    monkeypatch.setattr("persona_interp.vectors.extract.extract", lambda *_a, **_k: pytest.fail("extracted again"))
    assert score().code == 0


def test_mistakes_are_found_before_the_model_is_loaded(score: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("persona_interp.cli.arguments.load_model", lambda _args: pytest.fail("loaded"))
    ran = score("--ratios", -0.5)
    assert ran.code == 2
    assert "--ratios -0.5: perturbation ratios are above 0" in ran.err
    assert score("--method", "magic").code == 2
    ran = score("--scan", "scan.json")
    assert ran.code == 2
    assert "add --method sweep" in ran.err


def test_a_bench_already_measured_is_read_and_not_measured_again(run: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    from persona_interp.studies.layers import Choice, LayerBench, PlanResult

    methods = ("sweep", "likelihood", "gradient", "lens", "geometry", "fixed layer", "fixed depth")
    choices = tuple(Choice(name, 3, 60.0, 10.0, 0.96 if name == "likelihood" else 1.0, 0.5, 800, 0.04) for name in methods)
    bench = LayerBench("organism-qwen2", "silly", {3: 60.0, 4: 70.0}, choices, PlanResult((3, 4), 72.0, 90.0, 2.0, -3.0, 7.0))
    Path("layers").mkdir()
    Path("layers/organism-qwen2_silly_0.json").write_text(json.dumps(bench.to_json()))
    monkeypatch.setattr(SteerableModel, "generate", lambda *_args, **_options: pytest.fail("generated"))
    ran = run("validate-layers", "organism-qwen2", "--traits", "silly", "--output", "layers")
    assert ran.code == 0, ran.err
    assert "| qwen2 | silly | 4 | 70 | 3 | 3 | 0.96 | 4.0 % | 10 | 10 | 10 | 10 | 10 | 10 | 10 | +2 [-3, +7] |" in ran.out
    assert "the bar is met" in ran.out
    assert Path("layers/LAYERS.md").read_text() in ran.out
