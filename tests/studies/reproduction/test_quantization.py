"""Vectors under quantization: measured beside controls, kept row by row, and held to the bar without bending it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from persona_interp.errors import FileFormatError, InvalidInputError
from persona_interp.measure.statistics import Estimate
from persona_interp.models.registry import load_model
from persona_interp.models.sampling import Sampling
from persona_interp.organisms.gguf_export import KINDS, kept_gguf
from persona_interp.studies.reproduction.quantization import QuantizationBench
from persona_interp.studies.reproduction.quantization_text import (
    OVERVIEW_HEADINGS,
    PARITY_HEADINGS,
    ROW_HEADINGS,
    overview_cells,
    parity_cells,
    quantization_markdown,
    quantization_summary,
    row_cells,
)
from persona_interp.studies.reproduction.quantized_steering import (
    BARS,
    FULL,
    OTHER_SEED,
    QuantizedSteering,
    quantization_from_json,
    quantization_json,
)
from persona_interp.studies.reproduction.residual_parity import ResidualParity

NAME, TRAIT = "organism-gpt2", "silly"
MEASURED = (FULL, OTHER_SEED, "f32", "q4_0")
SETTINGS = {"samples": 1, "sampling": Sampling(max_new_tokens=40), "questions": 3}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("quantization")


@pytest.fixture(scope="module")
def rows(folder: Path) -> dict[str, QuantizedSteering]:
    with QuantizationBench(folder, **SETTINGS) as bench:
        return {row.weights: row for row in bench.rows(NAME, TRAIT, MEASURED)}


@pytest.fixture(scope="module")
def parity(folder: Path) -> tuple[ResidualParity, ...]:
    with QuantizationBench(folder, **SETTINGS) as bench:
        return bench.parity(NAME, [TRAIT])


@pytest.mark.slow
def test_every_row_is_compared_with_the_full_model_on_the_same_questions(rows: dict[str, QuantizedSteering]) -> None:
    full, other, exact, coarse = (rows[weights] for weights in MEASURED)
    assert min(full.cosines) == pytest.approx(1)
    assert (full.share.value, full.share.low, full.share.high) == (1, 1, 1)
    assert full.slope.value == pytest.approx(coarse.slope.value / coarse.share.value)
    assert min(exact.cosines) > 0.9999 > coarse.cosines[coarse.lowest], "a float32 file is the same model but for rounding"
    assert other.cosines != full.cosines
    assert other.slope != full.slope
    for row in rows.values():
        assert row.layer >= 1
        assert len(row.cosines) == 4
        assert abs(row.random.value) < 0.5 < row.share.value, "the vector steers, and a random direction as long does not"


@pytest.mark.slow
def test_a_finished_row_is_read_and_not_made_again(
    rows: dict[str, QuantizedSteering], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(QuantizationBench, "_row", lambda *_: pytest.fail("made again"))
    with QuantizationBench(folder, **SETTINGS) as bench:
        assert {row.weights: row for row in bench.rows(NAME, TRAIT, MEASURED)} == rows
    with QuantizationBench(folder, **{**SETTINGS, "seed": 7}) as bench, pytest.raises(pytest.fail.Exception, match="made again"):
        list(bench.rows(NAME, TRAIT, (FULL,)))


@pytest.mark.slow
def test_an_interruption_loses_no_finished_row(
    tmp_path: Path,
    rows: dict[str, QuantizedSteering],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def row(self: QuantizationBench, name: str, trait: object, kind: str) -> QuantizedSteering:
        if kind == "q4_0":
            raise KeyboardInterrupt
        return rows[kind]

    monkeypatch.setattr(QuantizationBench, "_row", row)
    with pytest.raises(KeyboardInterrupt), QuantizationBench(tmp_path, **SETTINGS) as bench:
        list(bench.rows(NAME, TRAIT, MEASURED))
    monkeypatch.setattr(QuantizationBench, "_row", lambda self, name, trait, kind: rows[kind] if kind == "q4_0" else None)
    assert "3 finished rows are kept" in capsys.readouterr().err
    with QuantizationBench(tmp_path, **SETTINGS) as bench:
        assert list(bench.rows(NAME, TRAIT, MEASURED)) == list(rows.values())


@pytest.mark.slow
def test_gpt2_is_compared_with_and_without_the_gelu_of_llama_cpp(parity: tuple[ResidualParity, ...]) -> None:
    plain, table = parity
    assert plain.reference == FULL
    assert "GELU" in table.reference
    assert table.n_beyond < plain.n_beyond / 2
    assert table.largest > 0
    assert plain.n_tokens == table.n_tokens > 100


def test_an_organism_with_another_activation_is_compared_once(tmp_path: Path) -> None:
    with QuantizationBench(tmp_path, samples=1, questions=1) as bench:
        (found,) = bench.parity("organism-qwen2", ["honest"])
        assert found.met
        assert found.largest > 0
        assert bench.parity("organism-qwen2", ["honest"]) == (found,)


# -- the bar -----------------------------------------------------------------------------------------------------------


def steering(weights: str, share: float | None, *, model: str = NAME, trait: str = TRAIT) -> QuantizedSteering:
    found = Estimate(share, None if share is None else share - 0.1, None if share is None else share + 0.1, 5)
    return QuantizedSteering(model, trait, weights, 1, (0.9, 0.99, 0.98), Estimate(11.0, 10.0, 12.0, 5), found, found, 96.4)


def test_the_bar_is_the_value_itself_and_only_where_there_is_one() -> None:
    for weights, bar in BARS.items():
        assert steering(weights, bar).met is True
        assert steering(weights, bar - 1e-6).met is False
        assert steering(weights, None).met is False
    assert steering("f16", 0.1).met is None
    near, far = (ResidualParity(NAME, FULL, value, 1, 30.0, 500, 9) for value in (1e-3, 1.1e-3))
    assert (near.met, far.met) == (True, False)


def test_what_is_missed_is_said_in_every_text() -> None:
    rows = [steering("q8_0", 0.94), steering("q8_0", 0.97, model="organism-qwen2"), steering("q4_0", 0.9), steering("f32", 1.0)]
    parity = [ResidualParity(NAME, FULL, 4e-3, 1, 30.0, 500, 9)]
    said = quantization_summary(rows, parity)
    assert "float32 residuals within 0.001: met in 0 of 1" in said
    assert "q8_0 at 0.95 or more of the full-precision slope: met in 1 of 2" in said
    assert "q4_0 at 0.85 or more of the full-precision slope: met in 1 of 1" in said
    assert "Missed: gpt2 against PyTorch (4.0e-03); gpt2, silly, q8_0 (0.94 [0.84, 1.04])." in said
    assert [cells[-1] for cells in row_cells(rows)] == ["0.95: missed", "0.95: met", "0.85: met", "–"]
    assert [cells[-1] for cells in parity_cells(parity)] == ["0.001: missed"]
    assert [cells[-1] for cells in overview_cells(rows)] == ["0.95: met in 1 of 2", "0.85: met in 1 of 1", "–"]
    assert quantization_summary(rows[1:], []).endswith("Nothing is missed.")


def test_tables_have_a_cell_under_every_heading() -> None:
    rows, parity = [steering(kind, 0.9) for kind in KINDS], [ResidualParity(NAME, FULL, 4e-4, 1, 30.0, 5000, 0)]
    assert {len(cells) for cells in row_cells(rows)} == {len(ROW_HEADINGS)}
    assert {len(cells) for cells in parity_cells(parity)} == {len(PARITY_HEADINGS)}
    assert {len(cells) for cells in overview_cells(rows)} == {len(OVERVIEW_HEADINGS)}
    text = quantization_markdown(rows, parity)
    assert "| gpt2 | silly | q4_0 | 0.900 (0) | 0.990 (1) | 11.00 [10.00, 12.00] | 0.90 [0.80, 1.00]" in text
    assert "| gpt2 | PyTorch | 4.0e-04 | 1 | 30 | 0 of 5,000 | 0.001: met |" in text


def test_results_survive_being_written() -> None:
    rows = [steering("q8_0", 0.94), replace(steering("f16", None), coherence=None)]
    parity = [ResidualParity(NAME, FULL, 4e-3, 1, 30.0, 500, 9)]
    assert quantization_from_json(quantization_json(rows, parity, {})) == (rows, parity)
    for broken in ({"format_version": 9}, {"format_version": 1}, {"format_version": 1, "rows": [{}], "parity": []}):
        with pytest.raises(FileFormatError):
            quantization_from_json(broken)


# -- files -------------------------------------------------------------------------------------------------------------


def test_a_file_is_kept_for_the_very_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model(NAME)
    path = kept_gguf(model, tmp_path, "q8_0")
    assert sorted(each.name.rsplit("-", 1)[1] for each in tmp_path.iterdir()) == ["f32.gguf", "q8_0.gguf"]
    made = path.stat().st_mtime_ns
    assert kept_gguf(model, tmp_path, "q8_0") == path
    assert path.stat().st_mtime_ns == made
    assert kept_gguf(load_model("organism-qwen2"), tmp_path, "q8_0") != path
    with pytest.raises(InvalidInputError, match="'q2_k' is not one of f32, f16, q8_0, q5_1, q4_0"):
        kept_gguf(model, tmp_path, "q2_k")
