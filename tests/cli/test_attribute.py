"""`attribute`: tables of what writes and what it says, files, the check, and refusals before a model is loaded."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from persona_interp.attribution.ablation import AblatedModel
from persona_interp.attribution.attribution import Attribution
from persona_interp.attribution.check import AblationCheck
from persona_interp.attribution.vector_lens import VectorLens
from persona_interp.storage import read_json
from persona_interp.vectors.persona_vector import PersonaVector

BRIEF = ("--max-new-tokens", 5, "--judge", "contrast")


@pytest.fixture
def attribute(run: Callable, tiny_model_path: Callable[[str], Path], trait_file: Path) -> Callable:
    """The command on a vector made from ten pairs."""
    model = tiny_model_path("qwen2")
    base = ("--model", model, "--trait", trait_file, "--samples", 1, "--max-new-tokens", 5, "--judge", "none")
    assert run("extract-vectors", *base, "--output", "v.json", "--layer-scores", "none").code == 0

    def call(*words: object):
        return run("attribute", "--model", model, "--vectors", "v.json", "--trait", trait_file, *BRIEF, *words)

    return call


def test_what_writes_and_what_it_says_is_shown_and_written(attribute: Callable) -> None:
    ran = attribute("--layer", 2, "--top", 3, "--output", "a.json", "--report", "a.html")
    assert ran.code == 0, ran.err
    assert "answers: those the vector was made from, in v.run" in ran.err
    assert "what writes loud into layer 2 of tiny-qwen2" in ran.out
    assert "the vector at layer 2 read as tokens" in ran.out
    assert "--check ablates it" in ran.out
    data = read_json(Path("a.json"), "attribution")
    found = Attribution.from_json(data["attribution"])
    assert (found.layer, found.n_questions, data["check"]) == (2, 2, None)
    assert found.n_pairs >= 8
    assert f"{found.n_pairs} pairs of answers to 2 questions" in ran.out
    for each in found.top(3):
        assert each.component.name in ran.out
    assert [each.layer for each in VectorLens.from_json(data["lens"]).layers] == [0, 1, 2, 3]
    assert "plotly" in Path("a.html").read_text(encoding="utf-8")
    assert "Traceback" not in ran.err


def test_the_check_shows_its_controls_and_goes_on_where_it_stopped(attribute: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("--layer", 1, "--top", 2, "--check", "--random", 2, "--num-prompts", 2)
    ran = attribute(*words)
    assert ran.code == 0, ran.err
    for arm in ("nothing ablated", "top", "placebo", "random 1", "random 2", "asked against"):
        assert arm in ran.out
    check = AblationCheck.from_json(read_json(Path("attributions/tiny-qwen2_loud.json"), "attribution")["check"])
    assert check.reason()[:40] in " ".join(ran.out.split())
    monkeypatch.setattr(AblatedModel, "generate", lambda *_args, **_options: pytest.fail("answered again"))
    again = attribute(*words)
    assert again.code == 0, again.err
    assert again.out == ran.out


def test_without_the_folder_of_the_extraction_new_answers_are_made(attribute: Callable) -> None:
    Path("v.run").rename("elsewhere")
    ran = attribute("--layer", 1)
    assert ran.code == 2
    assert "tiny-qwen2 answers for 'loud' anew; answers of the extraction can be named with --rollouts" in ran.err
    assert "pairs (20 rollouts) were kept by judge" in ran.err
    assert attribute("--layer", 1, "--rollouts", "elsewhere").code == 0


def test_a_folder_of_another_extraction_is_not_used_unless_asked_for_and_then_refused(attribute: Callable) -> None:
    lines = Path("v.run/rollouts.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    others = [line for line in lines if json.loads(line)["instruction"] != 0]
    Path("v.run/rollouts.jsonl").write_text("".join(others), encoding="utf-8")
    made_from = PersonaVector.load("v.json").counts["kept_pairs"]
    left = sum(json.loads(line)["instruction"] != 0 for line in lines) // 2
    said = attribute("--layer", 1).err
    found = re.search(r"note: v.run is not used: v.run keeps (\d+) pairs, the vector was made from (\d+)", said)
    assert found is not None, said
    kept = int(found[1])
    assert (int(found[2]), kept <= left, kept < made_from) == (made_from, True, True)
    ran = attribute("--layer", 1, "--rollouts", "v.run")
    assert (ran.code, f"keeps {kept} pairs" in ran.err) == (2, True)


def test_mistakes_are_found_before_the_model_is_loaded(attribute: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("persona_interp.cli.arguments.load_model", lambda _args: pytest.fail("loaded"))
    Path("some.gguf").write_bytes(b"GGUF")
    for words, said in (
        (("--layer", "1,2"), "--layer names 2 layers: this command reads one"),
        (("--layer", 9), "has no layer 9"),
        (("--output", "a.txt"), "cannot write an attribution as a.txt: name a .json file"),
        (("--remote",), "--remote: heads and MLPs of"),
        (("--model", "some.gguf"), "some.gguf is a GGUF file, whose heads llama.cpp does not show"),
        (("--vectors", "none.json"), "does not exist"),
        (("--top", 0), "must be at least 1"),
        (("--ablate", "bias"), "invalid choice"),
    ):
        ran = attribute(*words)
        assert (ran.code, said in ran.err) == (2, True), ran.err
