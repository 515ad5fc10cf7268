"""The numbers of docs/results are those of the data beside the figures; the words around them are free."""

from __future__ import annotations

from pathlib import Path

import pytest

from persona_interp.cli import main
from persona_interp.errors import FileFormatError, UnknownNameError
from persona_interp.measure.modulation import Modulated
from persona_interp.models.registry import shipped_models
from persona_interp.organisms.gguf_export import KINDS
from persona_interp.storage import read_json
from persona_interp.studies.attribution import AttributionCase
from persona_interp.studies.judges.judge_validation import JudgeValidation
from persona_interp.studies.judges.validations_file import validations_from
from persona_interp.studies.layers import LayerBench
from persona_interp.studies.organism_cards.card import OrganismCard
from persona_interp.studies.organism_cards.text import card_markdown
from persona_interp.studies.reproduction.modulation_bench import works
from persona_interp.studies.reproduction.quantization_text import quantization_markdown
from persona_interp.studies.reproduction.quantized_steering import quantization_from_json
from persona_interp.studies.results import REGIONS, filled, regions_in
from persona_interp.studies.results.transfers import FURTHER, between_planted, further_cases, natural_cases, recoveries
from persona_interp.studies.transfers import unmet

ROOT = Path(__file__).parents[2]
FIGURES = ROOT / "figures"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize(
    "page", [page for page in PAGES if regions_in(page.read_text(encoding="utf-8"))], ids=lambda page: page.stem
)
def test_a_page_says_what_the_data_say(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert text == filled(text, FIGURES, REGIONS), "run: persona-interp study results"


def test_every_region_stands_on_a_page() -> None:
    shown = [name for page in PAGES for name in regions_in(page.read_text(encoding="utf-8"))]
    assert sorted(set(shown)) == sorted(REGIONS)


def test_a_region_is_written_and_the_words_around_it_stay() -> None:
    page = "Before.\n\n<!-- written: sum -->\nold\n<!-- end -->\n\nAfter.\n"
    made = filled(page, FIGURES, {"sum": lambda folder: f"2 in {folder.name}\n"})
    assert made == "Before.\n\n<!-- written: sum -->\n\n2 in figures\n\n<!-- end -->\n\nAfter.\n"
    with pytest.raises(UnknownNameError, match="region 'sum'"):
        filled(page, FIGURES, {"total": str})
    with pytest.raises(FileFormatError, match="no end"):
        filled("<!-- written: sum -->\n", FIGURES, {"sum": str})


def test_the_command_writes_a_page_whose_number_was_changed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page, words = tmp_path / "attribution.md", ["study", "results", "--data", str(FIGURES), "--pages"]
    text = (ROOT / "docs" / "results" / "attribution.md").read_text(encoding="utf-8")
    page.write_text(text.replace("| L1H3 0.46", "| L1H3 9.46"), encoding="utf-8")
    assert main([*words, str(page)]) == 0
    assert f"written: {page}" in capsys.readouterr().err
    assert page.read_text(encoding="utf-8") == text
    assert main([*words, str(page)]) == 0
    assert "as the data have them" in capsys.readouterr().err
    assert main([*words, str(tmp_path / "nowhere.md")]) == 2
    assert "name pages with --pages" in capsys.readouterr().err


def test_every_organism_has_the_card_of_its_data() -> None:
    for folder in shipped_models().values():
        card = OrganismCard.from_json(read_json(folder / "card.json", "organism card"))
        assert (folder / "CARD.md").read_text(encoding="utf-8") == card_markdown(card)


def test_the_cheap_choice_of_a_layer_meets_its_bar_in_every_row() -> None:
    benches = [LayerBench.from_json(read_json(path, "layer bench")) for path in sorted((FIGURES / "layers").glob("*.json"))]
    assert {bench.model for bench in benches} == set(shipped_models())
    assert all(bench.met for bench in benches)


def test_transfers_meet_their_bars_in_every_pair() -> None:
    cases = between_planted(FIGURES)
    assert len(cases) == 24
    assert unmet(cases) == []
    assert all(len(further_cases(FIGURES, trait)) == 12 for trait in FURTHER)


@pytest.mark.parametrize("trait", ["silly", "honest"])
@pytest.mark.parametrize("side", ["source", "target"])
def test_the_natural_organism_is_paired_with_each_other(trait: str, side: str) -> None:
    assert len(recoveries(natural_cases(FIGURES, trait, side))) == 4


def test_diagnoses_of_planted_causes_are_exact() -> None:
    data = read_json(FIGURES / "diagnostics.json", "validation of diagnoses")
    assert len(data["cases"]) == sum(case["planted"] == case["verdict"] for case in data["cases"]) == 64
    assert data["blamed_on_another"] == []
    assert data["no_fault_called_none"] is True


def test_there_are_four_claims() -> None:
    assert len(read_json(FIGURES / "reproduction.json", "claims")["claims"]) == 4


def test_biases_of_tokens_work_for_silly_alone() -> None:
    found = [Modulated.from_json(each) for each in read_json(FIGURES / "modulation.json", "modulations")["cases"]]
    assert [each.trait for each in found if each.mode == "logit bias" and works(each, found)] == ["silly"] * 4


def test_every_quantized_file_is_measured() -> None:
    rows, parity = quantization_from_json(read_json(FIGURES / "quantization.json", "quantizations"))
    assert len({(row.model, row.trait) for row in rows}) == 8
    files = [row for row in rows if row.weights in KINDS]
    assert len(files) == 40
    below = [(row.model, row.trait, row.weights) for row in files if (row.share.high or 0.0) < 1]
    assert below == [("organism-llama", "silly", "q5_1"), ("organism-mistral", "silly", "q5_1")], "the two that the page names"
    (table,) = [each for each in parity if "GELU" in each.reference]
    assert 0 < table.n_beyond < table.n_tokens, "fewer tokens are beyond with llama.cpp's table, as the page says"
    assert (FIGURES / "quantization.md").read_text(encoding="utf-8") == quantization_markdown(rows, parity)


def test_judges_and_attributions_are_of_every_organism() -> None:
    judges = validations_from(read_json(FIGURES / "judges.json", "judge validations"), JudgeValidation)
    cases = [AttributionCase.from_json(each) for each in read_json(FIGURES / "attribution.json", "attributions")["cases"]]
    assert {each.model.name for each in judges} == {case.attribution.model for case in cases} == set(shipped_models())
