"""Coherence that nobody judged is not a coherence of 0: no study reports a number for it, and no claim rests on it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from persona_interp.measure.statistics import Estimate
from persona_interp.storage import read_json
from persona_interp.studies.attribution import AttributionCase, attribution_summary
from persona_interp.studies.organism_cards.text import _whole
from persona_interp.studies.transfers import TransferCase, summary, transfer_markdown, unmet

ROOT = Path(__file__).parents[2]


def test_a_transfer_is_reported_without_a_number_and_does_not_meet_the_bar() -> None:
    file = ROOT / "figures" / "transfer" / "organism-qwen2_organism-llama_silly.json"
    judged = replace(TransferCase.from_json(read_json(file)), coherence=88.0)
    unjudged = replace(judged, coherence=None)
    (said,) = set(unmet([unjudged])) - set(unmet([judged]))
    assert said.startswith("silly, qwen2 → llama: recovery")
    assert said.endswith("coherence not judged")
    assert summary([unjudged]).endswith("lowest coherence not judged")
    assert summary([unjudged, judged]).endswith("lowest coherence 88")
    assert "| not judged |" in transfer_markdown([unjudged])
    assert TransferCase.from_json(unjudged.to_json()) == unjudged


def test_a_control_that_was_not_judged_is_not_a_control_of_nothing() -> None:
    """An unknown recovery is left out of the mean, and where no other is known the bar is not met."""
    file = ROOT / "figures" / "transfer" / "organism-qwen2_organism-llama_silly.json"
    judged = TransferCase.from_json(read_json(file))
    unknown = Estimate(None, None, None, 0)
    blind = replace(judged, controls={**judged.controls, "random": unknown})
    assert "random: not known" in unmet([blind])
    assert "random not known" in summary([blind])
    loud = replace(judged, controls={**judged.controls, "random": Estimate(0.5, 0.4, 0.6, 8)})
    assert "random: 0.50 on average > 0.1" in unmet([loud, blind]), "0.25 if the unknown one counted as 0"


def test_an_ablation_without_coherence_says_so() -> None:
    cases = [AttributionCase.from_json(each) for each in read_json(ROOT / "figures" / "attribution.json")["cases"]]
    case = next(each for each in cases if each.mlp is not None and each.mlp.top.components[0].layer == 0)
    assert case.mlp is not None
    assert "coherence is at most" in attribution_summary([case])
    top, placebo = (
        replace(arm, point=replace(arm.point, coherence_scores=(None,) * arm.point.n)) for arm in (case.mlp.top, case.mlp.placebo)
    )
    unjudged = replace(case, mlp=replace(case.mlp, top=top, placebo=placebo))
    assert "coherence was not judged when" in attribution_summary([unjudged])


def test_a_card_leaves_the_cell_empty() -> None:
    assert [_whole(None), _whole(0.0), _whole(98.6)] == ["–", "0", "99"]
