"""GGUF files on the command line: the same commands, and what llama.cpp cannot do is said."""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from persona_interp.alignment.methods import ALIGNMENTS
from persona_interp.cli import arguments
from persona_interp.cli.evaluate_transfer import methods_for
from persona_interp.errors import InvalidInputError
from persona_interp.measure.screened_layers import N_STEERED
from persona_interp.models.identity import ModelIdentity
from persona_interp.models.load import load_model
from persona_interp.organisms.anchors import organism_anchors
from persona_interp.organisms.gguf_export import export_gguf, quantize_gguf
from persona_interp.studies.diagnoses.planted import planted_vector
from persona_interp.transfers.anchor_rows import AnchorRows, Kind, held_in_memory
from persona_interp.transfers.anchors import anchors_for
from persona_interp.transfers.reading import known_rows
from persona_interp.vectors.lineage import KEY, Lineage
from persona_interp.vectors.persona_vector import PersonaVector

SHORT = ("--max-new-tokens", 12)


@pytest.fixture(scope="module")
def organism(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_gguf(load_model("organism-llama"), tmp_path_factory.mktemp("gguf") / "small.gguf")


def test_extraction_scores_a_few_layers_never_the_first_and_steering_follows(run: Callable, organism: Path) -> None:
    ran = run("extract-vectors", "--model", organism, "--trait", "silly", "--samples", 1, "--output", "v.json", *SHORT)
    assert ran.code == 0, ran.err
    scores = PersonaVector.load("v.json").listed("effectiveness")
    assert scores[0] is None, "llama.cpp cannot steer there"
    assert sum(score is not None for score in scores) == N_STEERED
    ran = run("apply-steering", "--model", organism, "--vectors", "v.json", "--prompt", "Why?", "--coefficient", 1, *SHORT)
    assert ran.code == 0, ran.err
    words = ("layer-effectiveness", "--model", organism, "--trait", "silly", "--vectors", "v.json")
    ran = run(*words, "--method", "gradient", *SHORT)
    assert ran.code == 2
    assert "cannot take gradients; on this machine engine 'torch' can" in ran.err
    assert "Use method 'likelihood' instead" in ran.err


def test_results_are_named_after_the_model_and_not_its_file() -> None:
    assert arguments.file_part("models/small.GGUF") == "small"
    assert arguments.vector_file(None, "small.q8_0.gguf", "silly") == Path("vectors/small.q8_0_silly.json")


def test_organisms_under_other_names_share_the_corpus_of_organisms(organism: Path) -> None:
    assert anchors_for([str(organism), "organism-gpt2"], n=5) == organism_anchors(5)
    with load_model(organism) as model:
        assert anchors_for([model, model], n=5) == organism_anchors(5)
        assert anchors_for([model, "gpt2"], n=5) != organism_anchors(5)


def test_a_vector_of_a_pytorch_model_is_carried_into_a_gguf_file_by_ridge(run: Callable, organism: Path) -> None:
    planted_vector(load_model("organism-gpt2"), "silly").save("silly.json")
    words = ("apply-steering", "--model", organism, "--vectors", "silly.json", "--prompt", "Why?", "--coefficient", 1)
    ran = run(*words, "--num-anchors", 60, "--output", "out.json", *SHORT)
    assert ran.code == 0, ran.err
    assert "aligned by ridge instead" in ran.err
    assert json.loads(Path("out.json").read_text(encoding="utf-8"))["layers"][0] >= 1
    with load_model(organism) as model:
        assert known_rows(model.identity.fingerprint, organism_anchors(60)) is not None


def test_a_vector_of_a_gguf_file_is_carried_once_both_models_have_read_the_same(run: Callable, organism: Path) -> None:
    with load_model(organism) as model:
        PersonaVector(torch.randn(2, model.d_model), (1, 2), "silly", model.identity).save("silly.json")
    steer = ("apply-steering", "--model", "organism-gpt2", "--vectors", "silly.json", "--prompt", "Why?", "--coefficient", 1)
    ran = run(*steer, "--num-anchors", 60, *SHORT)
    assert (ran.code, "Run persona-interp align" in ran.err) == (2, True)
    ran = run("align", "--source", organism, "--target", "organism-gpt2", "--num-anchors", 60)
    assert ran.code == 0, ran.err
    ran = run(*steer, "--num-anchors", 60, *SHORT)
    assert ran.code == 0, ran.err
    assert "effects are not known of small: aligned by ridge instead" in ran.err


def test_a_quantized_copy_takes_the_vector_of_its_model_as_it_is_and_a_vector_of_it_fits_the_model(
    run: Callable, organism: Path, tmp_path: Path
) -> None:
    whole = load_model("organism-llama")
    directions = torch.randn(whole.n_layers, whole.d_model, generator=torch.Generator().manual_seed(0))
    scores = {"effectiveness": (0.9, *(0.1,) * (whole.n_layers - 2), 0.5)}  # the best of all is where llama.cpp cannot steer
    vector = PersonaVector(directions, tuple(range(whole.n_layers)), "silly", whole.identity, statistics=scores)
    known = {KEY: Lineage.of(whole).to_json()}
    file, small = replace(vector, provenance=known).save(tmp_path / "v.json"), tmp_path / "chatty-7b.q4_0.gguf"
    quantize_gguf(organism, small, "q4_0")
    steer = ("apply-steering", "--vectors", file, "--model", small, "--prompt", "Why?", "--coefficient", 1, *SHORT)
    ran = run(*steer, "--output", "out.json")
    assert ran.code == 0, ran.err
    assert "v.json was made in organism-llama, not in these weights, but in their basis" in ran.err
    assert ": used as it is" in ran.err
    out = json.loads(Path("out.json").read_text(encoding="utf-8"))
    assert out["layers"] == [whole.n_layers - 1], "the best layer among those that can be steered"
    assert "in their basis" in out["applied"][0]["decision"]
    plain = run("modulate", "--mode", "control-vector", *steer[1:])
    assert (plain.code, ": used as it is" in plain.err) == (0, True), plain.err

    with load_model(small) as model:
        own = replace(vector, model=model.identity, provenance={KEY: Lineage.of(model).to_json()}).save(tmp_path / "own.json")
    ran = run(*steer[:2], own, "--model", "organism-llama", *steer[5:])
    assert ran.code == 0, ran.err
    assert "own.json was made in chatty-7b.q4_0, not in these weights, but in their basis" in ran.err


def test_layers_named_for_a_carried_vector_are_those_of_the_model_it_is_carried_to(run: Callable, organism: Path) -> None:
    source = planted_vector(load_model("organism-gpt2"), "silly")
    source.save("silly.json")
    steer = ("apply-steering", "--model", organism, "--vectors", "silly.json", "--prompt", "Why?", "--coefficient", 1)
    ran = run(*steer, "--num-anchors", 60, "--output", "out.json", "--layer", 5, *SHORT)
    assert ran.code == 0, ran.err
    assert source.model.n_layers == 4, "the source has no layer 5"
    assert json.loads(Path("out.json").read_text(encoding="utf-8"))["layers"] == [5]
    ran = run(*steer, "--num-anchors", 60, "--layer", 6, *SHORT)
    assert ran.code == 2
    assert "of small has no layer 6: it has layers 1-5" in ran.err


def test_an_option_only_pytorch_takes_is_refused_by_its_name(run: Callable, organism: Path, vector_file: Path) -> None:
    words = ("apply-steering", "--model", organism, "--vectors", vector_file, "--prompt", "Why?", "--coefficient", 1)
    ran = run(*words, "--dtype", "float16")
    assert (ran.code, "takes no dtype (--dtype), here 'float16'" in ran.err) == (2, True)


def test_beside_a_pytorch_model_such_options_are_for_that_one(organism: Path) -> None:
    args = argparse.Namespace(
        model="organism-llama", dtype="float16", device="auto", device_map=None, revision=None, remote=False,
        trust_remote_code=False, quantize=None, tensor_parallel=1, replicas=1,
    )  # fmt: skip
    with arguments.load_model(args, str(organism), beside="organism-llama") as model:
        assert model.name == "small"
    with pytest.raises(InvalidInputError, match=r"no dtype \(--dtype\)"):
        arguments.load_model(args, str(organism), beside=str(organism))


def rows(name: str, kind: Kind) -> AnchorRows:
    identity = ModelIdentity(name, None, name, 2, 4)
    return held_in_memory(identity, "texts", {kind: torch.randn(60, 2, 4)}, torch.ones(2), {})


def test_ridge_stands_in_for_effects_that_are_not_known(capsys: pytest.CaptureFixture[str]) -> None:
    known, unknown = rows("whole", "effects"), rows("small", "states")
    assert methods_for(None, known, known) == ("effects",)
    assert methods_for(None, known, unknown) == ("ridge",)
    assert "effects are not known of small: aligned by ridge instead" in capsys.readouterr().err
    assert methods_for("all", known, unknown) == tuple(ALIGNMENTS)
    assert methods_for("effects", known, unknown) == ("effects",)  # asked for by name: transfer() then says what is missing


@pytest.mark.slow
@pytest.mark.parametrize("words", [("apply-steering",), ("modulate", "--mode", "control-vector")])
def test_ctrl_c_in_a_long_generation_ends_the_program_and_nothing_crashes(
    words: tuple[str, ...], organism: Path, tmp_path: Path
) -> None:
    with load_model(organism) as model:
        PersonaVector(torch.ones(1, model.d_model), (2,), "loud", model.identity).save(tmp_path / "loud.json")
    doses = [str(99 + number) for number in range(64)]  # so strong that no answer ends by itself
    asked = ("--model", organism, "--vectors", tmp_path / "loud.json", "--prompt", "Why?", "--coefficient", *doses)
    command = [sys.executable, "-m", "persona_interp", *words, *asked, "--max-new-tokens", 450]
    running = subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with running:
        assert running.stderr is not None
        assert "loud" in running.stderr.readline()  # why this layer: said just before it generates
        time.sleep(0.5)
        assert running.poll() is None
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=120)
    assert (running.returncode, out, err.strip()) == (130, "", "interrupted.")
