"""Hypothesis C: the vector enters the wrong layer, tested on twins. As a script, the diagnosis of two models:

python tests/test_hypothesis_c_layer_correspondence.py --source organism-qwen2 --target organism-llama --trait silly
"""

from __future__ import annotations

import sys

from persona_interp.models.registry import load_model
from persona_interp.organisms.twins import TwinRecipe
from persona_interp.studies.diagnoses.planted import twin_diagnosis


def test_inserted_blocks_are_called_layers_and_the_layer_alone_repairs_it() -> None:
    found = twin_diagnosis(load_model("organism-llama"), "silly", TwinRecipe(inserted=(0, 0, 0)), num_prompts=10, scan=True)
    assert found.verdict.name == "layers"
    assert (found.recoveries[frozenset({"layers"})].value or 0) >= 0.95
    assert found.attribution is not None
    assert max(found.attribution, key=lambda cause: found.attribution[cause]) == "layers"
    measured = found.measurements["layers"]
    assert (measured["same_index"], measured["matched_layer"], measured["shift"]) == (2, 5, 3)
    assert measured["layer_path"] == [3, 4, 5, 6, 7, 8]
    assert len(found.scanned) == 9
    assert (found.scanned[5].value or 0) >= 0.95
    assert found.measurements["basis"]["cosine_to_native_after"] > 0.999


def test_blocks_behind_the_steered_one_do_no_harm_and_are_not_blamed() -> None:
    found = twin_diagnosis(load_model("organism-llama"), "silly", TwinRecipe(inserted=(3, 5)), num_prompts=10)
    assert found.verdict.name == "none"
    measured = found.measurements["layers"]
    assert (measured["shift"], measured["ties"]) == (0, [2, 3])
    assert measured["similarity"][2][2] == measured["similarity"][2][3]


if __name__ == "__main__":
    from persona_interp.cli import main

    sys.exit(main(["diagnose", "--hypothesis", "c", *sys.argv[1:]]))
