"""Hypothesis A: the direction is right and its length wrong, tested on twins. As a script, the diagnosis of two models:

python tests/test_hypothesis_a_magnitude_mismatch.py --source organism-qwen2 --target organism-llama --trait silly
"""

from __future__ import annotations

import sys

import pytest

from persona_interp.models.registry import load_model
from persona_interp.organisms.twins import TwinRecipe
from persona_interp.studies.diagnoses.planted import twin_diagnosis


@pytest.mark.parametrize("scale", [12.0, 1 / 12])
def test_a_stream_of_another_size_is_called_magnitude_and_the_length_alone_repairs_it(scale: float) -> None:
    found = twin_diagnosis(load_model("organism-llama"), "silly", TwinRecipe(scale=scale), num_prompts=10)
    assert found.verdict.name == "magnitude"
    assert (found.recoveries[frozenset({"magnitude"})].value or 0) >= 0.95
    assert found.attribution is not None
    assert max(found.attribution, key=lambda cause: found.attribution[cause]) == "magnitude"
    measured = found.measurements["magnitude"]
    assert measured["norm_ratio"] == pytest.approx(scale, rel=0.01)
    assert measured["native_perturbation_ratio"] == pytest.approx(measured["source_perturbation_ratio"], rel=0.01)
    assert found.measurements["basis"]["cosine_to_native_before"] > 0.999
    assert found.measurements["layers"]["shift"] == 0


def test_a_slightly_larger_stream_does_no_harm_and_is_not_blamed() -> None:
    found = twin_diagnosis(load_model("organism-llama"), "silly", TwinRecipe(scale=1.2), num_prompts=10)
    assert found.verdict.name == "none"
    assert found.measurements["magnitude"]["norm_ratio"] == pytest.approx(1.2, rel=0.01)


if __name__ == "__main__":
    from persona_interp.cli import main

    sys.exit(main(["diagnose", "--hypothesis", "a", *sys.argv[1:]]))
