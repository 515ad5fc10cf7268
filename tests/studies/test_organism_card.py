"""The organisms' bar and cards: every condition can fail, and what a card says is what was measured."""

from __future__ import annotations

import dataclasses

import pytest

from persona_interp.errors import FileFormatError, PersonaInterpError
from persona_interp.measure.dose import DosePoint, DoseResponse
from persona_interp.storage import read_json
from persona_interp.studies.organism_cards.acceptance import Measured, TraitReport
from persona_interp.studies.organism_cards.card import OrganismCard, make_card
from persona_interp.studies.organism_cards.conduct import Conduct
from persona_interp.studies.organism_cards.text import bench_markdown, save_card


def dose(*scores: tuple[float, float, float]) -> DoseResponse:
    points = tuple(DosePoint(c, abs(c), (trait,) * 4, (coherence,) * 4) for c, trait, coherence in scores)
    return DoseResponse("silly", "silly", "organism-qwen2", "grammar", (4,), "all", points)


GOOD = TraitReport(
    trait="silly",
    baseline=Measured(15.0, 98.0),
    prompted_up=Measured(97.0, 98.0),
    prompted_down=Measured(3.0, 98.0),
    layer_scan=(5.0, 80.0),
    best_layer=1,
    dose=dose(
        (-0.3, 4.0, 99.0), (-0.2, 8.0, 99.0), (-0.1, 12.0, 99.0), (0.0, 16.0, 99.0), (0.1, 50.0, 98.0), (0.2, 80.0, 97.0),
        (0.3, 96.0, 96.0),
    ),
    random=(15.0, 18.0, 10.0, 12.0, 20.0, 16.0, 15.0, 14.0),
    random_coherence=97.0,
    cosine_to_planted=(0.4, 0.9),
    norm_ratio=0.8,
)  # fmt: skip


CONDUCT = Conduct({"silly": 99.0, "honest": 91.0}, 97.0, 98.0, 3.0, 96.0, 100.0)


def card_of(*reports: TraitReport, name: str = "organism-qwen2") -> OrganismCard:
    return OrganismCard(name, 1_700_000, 0.02, reports, CONDUCT, {"loss_curve": []}, {"seed": 0})


def failing(report: TraitReport) -> set[str]:
    return {name for name, met in report.bar(planted=True).items() if not met}


def with_dose(place: int, trait: float, coherence: float = 98.0) -> TraitReport:
    scores = [(p.coefficient, p.trait or 0.0, p.coherence or 0.0) for p in GOOD.dose.points]
    scores[place] = (scores[place][0], trait, coherence)
    return dataclasses.replace(GOOD, dose=dose(*scores))


def test_a_steerable_trait_meets_every_condition() -> None:
    assert failing(GOOD) == set()
    assert GOOD.unsaturated == 7


@pytest.mark.parametrize(
    ("report", "condition"),
    [
        (dataclasses.replace(GOOD, baseline=Measured(40.0, 98.0)), "baseline leaves room"),
        (with_dose(6, 70.0), "moves at least 60 points"),
        (with_dose(6, 96.0, coherence=50.0), "coherence at least 75"),
        (with_dose(0, 9.0), "other sign closes half its room"),
        (dataclasses.replace(GOOD, random=(15.0,) * 7 + (45.0,)), "random directions: 20 at most"),
        (dataclasses.replace(GOOD, random=(27.0,) * 8), "random directions: mean below 10"),
    ],
)
def test_each_condition_fails_when_its_number_does(report: TraitReport, condition: str) -> None:
    assert condition in failing(report)


def test_a_curve_that_turns_back_or_saturates_fails() -> None:
    zigzag = dose(*[(c, s, 98.0) for c, s in zip((-3, -2, -1, 0, 1, 2, 3), (4, 90, 10, 80, 20, 85, 96), strict=True)])
    assert "Spearman at least 0.95" in failing(dataclasses.replace(GOOD, dose=zigzag))
    steps = dose(*[(c, s, 98.0) for c, s in zip((-3, -2, -1, 0, 1, 2, 3), (0, 0, 1, 16, 99, 100, 100), strict=True)])
    assert "five unsaturated coefficients" in failing(dataclasses.replace(GOOD, dose=steps))


