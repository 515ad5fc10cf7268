"""Vector files: exact round trips, other people's files, and files that are damaged."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from persona_interp.errors import FileFormatError, IncompatibleError, InvalidInputError, PersonaInterpError, UnknownNameError
from persona_interp.models.identity import ModelIdentity
from persona_interp.vectors.formats import register_format
from persona_interp.vectors.formats.pt import PtFormat
from persona_interp.vectors.massive import MassiveDimension
from persona_interp.vectors.persona_vector import PersonaVector

MODEL = ModelIdentity("org/Model-A", "abc", "f" * 64, n_layers=4, d_model=6)


def make(layers: tuple[int, ...] = (0, 1, 2, 3)) -> PersonaVector:
    """Values over the whole range of float32, denormals among them."""
    generator = torch.Generator().manual_seed(0)
    exponents = torch.randint(-40, 30, (len(layers), 6), generator=generator)
    directions = torch.randn(len(layers), 6, generator=generator) * 10.0**exponents
    return PersonaVector(
        directions,
        layers,
        "silly",
        MODEL,
        positions="response_avg",
        estimator="pca",
        counts={"rollouts": 8, "dropped": {"coherence below 50": 2}},
        statistics={"auroc": (None, *(0.1 + 0.2,) * (len(layers) - 1)), "resid_norm": (3.0,) * len(layers)},
        massive=(MassiveDimension(layers[-1], 4, 900.0, 210.5, 0.3),),
        provenance={"created": "2026-01-01", "seconds": 1.5, "settings": {"seed": 3}},
        responses={"positive": [{"question": "Hé?", "response": "\u2028ok"}], "negative": []},
    )


def same(a: PersonaVector, b: PersonaVector) -> bool:
    names = ("layers", "trait", "model", "positions", "estimator", "counts", "statistics", "massive", "provenance", "responses")
    bits = torch.equal(a.directions.view(torch.int32), b.directions.view(torch.int32))
    return bits and all(getattr(a, name) == getattr(b, name) for name in names)


@pytest.mark.parametrize("suffix", [".json", ".safetensors"])
@pytest.mark.parametrize("layers", [(0, 1, 2, 3), (1, 3)])
def test_what_is_saved_is_what_is_loaded_to_the_bit(tmp_path: Path, suffix: str, layers: tuple[int, ...]) -> None:
    vector = make(layers)
    path = vector.save(tmp_path / "deep" / f"v{suffix}")
    assert same(PersonaVector.load(path), vector)
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_json_has_the_fields_other_programs_read(tmp_path: Path) -> None:
    value = json.loads(make((1, 3)).save(tmp_path / "v.json").read_text())
    assert value["model_id"] == "org/Model-A"
    assert value["trait_id"] == "silly"
    assert (value["generated_at"], value["generation_time"]) == ("2026-01-01", 1.5)
    assert list(value["vectors"]) == ["layer_1", "layer_3"]
    assert len(value["vectors"]["layer_1"]) == 6
    assert value["effectiveness_scores"] == {}
    assert value["metadata"]["num_layers_processed"] == 2
    assert set(value["responses"]) == {"positive", "negative"}
    assert value["statistics"]["norm"] == pytest.approx(make((1, 3)).norms)


def foreign() -> dict[str, Any]:
    """A file in the schema others publish, with nothing of ours in it."""
    return {
        "model_id": "model-a",
        "trait_id": "silly",
        "generated_at": "2025-10-02T15:09:45",
        "generation_time": 1945.1,
        "vectors": {f"layer_{layer}": [layer + 0.25, -1, 1e-3] for layer in range(11)},
        "effectiveness_scores": {f"layer_{layer}": 0.3 + layer / 100 for layer in range(11)},
        "metadata": {"num_prompt_pairs": 5},
        "responses": {
            "positive": [{"question": "q", "prompt_pair_idx": 0, "response": "r", "elapsed_time": 1.0}],
            "negative": [],
        },
    }


def write(path: Path, value: object) -> Path:
    path.write_text(json.dumps(value))
    return path


def test_a_file_of_other_programs_loads_and_survives_being_saved(tmp_path: Path) -> None:
    vector = PersonaVector.load(write(tmp_path / "v.json", foreign()))
    assert vector.layers == tuple(range(11))  # in numerical order, not that of the text
    assert vector.at(10).tolist() == pytest.approx([10.25, -1, 1e-3])
    assert (vector.model.name, vector.model.fingerprint, vector.model.d_model) == ("model-a", "", 3)
    assert (vector.positions, vector.estimator) == ("unknown", "unknown")
    assert vector.listed("effectiveness")[4] == pytest.approx(0.34)
    assert vector.responses["positive"][0]["elapsed_time"] == 1.0
    again = PersonaVector.load(vector.save(tmp_path / "again.json"))
    assert same(again, vector)
    saved = json.loads((tmp_path / "again.json").read_text())
    assert all(
        saved[name] == foreign()[name] for name in ("generated_at", "generation_time", "effectiveness_scores", "responses")
    )
    assert saved["metadata"].items() >= foreign()["metadata"].items()


def test_a_file_may_cover_some_layers_only(tmp_path: Path) -> None:
    value = foreign()
    del value["vectors"]["layer_3"], value["effectiveness_scores"]
    vector = PersonaVector.load(write(tmp_path / "v.json", value))
    assert 3 not in vector.layers
    assert "effectiveness" not in vector.statistics


def _without(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda value: value.pop(name)


def _with(row: object, layer: str = "layer_2") -> Callable[[dict[str, Any]], None]:
    return lambda value: value["vectors"].update({layer: row})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_without("vectors"), "no field 'vectors'"),
        (_without("trait_id"), "no field 'trait_id'"),
        (_with([1.0, math.nan, math.inf]), "layer 2: 2"),
        (_with([1.0, 2.0]), "unequal or no width.*layer 2: 2"),
        (_with([1.0, "2.0", 3.0]), "layer_2 holds 1 entries that are no numbers.*'2.0'"),
        (_with([1.0, None, 3.0]), "layer_2 holds 1 entries"),
        (_with({"a": 1}), "layer_2 holds no list"),
        (_with([1.0, 2.0, 3.0], "Layer-3"), "key 'Layer-3'"),
        (_with([1.0, 1e39, 3.0]), "layer 2: 1"),
        (_with([1.0, 10**400, 3.0]), "integer too large"),
        (lambda value: value.update(vectors={}), "at least one 'layer_0'"),
        (lambda value: value.update(vectors=[1]), "must be an object"),
        (lambda value: value.update(responses=[1]), "'responses' is a list"),
        (lambda value: value.update(effectiveness_scores={"layer_0": "good"}), "'effectiveness_scores' holds 'good'"),
        (lambda value: value.update(format_version=99), "layers None|format version 99"),
    ],
)
def test_a_damaged_file_is_refused_with_its_name_and_the_place(
    tmp_path: Path, damage: Callable[[dict[str, Any]], None], message: str
) -> None:
    value = foreign()
    damage(value)
    with pytest.raises(FileFormatError, match=message) as caught:
        PersonaVector.load(write(tmp_path / "broken.json", value))
    assert "broken.json" in str(caught.value)


@pytest.mark.parametrize("name", ["model", "layers", "positions", "statistics", "counts", "massive", "provenance"])
def test_a_hand_edited_file_of_ours_is_refused(tmp_path: Path, name: str) -> None:
    value = json.loads(make().save(tmp_path / "v.json").read_text())
    for wrong in ({**value, name: 7}, {key: entry for key, entry in value.items() if key != name}):
        with pytest.raises(FileFormatError, match=r"v\.json"):
            PersonaVector.load(write(tmp_path / "v.json", wrong))


def test_a_newer_format_version_asks_for_an_update(tmp_path: Path) -> None:
    value = json.loads(make().save(tmp_path / "v.json").read_text()) | {"format_version": 2}
    with pytest.raises(FileFormatError, match=r"format version 2.*reads 1.*update"):
        PersonaVector.load(write(tmp_path / "v.json", value))


def test_a_file_that_contradicts_itself_is_refused(tmp_path: Path) -> None:
    value = json.loads(make().save(tmp_path / "v.json").read_text())
    value["model"]["d_model"] = 7
    with pytest.raises(FileFormatError, match=r"contradicts itself.*width 6.*width 7"):
        PersonaVector.load(write(tmp_path / "v.json", value))


@pytest.mark.parametrize("wrong", [math.nan, math.inf, "0.5", True])
def test_a_statistic_that_is_no_number_is_refused(tmp_path: Path, wrong: object) -> None:
    value = json.loads(make().save(tmp_path / "v.json").read_text())
    value["statistics"]["auroc"][1] = wrong
    with pytest.raises(FileFormatError, match=r"statistic 'auroc' holds .*expected finite numbers.*restore it or extract"):
        PersonaVector.load(write(tmp_path / "v.json", value))


def test_a_file_that_names_two_models_is_refused(tmp_path: Path) -> None:
    value = json.loads(make().save(tmp_path / "v.json").read_text()) | {"model_id": "org/Model-B"}
    with pytest.raises(FileFormatError, match="'org/Model-B' and also 'org/Model-A'"):
        PersonaVector.load(write(tmp_path / "v.json", value))


def test_a_folder_is_not_taken_for_a_format(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match=r"is a folder: give a file, \.json, \.safetensors, \.pt"):
        PersonaVector.load(tmp_path)


def test_a_safetensors_header_of_brackets_is_damaged(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"directions": torch.ones(2, 3)}, str(tmp_path / "v.safetensors"), {"persona_interp": "[" * 100_000})
    with pytest.raises(FileFormatError, match="damaged header"):
        PersonaVector.load(tmp_path / "v.safetensors")


@pytest.mark.parametrize("suffix", [".json", ".safetensors", ".pt"])
@pytest.mark.parametrize("keep", [0, 10, 0.5, -1])
def test_a_truncated_file_is_refused(tmp_path: Path, suffix: str, keep: float) -> None:
    path = make().save(tmp_path / f"v{suffix}")
    data = path.read_bytes()
    # The last byte of a .json is a line break, without which it is still whole.
    cut = {0.5: len(data) // 2, -1: len(data) - 2}.get(keep, int(keep))
    path.write_bytes(data[:cut])
    with pytest.raises(FileFormatError, match=rf"v\{suffix}"):
        PersonaVector.load(path)


@pytest.mark.parametrize("suffix", [".json", ".safetensors", ".pt"])
def test_a_missing_file_is_said_to_be_missing(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(FileFormatError, match="does not exist"):
        PersonaVector.load(tmp_path / f"v{suffix}")


def test_an_unknown_suffix_lists_the_formats(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"\.npz.*\.json, \.pt, \.safetensors"):
        make().save(tmp_path / "v.npz")
    with pytest.raises(InvalidInputError, match="already registered"):
        register_format(PtFormat())


def test_a_safetensors_file_of_something_else_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"weights": torch.ones(2)}, str(tmp_path / "w.safetensors"))
    with pytest.raises(FileFormatError, match="not of a persona vector"):
        PersonaVector.load(tmp_path / "w.safetensors")


def test_saying_the_wrong_model_or_trait_is_an_error(tmp_path: Path) -> None:
    path = make().save(tmp_path / "v.json")
    assert PersonaVector.load(path, model="Model-A", trait="silly").model == MODEL
    with pytest.raises(IncompatibleError, match="org/Model-A, not other"):
        PersonaVector.load(path, model="other")
    with pytest.raises(IncompatibleError, match="'silly', not 'evil'"):
        PersonaVector.load(path, trait="evil")
    with pytest.raises(IncompatibleError, match="not org/Model-A"):
        PersonaVector.load(path, model=replace(MODEL, fingerprint="0" * 64))


# -- .pt ---------------------------------------------------------------------------------------------------------------


def test_row_i_plus_1_of_a_pt_tensor_is_block_i(tmp_path: Path) -> None:
    rows = torch.arange(15, dtype=torch.float32).reshape(5, 3)
    torch.save(rows, tmp_path / "silly_response_avg_diff.pt")
    vector = PersonaVector.load(tmp_path / "silly_response_avg_diff.pt", model="Model-A", trait="silly")
    assert vector.layers == (0, 1, 2), "the last row is taken after the final norm"
    assert torch.equal(vector.directions, rows[1:4])
    assert (vector.model.name, vector.model.n_layers, vector.trait) == ("Model-A", 4, "silly")
    assert PersonaVector.load(tmp_path / "silly_response_avg_diff.pt").trait == "unknown"


def test_the_last_row_of_the_original_code_is_left_out_and_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))
    torch.save(rows, tmp_path / "theirs.pt")
    vector = PersonaVector.load(tmp_path / "theirs.pt", model=MODEL)
    assert (vector.layers, vector.model) == ((0, 1, 2), MODEL)
    assert "layer 3" in str(vector.provenance["left_out"])
    assert "taken after the final norm" in capsys.readouterr().err
    rows[0] = 0.0  # as files of ours have it, whose last row is of the last block's output
    torch.save(rows, tmp_path / "ours.pt")
    assert PersonaVector.load(tmp_path / "ours.pt", model=MODEL).layers == (0, 1, 2, 3)
    assert capsys.readouterr().err == ""
    torch.save(torch.ones(2, 3), tmp_path / "short.pt")
    with pytest.raises(FileFormatError, match="the embeddings and the last hidden state only"):
        PersonaVector.load(tmp_path / "short.pt")


def test_a_file_of_ours_says_that_its_last_row_is_before_the_norm(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make().save(tmp_path / "v.pt")
    assert "the output of block 3 before the final norm" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", [".pt", ".json", ".safetensors"])
def test_a_pt_file_of_one_row_a_block_is_refused_by_its_model(tmp_path: Path, suffix: str) -> None:
    rows = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    rows[0] = 0.0
    for first in (rows, torch.randn(4, 6)):
        torch.save(first, tmp_path / "v.pt")
        vector = PersonaVector.load(PersonaVector.load(tmp_path / "v.pt", trait="silly").select([0, 1]).save(tmp_path / "w.json"))
        if suffix != ".pt":  # what was imported before is known by where it came from
            vector = PersonaVector.load(vector.save(tmp_path / f"x{suffix}"))
        with pytest.raises(IncompatibleError, match=r"each of 3 layers.*org/Model-A has 4 layers.*one of zeros put first"):
            vector.check_fits(MODEL)
        with pytest.raises(FileFormatError, match="put a row of zeros first"):
            PersonaVector.load(tmp_path / "v.pt", model=MODEL)
    torch.save(torch.zeros(5, 6) + torch.arange(5)[:, None], tmp_path / "whole.pt")
    PersonaVector.load(tmp_path / "whole.pt").check_fits(MODEL)


def test_a_pt_file_goes_there_and_back(tmp_path: Path) -> None:
    path = make().save(tmp_path / "v.pt")
    rows = torch.load(path, weights_only=True)
    assert rows.shape == (5, 6)
    assert not rows[0].any()
    back = PersonaVector.load(path, model=MODEL, trait="silly")
    assert torch.equal(back.directions, make().directions)
    assert back.model == MODEL


def test_a_pt_file_cannot_leave_layers_out(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"layers 1, 3 of the 4.*Save it as \.json"):
        make((1, 3)).save(tmp_path / "v.pt")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "value", [torch.ones(3), {"layer_0": torch.ones(3)}, torch.ones(1, 3), torch.ones(3, 0), torch.ones(3, 3, dtype=torch.long)]
)
def test_a_pt_file_of_anything_else_is_refused(tmp_path: Path, value: object) -> None:
    torch.save(value, tmp_path / "v.pt")
    with pytest.raises(FileFormatError, match=r"expected one tensor \[n_layers \+ 1, d_model\]"):
        PersonaVector.load(tmp_path / "v.pt")


def test_a_pt_file_with_nan_names_the_layer(tmp_path: Path) -> None:
    rows = torch.ones(4, 3)
    rows[0] = rows[2] = float("nan")  # row 0 is dropped, so its NaN does no harm
    torch.save(rows, tmp_path / "v.pt")
    with pytest.raises(FileFormatError, match=r"\(layer 1: 3\)"):
        PersonaVector.load(tmp_path / "v.pt")


def test_a_pt_file_of_another_model_than_said_is_refused(tmp_path: Path) -> None:
    torch.save(torch.ones(4, 3), tmp_path / "v.pt")
    with pytest.raises(FileFormatError, match="3 layers of width 3, but org/Model-A has 4 of width 6"):
        PersonaVector.load(tmp_path / "v.pt", model=MODEL)


class Harmful:
    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("code ran",))


def test_a_pt_file_that_would_run_code_is_not_loaded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(Harmful(), tmp_path / "v.pt")
    with pytest.raises(FileFormatError, match="could run code") as caught:
        PersonaVector.load(tmp_path / "v.pt")
    assert "weights_only" not in str(caught.value)  # no advice to load it all the same
    assert "code ran" not in capsys.readouterr().out


# -- saving ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".json", ".safetensors", ".pt"])
def test_a_disk_that_fills_up_leaves_the_old_file(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make().save(tmp_path / f"v{suffix}")
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(PersonaInterpError, match=r"No space left on device.*Choose a folder"):
        (make() * 2).save(path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
