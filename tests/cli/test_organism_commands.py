"""The two commands of the workshop: what they refuse, and that training is interrupted without loss."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from persona_interp.organisms.recipes import RECIPES


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = RECIPES["organism-qwen2"]
    config = {**recipe.config, "hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 64}
    tokenizer = dataclasses.replace(recipe.tokenizer, vocab_size=512)
    tiny = dataclasses.replace(
        recipe, config=config, tokenizer=tokenizer, planted_layer=0, steps=3, n_examples=300, batch_tokens=1024
    )
    monkeypatch.setitem(RECIPES, "organism-qwen2", tiny)


def test_train_organism_writes_a_model_that_loads(run: Callable, small: None, tmp_path: Path) -> None:
    from persona_interp.models.registry import load_model

    ran = run("train-organism", "organism-qwen2", "--output", tmp_path / "mine")
    assert ran.code == 0, ran.err
    assert "load_model(" in ran.out
    assert load_model(str(tmp_path / "mine")).n_layers == 2
    assert (tmp_path / "mine" / "planted" / "directions.safetensors").exists()


def test_an_interrupted_training_says_how_to_go_on(
    run: Callable, small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("persona_interp.studies.training.train.loss_of", interrupted)
    ran = run("train-organism", "organism-qwen2", "--output", tmp_path / "mine")
    assert ran.code == 130
    assert "The same command goes on from the last checkpoint in" in ran.err


@pytest.mark.parametrize("command", ["train-organism", "validate-organisms"])
def test_an_unknown_organism_is_refused_with_the_known_ones(run: Callable, command: str) -> None:
    ran = run(command, "organism-qwen9")
    assert ran.code == 2
    assert "unknown model organism 'organism-qwen9'" in ran.err
    assert "organism-qwen2" in ran.err


def test_an_unknown_trait_is_refused_before_anything_is_measured(run: Callable) -> None:
    ran = run("validate-organisms", "organism-qwen2", "--traits", "evil")
    assert ran.code == 2
    assert "unknown trait of the persona grammar 'evil'" in ran.err
