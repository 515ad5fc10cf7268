"""A dose as a share of the residual stream, wherever a command takes a coefficient."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from persona_interp.cli import build_parser
from persona_interp.vectors.persona_vector import PersonaVector

STEERING = ("apply-steering", "modulate", "evaluate", "evaluate-transfer", "diagnose", "export", "finetune")


@pytest.fixture
def known(vector_file: Path) -> PersonaVector:
    """The vector in the file, with the residual norms that give ratios a meaning."""
    vector = PersonaVector.load(vector_file)
    vector = replace(vector, statistics={"resid_norm": tuple(4.0 * norm for norm in vector.norms.tolist())})
    vector.save(vector_file)
    return vector


@pytest.mark.parametrize("name", STEERING)
def test_it_is_given_in_place_of_a_coefficient(run: Callable, name: str) -> None:
    ran = run(name, "--coefficient", 1, "--ratio", 0.4)
    assert ran.code == 2
    assert "argument --ratio" in ran.err
    assert "not allowed with argument --coefficient" in ran.err
    (commands,) = [each for each in build_parser()._actions if each.__class__.__name__ == "_SubParsersAction"]
    taken = [child for child, parser in commands.choices.items() if {"--coefficient"} & set(parser._option_string_actions)]
    assert set(taken) == set(STEERING), "a command that takes a coefficient takes a ratio"


def test_an_export_carries_the_coefficient_it_means(run: Callable, vector_file: Path, known: PersonaVector) -> None:
    ran = run("export", "--vectors", vector_file, "--to", "gguf", "--output", "c.gguf", "--layer", 1, "--ratio", -0.5)
    assert ran.code == 0, ran.err
    assert "c.gguf:-2 " in ran.out


def test_an_evaluation_is_at_the_ratios_named(
    run: Callable, tiny_model_path: Callable[[str], Path], vector_file: Path, trait_file: Path, known: PersonaVector
) -> None:
    words = ("evaluate", "--model", tiny_model_path("qwen2"), "--vectors", vector_file, "--trait", trait_file, "--judge")
    short = ("contrast", "--max-new-tokens", 4, "--random", 1, "--num-prompts", 1, "--output", "out.json")
    short = (*short, "--other", replace(known, trait="quiet", directions=known.directions.flip(1)).save(Path("quiet.json")))
    ran = run(*words, *short, "--layer", 1, "--ratio", -0.25, 0.5)
    assert ran.code == 0, ran.err
    found = [(each["coefficient"], each["perturbation_ratio"]) for each in json.loads(Path("out.json").read_text())["results"]]
    assert found == [(-1.0, 0.25), (2.0, 0.5)]
    several = run(*words, *short, "--layer", "0,1", "--ratio", 0.5)
    assert (several.code, "ratios were given for 2 layers" in several.err) == (2, True)
    nothing = run(*words, *short, "--ratio", 0)
    assert (nothing.code, "--ratio are all 0" in nothing.err) == (2, True)