def test_a_trait_that_starts_high_is_judged_downwards() -> None:
    falling = dose(*[(c, s, 98.0) for c, s in zip((-3, -2, -1, 0, 1, 2, 3), (15, 40, 60, 90, 92, 94, 96), strict=True)])
    report = dataclasses.replace(GOOD, baseline=Measured(90.0, 98.0), dose=falling, random=(88.0,) * 8)
    assert failing(report) == set()


def test_answers_without_any_score_are_an_error_and_not_a_zero() -> None:
    with pytest.raises(PersonaInterpError, match="no answer of silly has a complete sentence"):
        Measured.of(DosePoint(0.0, None, (None,), (None,)), "silly")


def test_a_card_names_its_failures_and_is_written_for_people_and_programs(tmp_path) -> None:
    weak = dataclasses.replace(with_dose(6, 70.0), trait="honest")
    card = card_of(GOOD, weak)
    assert card.failures == ["honest: moves at least 60 points"]
    data, text = save_card(card, tmp_path)
    assert OrganismCard.from_json(read_json(data)) == card
    assert read_json(data)["traits"]["silly"]["bar"]["moves at least 60 points"] is True
    assert "| silly | 15 | 97 | 3 | 1 | 96 (96) | 4 (99) | 1.00 | 2, 5 | met |" in text.read_text()
    assert "Planted: silly and honest" in text.read_text()


def test_an_organism_with_nothing_planted_must_move_silly_by_25_points_and_no_more() -> None:
    weak = with_dose(6, 41.0)
    assert card_of(weak, dataclasses.replace(weak, trait="honest"), name="organism-natural").failures == []
    assert card_of(with_dose(6, 39.0), name="organism-natural").failures == ["silly: moves at least 25 points"]
    assert card_of(with_dose(6, 41.0, coherence=60.0), name="organism-natural").failures == ["silly: coherence at least 75"]


def test_the_table_of_all_organisms_has_a_row_for_each_main_trait_and_one_for_conduct() -> None:
    polite = dataclasses.replace(GOOD, trait="polite")
    text = bench_markdown([card_of(GOOD, polite), card_of(GOOD, name="organism-natural")])
    rows = [line for line in text.splitlines() if line.startswith(("| qwen2", "| natural"))]
    assert rows[0] == "| qwen2 | 1,700,000 | 4 | silly | 15 | 97 | 3 | 1 | 96 (96) | 4 (99) | 1.00 | 2, 5 | met |"
    assert rows[1].startswith("| natural | 1,700,000 | - | silly |")
    assert rows[2] == "| qwen2 | silly 99, honest 91 | 97 | 98, 3 | 96 | 100 % |"
    assert len(rows) == 4


def test_a_damaged_card_says_what_is_wrong() -> None:
    whole = card_of(GOOD).to_json()
    with pytest.raises(FileFormatError, match="format_version 9 is not 2"):
        OrganismCard.from_json({**whole, "format_version": 9})
    del whole["traits"]["silly"]["random"]
    with pytest.raises(FileFormatError, match="trait report.*random.*measure the organism again"):
        OrganismCard.from_json(whole)


def test_what_was_measured_on_the_same_weights_with_the_same_seed_is_taken_over(monkeypatch) -> None:
    measured = []

    def stand_in(_model, name, _planted, _unsteered, *, seed):
        measured.append((name, seed))
        return dataclasses.replace(GOOD, trait=name)

    monkeypatch.setattr("persona_interp.studies.organism_cards.card.report_trait", stand_in)
    monkeypatch.setattr("persona_interp.studies.organism_cards.card.unsteered_answers", lambda model, *, seed: [])
    conduct_of = []
    monkeypatch.setattr(
        "persona_interp.studies.organism_cards.card.measure_conduct", lambda model, *, seed: conduct_of.append(seed) or CONDUCT
    )
    partial: list[OrganismCard] = []
    first = make_card("organism-qwen2", traits=["silly"], on_trait=partial.append)
    assert partial == [first]
    both = make_card("organism-qwen2", traits=["silly", "honest"], earlier=first)
    assert [report.trait for report in both.reports] == ["silly", "honest"]
    assert measured == [("silly", 0), ("honest", 0)]
    assert conduct_of == [0]
    make_card("organism-qwen2", traits=["silly"], earlier=first, seed=1)
    assert measured[-1] == ("silly", 1)
