"""Hypothesis B: the direction is in another basis, tested on twins. As a script, the diagnosis of two models:

python tests/test_hypothesis_b_basis_mismatch.py --source organism-qwen2 --target organism-llama --trait silly
"""

from __future__ import annotations

import sys

import pytest

from persona_interp.models.registry import load_model
from persona_interp.organisms.twins import TwinRecipe
from persona_interp.studies.diagnoses.planted import twin_diagnosis


def test_a_turned_stream_is_called_basis_and_the_map_alone_repairs_it() -> None:
    found = twin_diagnosis(load_model("organism-llama"), "silly", TwinRecipe(rotation_seed=9), num_prompts=10)
    assert found.verdict.name == "basis"
    assert (found.recoveries[frozenset({"basis"})].value or 0) >= 0.95
    assert found.attribution is not None
    assert max(found.attribution, key=lambda cause: found.attribution[cause]) == "basis"
    measured = found.measurements["basis"]
    assert abs(measured["cosine_to_native_before"]) < 0.5
    assert measured["cosine_to_native_after"] > 0.999
    assert measured["held_out_r2"]["rotation"] > 0.999 > measured["held_out_r2"]["identity"]
    assert max(measured["principal_angles_degrees"]["after"]) < 1 < max(measured["principal_angles_degrees"]["before"])
    assert found.measurements["magnitude"]["norm_ratio"] == pytest.approx(1, rel=0.01)
    assert found.measurements["layers"]["shift"] == 0


if __name__ == "__main__":
    from persona_interp.cli import main

    sys.exit(main(["diagnose", "--hypothesis", "b", *sys.argv[1:]]))
