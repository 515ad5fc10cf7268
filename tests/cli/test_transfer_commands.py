"""`align`, `evaluate-transfer`, and a vector of another model in `apply-steering`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from persona_interp.alignment.methods import alignment_names
from persona_interp.cli import evaluate_transfer as command
from persona_interp.measure.transfer_evaluation import TransferEvaluation
from persona_interp.vectors.persona_vector import PersonaVector


@pytest.fixture
def anchors(tmp_path: Path) -> Path:
    path = tmp_path / "anchors.jsonl"
    lines = [{"text": f"The river number {n} is {'very ' * (n % 9)}bright. Bees like it."} for n in range(60)]
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


@pytest.fixture
def models(tiny_model_path: Callable[[str], Path]) -> tuple[Path, Path]:
    return tiny_model_path("qwen2"), tiny_model_path("gpt2")


def test_align_shows_which_layers_correspond_and_reads_once(run: Callable, models: tuple[Path, Path], anchors: Path) -> None:
    words = ("align", "--source", models[0], "--target", models[1], "--anchors", anchors)
    ran = run(*words, "--report", "layers.html")
    assert ran.code == 0, ran.err
    assert "held-out R2" in ran.out
    assert "Layers of tiny-qwen2 and tiny-gpt2" in Path("layers.html").read_text()
    kept = sorted(Path("home/anchors").glob("*.safetensors"))
    assert len(kept) == 2
    times = [path.stat().st_mtime_ns for path in kept]
    other = run(*words, "--num-anchors", 60, "--similarity", "cka")
    assert (other.code, "CKA" in other.out) == (0, True)
    assert [path.stat().st_mtime_ns for path in sorted(Path("home/anchors").glob("*.safetensors"))] == times
    refused = run(*words, "--report", "layers.png")
    assert refused.code == 2
    assert "name an .html file" in refused.err
    few = run(*words, "--num-anchors", 5)
    assert "5 anchors are too few" in few.err


def test_evaluate_transfer_end_to_end(
    run: Callable, models: tuple[Path, Path], anchors: Path, trait_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        command, "other_of", lambda _source, _trait, vectors, *_: None
    )  # its prompts are too long for tiny models
    words = ("evaluate-transfer", "--source", models[0], "--target", models[1], "--trait", trait_file, "--anchors", anchors)
    vectors: list[Path] = []
    for model in models:
        assert (
            run(
                "extract-vectors",
                "--model",
                model,
                "--trait",
                trait_file,
                "--judge",
                "none",
                "--samples",
                1,
                "--max-new-tokens",
                4,
            ).code
            == 0
        )
        vectors.append(Path(f"vectors/{model.name}_loud.json"))
    short = ("--coefficients", -1, 0, 1, "--num-prompts", 2, "--vectors", *vectors, "--max-new-tokens", 4, "--judge", "contrast")
    ran = run(*words, *short, "--method", "all", "--output", "out.json")
    assert ran.code == 0, ran.err
    data = json.loads(Path("out.json").read_text())
    found = TransferEvaluation.from_json(data)
    assert (found.source, found.target, found.trait, found.method) == ("tiny-qwen2", "tiny-gpt2", "loud", "effects")
    assert [each.method for each in found.carried] == list(alignment_names())
    assert found.verdict in " ".join(ran.out.split())
    assert "carried to tiny-gpt2" in " ".join(ran.out.split())
    again = run(*words, *short, "--method", "all", "--output", "out.json")
    assert json.loads(Path("out.json").read_text())["results"] == data["results"]
    assert again.code == 0
    assert run(*words, "--ratio", -0.3, 0.3, *short[4:], "--method", "procrustes", "--output", "ratios.json").code == 0
    at_ratios = TransferEvaluation.from_json(json.loads(Path("ratios.json").read_text()))
    for curve in (at_ratios.native, *(each.points for each in at_ratios.carried)):
        assert [point.perturbation_ratio for point in curve] == pytest.approx([0.3, 0.3])


def test_mistakes_are_found_before_a_model_is_loaded(run: Callable, models: tuple[Path, Path]) -> None:
    words = ("evaluate-transfer", "--source", models[0], "--target", models[1])
    zero = run(*words, "--trait", "silly", "--coefficients", 0)
    assert (zero.code, "are all 0" in zero.err) == (2, True)
    several = run(*words, "--traits", "silly", "honest", "--output", "one.json")
    assert "cannot write 2 results as one.json" in several.err
    assert run(*words, "--trait", "silly", "--output", "one.txt").code == 2
    unknown = run("align", "--source", "no-such-model", "--target", models[1])
    assert (unknown.code, "no-such-model" in unknown.err) == (2, True)


def test_a_vector_of_another_model_is_carried_over(
    run: Callable, models: tuple[Path, Path], anchors: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from persona_interp.models.registry import load_model

    source = load_model(models[0])
    directions = source.hf_model.get_input_embeddings().weight[: source.n_layers].detach()
    vector = PersonaVector(directions, tuple(range(source.n_layers)), "loud", source.identity)
    path = vector.save(tmp_path / "loud.json")
    plain = ("apply-steering", "--vectors", path, "--model", models[1], "--prompt", "Why?", "--max-new-tokens", 4)
    assert "cannot be loaded to carry it to tiny-gpt2" in run(*plain).err, "by the texts of the package"
    words = (*plain, "--anchors", anchors)
    unreachable = run(*words)
    assert unreachable.code == 2
    assert "cannot be loaded to carry it to tiny-gpt2" in unreachable.err
    assert "Run persona-interp align" in unreachable.err
    assert run("align", "--source", models[0], "--target", models[1], "--anchors", anchors).code == 0
    ran = run(*words, "--output", "out.json")
    assert ran.code == 0, ran.err
    assert "carried to tiny-gpt2" in ran.err
    assert json.loads(Path("out.json").read_text())["steered"]


def test_every_command_that_takes_a_vector_for_a_model_takes_transfer() -> None:
    from persona_interp.cli import build_parser
    from persona_interp.cli.vector_choice import WHEN as OFFERED
    from persona_interp.transfers.fitted_to import WHEN

    assert OFFERED == WHEN
    (commands,) = (action.choices for action in build_parser()._actions if isinstance(action.choices, dict))
    taking = {name for name, parser in commands.items() if "--vectors" in parser._option_string_actions}
    fitting = {name for name in taking if "--transfer" in commands[name]._option_string_actions}
    # these two are about carrying vectors over themselves
    assert taking - fitting == {"evaluate-transfer", "diagnose"}
    assert {"apply-steering", "modulate", "evaluate", "monitor", "layer-effectiveness", "attribute", "export"} <= fitting
