"""`validate-quantization`: what it writes, when, and what it refuses. What is measured is tested with the bench."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from persona_interp.measure.statistics import Estimate
from persona_interp.storage import read_json
from persona_interp.studies.reproduction.quantization import QuantizationBench
from persona_interp.studies.reproduction.quantization_text import quantization_markdown
from persona_interp.studies.reproduction.quantized_steering import QuantizedSteering, quantization_from_json
from persona_interp.studies.reproduction.residual_parity import ResidualParity


def test_the_command_writes_as_it_goes_and_says_what_was_met(run: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    parity = (ResidualParity("organism-gpt2", "PyTorch", 4e-4, 1, 30.0, 500, 9),)
    monkeypatch.setattr(QuantizationBench, "parity", lambda self, name, traits: parity)

    def rows(self: QuantizationBench, name: str, trait: str) -> list[QuantizedSteering]:
        if trait == "honest":
            raise KeyboardInterrupt
        share = Estimate(0.97, 0.9, 1.0, 5)
        return [QuantizedSteering(name, trait, "q8_0", 1, (0.9, 0.99), Estimate(11.0, 10.0, 12.0, 5), share, share, 96.0)]

    monkeypatch.setattr(QuantizationBench, "rows", rows)
    ran = run("validate-quantization", "organism-gpt2", "--traits", "silly")
    assert ran.code == 0, ran.err
    assert "float32 residuals within 0.001: met in 1 of 1" in ran.out
    text = Path("quantization.md").read_text(encoding="utf-8")
    Path("quantization.md").unlink()
    found, known = quantization_from_json(read_json(Path("quantization.json")))
    assert quantization_markdown(found, known) == text
    assert run("validate-quantization", "organism-gpt2").code == 130
    assert len(quantization_from_json(read_json(Path("quantization.json")))[0]) == 1


def test_unusable_words_are_refused_before_anything_is_measured(run: Callable) -> None:
    for words, said in (
        (("organism-none",), "organism-none"),
        (("--traits", "evil"), "evil"),
        (("--output", "q.txt"), "name a .json file"),
        (("--samples", 0), "at least 1"),
    ):
        ran = run("validate-quantization", *words)
        assert ran.code == 2
        assert said in ran.err
