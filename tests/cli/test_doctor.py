"""`doctor`: what is installed, what a model does on each engine, and an exit code for what is broken."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from persona_interp.models import installation as looked
from persona_interp.models.engines.check import check_model
from persona_interp.models.load import load_model
from persona_interp.organisms.gguf_export import export_gguf


def test_one_screen_says_what_is_there(run: Callable) -> None:
    ran = run("doctor")
    assert ran.code == 0, ran.out
    for word in ("versions", "engines", "llama.cpp", "machine", "places", "PERSONA_INTERP_HOME", "extras", "broken"):
        assert word in ran.out
    assert len(ran.out.splitlines()) < 50


def test_a_model_is_compared_on_every_engine_that_opens_it(run: Callable, tmp_path: Path) -> None:
    file = export_gguf(load_model("organism-llama"), tmp_path / "small.gguf")
    ran = run("doctor", "--model", file, "--json")
    assert ran.code == 0, ran.out
    found = json.loads(ran.out)
    engines = {one["engine"]: one for one in found["model"]["engines"]}
    assert list(engines) == ["nnsight", "hooks", "TransformerLens", "llama.cpp"]
    for one in engines.values():
        assert (one["unavailable"], one["top1"]) == (None, 1.0)
        assert one["moved"] > 0.1
        assert max(one["logit_difference"], one["steered_difference"]) < 0.01
    seconds = found["model"]["seconds"]
    assert set(seconds) == {*engines, *(f"loading for {engine}" for engine in engines if engine != "hooks")}
    assert all(spent >= 0 for spent in seconds.values())
    assert set(found["model"]["facts"]) >= {"template", "answers end at", "layout"}


def test_the_table_of_a_model_fits_the_screen(run: Callable) -> None:
    ran = run("doctor", "--model", "organism-gpt2")
    assert ran.code == 0, ran.out
    assert "TransformerLens" in ran.out
    assert max(len(line) for line in ran.out.splitlines() if line[0:1] in "│┃") <= 100


def test_what_is_broken_ends_with_code_1(run: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("PERSONA_INTERP_HOME", str(tmp_path / "file"))
    ran = run("doctor")
    assert (ran.code, "set PERSONA_INTERP_HOME" in ran.out) == (1, True)
    (tmp_path / "broken.gguf").write_bytes(b"GGUF")
    monkeypatch.setenv("PERSONA_INTERP_HOME", str(tmp_path / "home"))
    ran = run("doctor", "--model", tmp_path / "broken.gguf")
    assert (ran.code, "cut short or damaged" in ran.out) == (1, True)


def test_a_name_nobody_knows_is_bad_input(run: Callable) -> None:
    ran = run("doctor", "--model", "organism-quen2")
    assert (ran.code, "Did you mean 'organism-qwen2'" in ran.err) == (2, True)


def test_an_engine_that_ignores_a_push_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from persona_interp.models.steerable import SteerableModel

    asked = SteerableModel.next_token_logits
    monkeypatch.setattr(SteerableModel, "next_token_logits", lambda self, ids, *, graph=None: asked(self, ids))
    assert any("did not move" in problem for problem in check_model("organism-gpt2").problems)


def test_a_package_that_is_installed_but_broken_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looked, "_ENGINES", (("llama.cpp", "llama-cpp-python", "no_such_module_at_all", "gguf"),))
    found = looked.installation()
    assert found.engines["llama.cpp"].endswith("broken")
    assert "importing it fails: ModuleNotFoundError" in found.problems[0]


def test_the_quota_shown_is_the_one_threads_are_counted_by(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looked, "cpu_quota", lambda: 1.5)
    assert looked.installation().machine["processors"].endswith("1.5 by the container's quota")
    monkeypatch.setattr(looked, "cpu_quota", lambda: None)
    assert "quota" not in looked.installation().machine["processors"]
