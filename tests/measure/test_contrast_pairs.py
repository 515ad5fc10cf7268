"""Contrast pairs and scored vectors: any 64-bit seed, and kept work found again only where nothing it rests on changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from persona_interp.measure.contrast_pairs import contrast_pairs, kept_pairs
from persona_interp.measure.scored_vector import kept_file
from persona_interp.models.sampling import Sampling, fitting_seed
from persona_interp.models.steerable import SteerableModel
from persona_interp.organisms.trait_texts import organism_trait
from persona_interp.traits.judging import Judgement
from persona_interp.traits.trait import Trait

SAMPLING = Sampling(max_new_tokens=6)
TRAIT = organism_trait("silly")
TinyModel = Callable[[str], SteerableModel]


@pytest.mark.parametrize("seed", [18_446_689_000_000, 2**63 - 1, 2**64 - 1, -(2**63)])
def test_every_64_bit_seed_makes_pairs(tiny_model: TinyModel, seed: int) -> None:
    model = tiny_model("llama")
    made = contrast_pairs(model, TRAIT, n_pairs=3, sampling=SAMPLING, seed=seed)
    assert made == contrast_pairs(model, TRAIT, n_pairs=3, sampling=SAMPLING, seed=seed)
    assert made != contrast_pairs(model, TRAIT, n_pairs=3, sampling=SAMPLING, seed=seed - 1 if seed > 0 else seed + 1)


def test_a_seed_that_fits_is_taken_as_it_is_and_a_larger_one_is_told_from_its_neighbours() -> None:
    for number in (0, 7, -1, 2**64 - 1, -(2**63)):
        assert fitting_seed(number) == number
    beyond = [fitting_seed(2**64 + step) for step in range(100)]
    assert len(set(beyond)) == 100
    assert all(0 <= number < 2**63 for number in beyond)
    assert fitting_seed(2**64) == beyond[0]


class Rubric:
    """A judge whose scores depend on more than its name."""

    name = "rubric"

    def __init__(self, strictness: int) -> None:
        self.strictness = strictness

    def judge(self, trait: Trait, exchanges: Sequence[tuple[str, str]]) -> list[Judgement]:
        return [Judgement(50.0, 50.0) for _ in exchanges]

    def determinants(self, trait: Trait) -> list[int]:
        return [self.strictness]


def test_a_kept_vector_is_another_for_another_dtype_or_setting_of_the_judge(
    tiny_model: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model("llama")
    path = kept_file(model, TRAIT, tmp_path, judge=Rubric(1))
    assert path == kept_file(model, TRAIT, tmp_path, judge=Rubric(1))
    assert path != kept_file(model, TRAIT, tmp_path, judge=Rubric(2))
    monkeypatch.setattr(SteerableModel, "dtype", torch.bfloat16)
    assert path != kept_file(model, TRAIT, tmp_path, judge=Rubric(1))


def test_kept_pairs_are_made_again_for_another_dtype(
    tiny_model: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model("llama")
    kept_pairs(tmp_path / "pairs.json", model, TRAIT, n_pairs=3, sampling=SAMPLING)
    written = (tmp_path / "pairs.json").read_text()
    kept_pairs(tmp_path / "pairs.json", model, TRAIT, n_pairs=3, sampling=SAMPLING)
    assert (tmp_path / "pairs.json").read_text() == written
    monkeypatch.setattr(SteerableModel, "dtype", torch.bfloat16)
    kept_pairs(tmp_path / "pairs.json", model, TRAIT, n_pairs=3, sampling=SAMPLING)
    assert (tmp_path / "pairs.json").read_text() != written
