"""`--quantize` and `--remote`, the same wherever a command takes a model."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from persona_interp.cli import build_parser
from persona_interp.models.registry import load_model

STEER = ("--prompt", "What is the moon?", "--coefficient", 3, "--layer", 1, "--max-new-tokens", 6, "--temperature", 0)


@pytest.fixture
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    import nnsight

    monkeypatch.delenv("NDIF_API_KEY", raising=False)
    monkeypatch.setattr(nnsight.CONFIG.API, "APIKEY", None)


def test_steering_and_extraction_run_on_quantized_weights(
    run: Callable, tiny_model_path: Callable[[str], Path], vector_file: Path, trait_file: Path
) -> None:
    folder = tiny_model_path("qwen2")
    ran = run("apply-steering", "--model", folder, "--vectors", vector_file, *STEER, "--quantize", "8bit", "--output", "out.json")
    assert ran.code == 0, ran.err
    assert "was made in tiny-qwen2, not in these weights, but they go by that name (not measured): used as it is" in ran.err
    used = json.loads(Path("out.json").read_text(encoding="utf-8"))["provenance"]["model"]["fingerprint"]
    assert used == load_model(folder, quantization="8bit").identity.fingerprint
    extracting = ("extract-vectors", "--model", folder, "--trait", trait_file, "--judge", "none", "--samples", 1)
    ran = run(*extracting, "--max-new-tokens", 6, "--quantize", "4bit", "--output", "four.json")
    assert ran.code == 0, ran.err
    assert Path("four.json").exists()


def test_a_form_that_does_not_exist_and_a_missing_extra(
    run: Callable, tiny_model_path: Callable[[str], Path], vector_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = ("apply-steering", "--model", tiny_model_path("qwen2"), "--vectors", vector_file, *STEER, "--quantize")
    ran = run(*base, "2bit")
    assert ran.code == 2
    assert "--quantize: invalid choice: '2bit'" in ran.err
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "bitsandbytes" else find(name))
    ran = run(*base, "4bit")
    assert ran.code == 2
    assert 'needs an optional dependency: pip install "persona-interp[quantized]"' in ran.err
    assert "Traceback" not in ran.err


def test_a_remote_run_without_a_key_or_from_a_folder_is_refused_before_anything_is_written(
    run: Callable, trait_file: Path, no_key: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = sorted(path.name for path in tmp_path.iterdir())
    extracting = ("extract-vectors", "--trait", trait_file, "--judge", "none", "--remote", "--output", "v.json", "--model")
    ran = run(*extracting, "gpt2")
    assert (ran.code, ran.out) == (2, "")
    assert "needs a key: get one at ndif.us and set NDIF_API_KEY, or leave remote out" in ran.err
    monkeypatch.setenv("NDIF_API_KEY", "made-up")
    ran = run(*extracting, "organism-qwen2")
    assert ran.code == 2
    assert "organism-qwen2 is a local folder, which a remote run cannot see: give a hub id" in ran.err
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_every_command_that_takes_a_model_takes_both() -> None:
    commands = next(action for action in build_parser()._actions if hasattr(action, "choices") and action.choices)
    taking = {
        name: parser.format_help() for name, parser in commands.choices.items() if "--trust-remote-code" in parser.format_help()
    }
    assert {"apply-steering", "extract-vectors", "monitor", "screen"} <= set(taking)
    assert [name for name, text in taking.items() if "--quantize" not in text or "--remote " not in text] == []
