"""`diagnose` as a command: files of each hypothesis, a page, and mistakes found early."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from persona_interp.models.registry import load_model
from persona_interp.studies.diagnoses import pairs_bench
from persona_interp.studies.diagnoses import twins_bench as bench
from persona_interp.studies.diagnoses.twins_bench import PlantedCase
from persona_interp.vectors.persona_vector import PersonaVector


def test_files_of_each_hypothesis_and_a_page_are_written(
    run: Callable, tiny_model_path: Callable[[str], Path], trait_file: Path, tmp_path: Path
) -> None:
    models = [tiny_model_path("qwen2"), tiny_model_path("gpt2")]
    vectors: list[Path] = []
    for folder in models:
        model = load_model(folder)
        directions = 20 * model.hf_model.get_input_embeddings().weight[: model.n_layers].detach()
        vector = PersonaVector(directions, tuple(range(model.n_layers)), "loud", model.identity)
        vectors.append(vector.save(tmp_path / f"{folder.name}.json"))
    anchors = tmp_path / "anchors.jsonl"
    lines = [{"text": f"The river number {n} is {'very ' * (n % 9)}bright. Bees like it."} for n in range(60)]
    anchors.write_text("\n".join(map(json.dumps, lines)))
    words = ("diagnose", "--source", models[0], "--target", models[1], "--trait", trait_file, "--anchors", anchors)
    short = ("--coefficients", -1, 1, "--num-prompts", 2, "--vectors", *vectors, "--max-new-tokens", 4, "--judge", "contrast")
    ran = run(*words, *short)
    assert ran.code == 0, ran.err
    assert "verdict: " in ran.out
    files = [Path(f"experiments/hypothesis_{letter}_tiny-qwen2_to_tiny-gpt2_loud.json") for letter in "abc"]
    data = [json.loads(path.read_text()) for path in files]
    assert [list(each["measurements"]) for each in data] == [["magnitude"], ["basis"], ["layers"]]
    assert all(set(each["conclusion"]) == set(each["measurements"]) for each in data)
    assert len(data[2]["behavioural_layer_scan"]) == load_model(models[1]).n_layers
    assert "Recovery by what is fixed" in Path("experiments/diagnosis_tiny-qwen2_to_tiny-gpt2_loud.html").read_text()
    one = run(*words, "--ratio", -0.3, 0.3, *short[3:], "--hypothesis", "a", "--output", "only")
    assert one.code == 0, one.err
    (result,) = [json.loads(path.read_text()) for path in Path("only").glob("*.json")]
    at_one = result["measurements"]["magnitude"]["source_perturbation_ratio"]
    assert [each * at_one for each in result["coefficients"]] == pytest.approx([-0.3, 0.3])
    assert sorted(path.suffix for path in Path("only").iterdir()) == [".html", ".json", ".run"]


def test_mistakes_are_found_before_a_model_is_loaded(run: Callable) -> None:
    words = ("diagnose", "--source", "organism-qwen2", "--target", "organism-gpt2", "--trait", "silly")
    assert "are all 0" in run(*words, "--coefficients", 0).err
    assert "name a folder" in run(*words, "--output", "one.json").err
    assert run(*words, "--hypothesis", "d").code == 2


def test_planted_cases_are_counted_and_written(run: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    made = [PlantedCase("m", "silly", {}, name, name, name, 0.1, 1.0, 1.0, "") for name in ("none", "basis")] * 4
    monkeypatch.setattr(bench, "bench", lambda n, **_: made[:n])
    ran = run("validate-diagnostics", "--cases", 8, "--output", "out.json")
    assert ran.code == 0, ran.err
    assert "the bar is met" in ran.out
    data = json.loads(Path("out.json").read_text())
    assert (data["exact_share"], len(data["cases"])) == (1, 8)
    assert {"planted", "verdict"} <= set(data["cases"][0])


def test_pairs_are_written_with_a_table(run: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, object]] = []
    monkeypatch.setattr(pairs_bench, "pairs_bench", lambda **options: asked.append(options) or [])
    ran = run("validate-diagnostics", "--pairs", "--samples", 2)
    assert ran.code == 0, ran.err
    assert asked == [{"folder": Path("diagnostics_pairs.run"), "num_prompts": None, "samples": 2}]
    assert json.loads(Path("diagnostics_pairs.json").read_text())["cases"] == []
    assert "| pair | trait |" in Path("diagnostics_pairs.md").read_text()
