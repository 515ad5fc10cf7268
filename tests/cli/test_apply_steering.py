"""`apply-steering`: one batch, each row with its own dose; a JSON that says what was done; and clear refusals."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from persona_interp.cli.apply_steering import plan
from persona_interp.errors import InvalidInputError
from persona_interp.interventions.operations import OPERATIONS, Clamp, direction_operations
from persona_interp.models.sampling import Sampling
from persona_interp.models.steerable import SteerableModel
from persona_interp.traits.conversation import Conversation
from persona_interp.vectors.persona_vector import PersonaVector


@pytest.fixture
def steer(run: Callable, tiny_model_path: Callable[[str], Path], vector_file: Path) -> Callable:
    """`steer("--coefficient", 2)` on the tiny model, a short greedy answer to "What is the moon?"."""
    model = tiny_model_path("qwen2")

    def call(*words: object, vectors: tuple[object, ...] = (vector_file,), prompt: str = "What is the moon?"):
        base = ("--model", model, "--vectors", *vectors, "--prompt", prompt, "--max-new-tokens", 8, "--temperature", 0)
        return run("apply-steering", *base, *words)

    return call


def written(path: str) -> dict:
    return json.loads(Path(path).read_text(encoding="utf-8"))


def test_the_json_says_what_was_done(steer: Callable, vector_file: Path) -> None:
    ran = steer("--coefficient", 3, "--layer", "1", "--baseline", "--seed", 5, "--output", "out.json")
    assert ran.code == 0, ran.err
    out = written("out.json")
    assert out["model"] == "tiny-qwen2"
    assert out["vectors"] == [str(vector_file)]
    assert out["prompt"] == "What is the moon?"
    assert out["coefficient"] == 3.0
    assert out["layers"] == [1]
    assert isinstance(out["steered"], str)
    assert isinstance(out["baseline"], str)
    assert out["steered"] != out["baseline"]
    assert out["provenance"]["seed"] == 5
    assert out["provenance"]["model"]["fingerprint"]
    assert "baseline" in ran.out or "none" in ran.out


def test_the_baseline_is_the_unsteered_answer(steer: Callable) -> None:
    steer("--coefficient", 0, "--baseline", "--output", "out.json")
    out = written("out.json")
    assert out["steered"] == out["baseline"]
    steer("--coefficient", 0, "--output", "without.json")
    assert written("without.json")["baseline"] is None
    assert written("without.json")["steered"] == out["steered"]


def test_several_coefficients_are_the_same_as_one_by_one(steer: Callable) -> None:
    assert steer("--coefficients", -2.0, -1.0, 0.0, 1.0, "--layer", "0,1", "--temperature", 1, "--output", "all.json").code == 0
    together = written("all.json")
    assert together["coefficient"] == [-2.0, -1.0, 0.0, 1.0]
    for coefficient, text in zip(together["coefficient"], together["steered"], strict=True):
        steer("--coefficient", coefficient, "--layer", "0,1", "--temperature", 1, "--output", "one.json")
        assert written("one.json")["steered"] == text


def test_every_operation_that_needs_just_a_direction_can_be_named(
    steer: Callable, vector_file: Path, tiny_model: Callable[[str], SteerableModel]
) -> None:
    assert direction_operations() == ("add", "add_preserving_norm", "ablate", "ablate_then_add")
    model, vector = tiny_model("qwen2"), PersonaVector.load(vector_file)
    for name in direction_operations():
        ran = steer("--coefficient", 1, "--layer", "1", "--operation", name, "--output", f"{name}.json")
        assert ran.code == 0, ran.err
        graph = vector.graph(1.0, layers=[1], operation=OPERATIONS[name])
        asked = Conversation.ask("What is the moon?")
        (own,) = model.generate([asked], graph=graph, sampling=Sampling(max_new_tokens=8, temperature=0.0))
        out = written(f"{name}.json")
        assert out["steered"] == own.text
        assert out.get("operation", "add") == name
        assert (out["answers"][0]["perturbation_ratios"] == [None]) == (name != "add" or vector.listed("norm_ratio")[1] is None)
    assert "operation" not in written("add.json")


def test_clamp_and_cap_take_their_value_and_others_none(
    steer: Callable, vector_file: Path, tiny_model: Callable[[str], SteerableModel]
) -> None:
    options = ("--coefficient", 1, "--layer", "1", "--operation", "clamp")
    assert steer(*options, "--value", 2.5, "--output", "clamp.json").code == 0
    graph = PersonaVector.load(vector_file).graph(1.0, layers=[1], operation=lambda direction: Clamp(direction, 2.5))
    asked = Conversation.ask("What is the moon?")
    (own,) = tiny_model("qwen2").generate([asked], graph=graph, sampling=Sampling(max_new_tokens=8, temperature=0.0))
    out = written("clamp.json")
    assert (out["steered"], out["operation"], out["value"]) == (own.text, "clamp", 2.5)
    refused = steer(*options)
    assert refused.code == 2
    assert "operation 'clamp' needs --value, its projection" in refused.err
    assert "operation 'add' takes no --value" in steer("--value", 1).err


def test_an_operation_refuses_what_its_coefficient_cannot_be(steer: Callable) -> None:
    ran = steer("--coefficient", 2, "--layer", "1", "--operation", "ablate")
    assert ran.code == 2
    assert "0 for none to 1 for all" in ran.err


def test_several_vectors_are_added_together(steer: Callable, vector_file: Path, tmp_path: Path) -> None:
    vector = PersonaVector.load(vector_file)
    half = (vector * 0.5).save(tmp_path / "half.json")
    steer("--coefficient", 1, "--layer", "1", "--output", "one.json")
    steer("--coefficient", 1, "--layer", "1", "--output", "halves.json", vectors=(half, half))
    assert written("halves.json")["steered"] == written("one.json")["steered"]
    steer("--coefficient", 1.5, 0.5, "--layer", "1", "--output", "uneven.json", vectors=(half, half))
    assert written("uneven.json")["steered"] == written("one.json")["steered"]
    assert written("uneven.json")["coefficient"] == [1.5, 0.5]


def test_which_coefficients_go_with_which_vectors() -> None:
    assert plan([1.0, 2.0], 1) == [(1.0,), (2.0,)]
    assert plan([1.0], 2) == [(1.0, 1.0)]
    assert plan([1.0, 2.0], 2) == [(1.0, 2.0)]
    with pytest.raises(
        InvalidInputError, match="3 coefficients were given for 2 vectors: give one for all of them, or one for each"
    ):
        plan([1.0, 2.0, 3.0], 2)


def test_auto_says_that_the_choice_is_geometry_or_a_guess(steer: Callable, vector_file: Path) -> None:
    ran = steer("--output", "out.json")
    assert "only the layer nearest to 60 % of the depth" in ran.err
    assert written("out.json")["layers"] == [2]

    vector = PersonaVector.load(vector_file)
    n = len(vector.layers)
    known = {"auroc": (0.6,) + (1.0,) * (n - 1), "resid_norm": (1.0, 5.0) + (10_000.0,) * (n - 2)}
    replace(vector, statistics=known).save(vector_file)
    ran = steer("--output", "out.json")
    assert "layer 1: held-out AUROC 1.00" in ran.err
    assert "geometry, not behaviour" in " ".join(ran.err.split())
    assert written("out.json")["layers"] == [1]


def refused(ran, *words: str) -> None:
    assert ran.code == 2
    assert ran.err.splitlines()[-1].startswith("error: "), ran.err
    assert "Traceback" not in ran.err
    for word in words:
        assert word in ran.err, ran.err


def test_what_cannot_be_used_is_refused_with_the_reason(steer: Callable, vector_file: Path, tmp_path: Path) -> None:
    refused(steer(vectors=("none.json",)), "none.json does not exist")
    refused(steer(prompt="  "), "empty")
    refused(steer("--coefficient", "1e39"), "1e+39")
    refused(steer("--coefficient", "1e38", "--temperature", 1), "NaN", "smaller coefficients")
    refused(steer("--layer", 99), "no layer 99", "layers 0-")
    refused(steer("--max-new-tokens", 100_000), "context")
    refused(steer(prompt="the moon " * 400), "context")
    refused(steer("--temperature", -1), "temperature")
    refused(steer("--output", tmp_path), "it is a folder")
    refused(steer("--output", vector_file / "out.json"), "cannot write")
    assert not (tmp_path / "out.json").exists()


def test_a_seed_no_generator_takes_is_refused_with_the_largest(steer: Callable) -> None:
    ran = steer("--seed", 10**23)
    assert ran.code == 2
    assert f"give at most {2**63 - 1}" in ran.err
    assert steer("--seed", 2**63 - 1).code == 0


def test_a_file_that_names_no_model_is_said_to(steer: Callable, vector_file: Path, tmp_path: Path) -> None:
    ran = steer("--layer", 1, vectors=(PersonaVector.load(vector_file).save(tmp_path / "v.pt"),))
    assert ran.code == 0
    assert "v.pt does not say whose it is; it fits by shape only" in ran.err


def test_a_huge_dose_leaves_room_for_the_answer(steer: Callable, vector_file: Path) -> None:
    vector = PersonaVector.load(vector_file)
    replace(vector, statistics={"resid_norm": (1.0,) * len(vector.layers)}).save(vector_file)
    ran = steer("--coefficient", "1e20")
    assert re.search(r"│ +\d\.\de\+\d\d │", ran.out), ran.out


def test_a_vector_of_another_model_names_both(
    run: Callable,
    vector_file: Path,
    tiny_model: Callable[[str], SteerableModel],
    tiny_model_path: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    vector = PersonaVector.load(vector_file)
    wide = replace(
        vector,
        directions=torch.ones(1, vector.d_model + 8),
        layers=(0,),
        model=replace(vector.model, name="a-wider-model", d_model=vector.d_model + 8),
    ).save(tmp_path / "wide.json")
    deep = replace(
        vector, directions=vector.directions[:1], layers=(40,), model=replace(vector.model, name="a-deeper-model", n_layers=48)
    ).save(tmp_path / "deep.json")
    for path, name in ((wide, "a-wider-model"), (deep, "a-deeper-model")):
        ran = run(
            "apply-steering", "--model", tiny_model_path("qwen2"), "--vectors", path, "--prompt", "Moon?", "--output", "out.json"
        )
        refused(ran, name, "tiny-qwen2")
    assert not (tmp_path / "out.json").exists()


def test_an_unknown_model_is_refused_before_anything_is_loaded(run: Callable, vector_file: Path) -> None:
    refused(run("apply-steering", "--model", "qwen2.5-7b-instrct", "--vectors", vector_file, "--prompt", "Moon?"), "Did you mean")


def test_answers_become_conversations_that_monitor_reads(
    steer: Callable, run: Callable, tiny_model_path: Callable, vector_file: Path
) -> None:
    ran = steer("--coefficient", -1, 2, "--baseline", "--system", "Be brief.", "--chats", "chats.jsonl", "--output", "out.json")
    assert ran.code == 0, ran.err
    chats = [json.loads(line) for line in Path("chats.jsonl").read_text(encoding="utf-8").splitlines()]
    out = written("out.json")
    assert [chat["id"] for chat in chats] == ["unsteered", "steered at -1", "steered at +2"]
    assert [chat["response"] for chat in chats] == [out["baseline"], *out["steered"]]
    assert {(chat["prompt"], chat["system"]) for chat in chats} == {("What is the moon?", "Be brief.")}
    read = run("monitor", "--model", tiny_model_path("qwen2"), "--vectors", vector_file, "--layer", 1, "--input", "chats.jsonl")
    assert read.code == 0, read.err
    assert "steered at +2" in read.out
