"""Modes and placebos on one GGUF model: all there, on the same questions, kept, and told apart by what they move."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from persona_interp.blackbox.entropy import plain_temperature, sampling_entropy
from persona_interp.blackbox.parameters import ParameterModulator
from persona_interp.measure.modulation import Modulated
from persona_interp.measure.statistics import Estimate
from persona_interp.models.registry import load_model
from persona_interp.models.sampling import Sampling
from persona_interp.studies.reproduction.modulation_bench import (
    HEADINGS,
    modulation_case,
    modulation_markdown,
    modulation_rows,
    modulation_summary,
    works,
)
from persona_interp.vectors.persona_vector import PersonaVector

SHORT = Sampling(max_new_tokens=12)


def a_vector(trait: str, seed: int) -> PersonaVector:
    model = load_model("organism-gpt2")
    directions = torch.randn(model.n_layers, model.d_model, generator=torch.Generator().manual_seed(seed))
    return PersonaVector(
        directions=directions,
        layers=tuple(range(model.n_layers)),
        trait=trait,
        model=model.identity,
        positions="response_avg",
        estimator="mean_difference",
        statistics={"resid_norm": (30.0,) * model.n_layers, "effectiveness": (4.0, 1.0, 3.0, 2.0)},
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("modulation")


@pytest.fixture(scope="module")
def found(folder: Path) -> tuple[Modulated, ...]:
    return run(folder)


def run(folder: Path) -> tuple[Modulated, ...]:
    vectors = a_vector("silly", 0), a_vector("honest", 1)
    return modulation_case("organism-gpt2", "silly", *vectors, folder, num_prompts=2, sampling=SHORT)


def test_every_mode_stands_beside_its_placebos(found: tuple[Modulated, ...]) -> None:
    assert {each.mode: each.placebo for each in found} == {
        "control vector": False,
        "prompt only": False,
        "logit bias": False,
        "logit bias, shuffled vector": True,
        "logit bias, other trait": True,
        "parameters at ±2": False,
        "parameters at ±20": False,
        "parameters at ±20, shuffled vector": True,
        "parameters at ±20, other trait": True,
        "temperature at equal entropy": True,
    }
    assert len({each.base for each in found}) == 1, "all are compared with the same answers"
    for each in found:
        if each.low is not None and each.high is not None:
            assert each.movement.value == pytest.approx(each.high - each.low)


def test_answers_are_kept_and_nothing_is_made_twice(found: tuple[Modulated, ...], folder: Path) -> None:
    kept = sorted((path, path.stat().st_size) for path in folder.rglob("*.jsonl"))
    assert run(folder) == found
    assert sorted((path, path.stat().st_size) for path in folder.rglob("*.jsonl")) == kept


def test_a_result_survives_being_written(found: tuple[Modulated, ...]) -> None:
    assert tuple(Modulated.from_json(each.to_json()) for each in found) == found


def test_a_mode_works_only_above_every_placebo(found: tuple[Modulated, ...]) -> None:
    def shared(mode: str, low: float, placebo: float) -> bool:
        cases = [replace(each, share=Estimate(placebo, placebo, placebo, 2)) if each.placebo else each for each in found]
        mine = replace(next(each for each in found if each.mode == mode), share=Estimate(low + 0.1, low, low + 0.2, 2))
        return works(mine, [*(each for each in cases if each.mode != mode), mine])

    assert shared("logit bias", 0.5, 0.2)
    assert not shared("logit bias", 0.5, -0.6), "a placebo that moves it the other way counts as well"
    assert not shared("logit bias", 0.05, 0.0)
    assert "logit bias: works in" in modulation_summary(found)
    assert all(len(row) == len(HEADINGS) for row in modulation_rows(found))
    assert modulation_markdown(found).count("(placebo)") == 5


# -- entropy ---------------------------------------------------------------------------------------------------------


def test_entropy_is_that_of_the_tempered_distribution() -> None:
    even = torch.full((3, 8), -math.log(8))
    assert sampling_entropy(even, Sampling()) == pytest.approx(math.log(8))
    assert sampling_entropy(even, Sampling(top_p=0.5)) == pytest.approx(math.log(4))
    uneven = torch.randn(50, 30, generator=torch.Generator().manual_seed(0)).log_softmax(-1)
    cold, warm = (sampling_entropy(uneven, Sampling(temperature=value)) for value in (0.5, 1.5))
    assert cold < sampling_entropy(uneven, Sampling()) < warm


def test_the_plain_temperature_has_the_same_entropy() -> None:
    log_probs = (2 * torch.randn(50, 30, generator=torch.Generator().manual_seed(0))).log_softmax(-1)
    sampling = ParameterModulator(magnitude=1.0, polarity=-0.5).sampling(4.0)
    temperature = plain_temperature(log_probs, sampling)
    assert temperature != pytest.approx(sampling.temperature, abs=0.01)
    equal = sampling_entropy(log_probs, Sampling(temperature=temperature))
    assert equal == pytest.approx(sampling_entropy(log_probs, sampling), rel=1e-6)
