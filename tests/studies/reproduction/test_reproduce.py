"""A reproduction on two bundled models: every step is made once, kept, and reported with what it shows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from persona_interp.errors import FileFormatError, InvalidInputError, PersonaInterpError, UnknownNameError
from persona_interp.measure.evaluation import Evaluation
from persona_interp.measure.point import DosePoint
from persona_interp.measure.sections import sections_markdown
from persona_interp.models.registry import load_model
from persona_interp.models.sampling import Sampling
from persona_interp.models.steerable import SteerableModel
from persona_interp.organisms.anchors import organism_anchors
from persona_interp.storage import read_json, write_json
from persona_interp.studies.plotting.reproduction import reproduction_figures
from persona_interp.studies.reproduction.claims import Claim, claims
from persona_interp.studies.reproduction.estimate import MACHINES, model_size, plan
from persona_interp.studies.reproduction.preset import PRESETS, preset
from persona_interp.studies.reproduction.report import plan_section, sections, title
from persona_interp.studies.reproduction.results import Reproduction
from persona_interp.studies.reproduction.run import reproduce

MODELS = ("organism-gpt2", "organism-mistral")
SMALL = replace(
    PRESETS["organisms"],
    models=MODELS,
    pairs=(MODELS,),
    traits=("silly",),
    questions=3,
    n_random=1,
    methods=("ridge",),
    sampling=Sampling(max_new_tokens=24),
)


class Loads:
    """Counts what is loaded; raises at the number asked for."""

    def __init__(self, fail_at: int | None = None) -> None:
        self.names: list[str] = []
        self.fail_at = fail_at

    def __call__(self, name: str) -> SteerableModel:
        self.names.append(name)
        if len(self.names) == self.fail_at:
            raise PersonaInterpError("the power went")
        return load_model(name)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("reproduction")


@pytest.fixture(scope="module")
def found(folder: Path) -> Reproduction:
    """Made in two goes: the first is cut short when the second model is loaded."""
    anchors = organism_anchors(60)
    with pytest.raises(PersonaInterpError, match="the power went"):
        reproduce(SMALL, folder, anchors=anchors, load=Loads(fail_at=2), batch_size=128)
    again = Loads()
    made = reproduce(SMALL, folder, anchors=anchors, load=again, batch_size=128)
    assert again.names == [MODELS[1], MODELS[0]], "nothing is made again; the first is needed once more, to be modulated"
    return made


def test_a_second_run_loads_nothing_and_finds_the_same(found: Reproduction, folder: Path) -> None:
    none = Loads()
    assert reproduce(SMALL, folder, anchors=organism_anchors(60), load=none, batch_size=128) == found
    assert none.names == []


def test_other_settings_are_not_mistaken_for_these(found: Reproduction, folder: Path) -> None:
    with pytest.raises(PersonaInterpError, match="the power went"):
        reproduce(SMALL, folder, anchors=organism_anchors(60), load=Loads(fail_at=1), seed=1)
    assert [each.stem for each in (folder / "steps").glob("extract_*")], "what was made stays until it is replaced"


def test_every_experiment_of_the_preset_is_there(found: Reproduction) -> None:
    assert [(each.model, each.trait) for each in found.extracted] == [(name, "silly") for name in MODELS]
    assert [each.model for each in found.evaluations] == list(MODELS)
    assert all([point.coefficient for point in each.curve][:: len(each.curve) - 1] == [-2, 2] for each in found.evaluations)
    ((source, target),) = [(each.source, each.target) for each in found.transfers]
    assert (source, target) == MODELS
    assert set(found.seconds) == {
        *(f"{what}_{name}_silly" for what in ("extract", "evaluate") for name in MODELS),
        "transfer_organism-gpt2_to_organism-mistral_silly",
        "modulate_organism-gpt2_silly",
    }


def test_a_result_survives_being_written(found: Reproduction, tmp_path: Path) -> None:
    path = write_json(tmp_path / "report.json", found.to_json())
    assert Reproduction.from_json(read_json(path)) == found
    with pytest.raises(FileFormatError, match="format_version 99"):
        Reproduction.from_json({**found.to_json(), "format_version": 99})
    with pytest.raises(FileFormatError, match="field transfers is malformed .expected a list, found None"):
        Reproduction.from_json({**found.to_json(), "transfers": None})


# -- claims follow from the numbers ----------------------------------------------------------------------------------


def test_claims_name_the_numbers_they_rest_on(found: Reproduction) -> None:
    transfer, coherence, black_box, linear = claims(found)
    recovered = found.transfers[0].recovery.value
    assert recovered is None or f"{recovered:.2f} on average" in transfer.measured
    lowest = [min(known for point in each.curve if (known := point.coherence) is not None) for each in found.evaluations]
    assert f"the lowest coherence is {min(lowest):.0f} to {max(lowest):.0f}" in coherence.measured
    assert (coherence.holds == "yes") == (min(lowest) > 70)
    assert black_box.measured.count("silly") == 3, "biases, and parameters in two ranges"
    assert all("other trait" not in each.mode for each in found.modulations), "there is no other trait"
    assert "over -2 to 2" in linear.measured


def test_a_claim_holds_only_where_the_numbers_do(found: Reproduction) -> None:
    """The same answers with other scores: whole coherence, a straight line, and a carried vector that does nothing."""

    def line(point: DosePoint) -> DosePoint:
        n = point.n
        return replace(point, trait_scores=(50 + 20 * point.coefficient,) * n, coherence_scores=(90.0,) * n)

    straight = []
    for each in found.evaluations:
        controls = replace(each.controls, baseline=line(each.controls.baseline))
        straight.append(replace(each, results=tuple(map(line, each.results)), controls=controls))
    (carried,) = found.transfers
    native = tuple(line(replace(point, coefficient=(2 + n // 2) * (-1) ** n)) for n, point in enumerate(carried.native))
    base = line(replace(carried.baseline, coefficient=0.0))
    nothing = tuple(replace(point, trait_scores=base.trait_scores, coefficient=own.coefficient)
                    for point, own in zip(carried.main.points, native, strict=True))  # fmt: skip
    still = replace(carried, baseline=base, native=native, carried=(replace(carried.main, points=nothing),), controls={})
    transfer, coherence, _, linear = claims(replace(found, evaluations=tuple(straight), transfers=(still,)))
    assert (transfer.holds, coherence.holds, linear.holds) == ("no", "yes", "yes")
    assert "0 of 1 transfers" in transfer.measured


def test_a_claim_counts_no_coherence_that_was_not_judged(found: Reproduction) -> None:
    def judged(each: Evaluation, score: float | None, rest: float | None) -> Evaluation:
        def point(at: DosePoint, value: float | None) -> DosePoint:
            return replace(at, coherence_scores=(value,) * at.n)

        controls = replace(each.controls, baseline=point(each.controls.baseline, score))
        results = (point(each.results[0], rest), *(point(at, score) for at in each.results[1:]))
        return replace(each, results=results, controls=controls)

    def claimed(*each: Evaluation) -> Claim:
        return claims(replace(found, evaluations=each))[1]

    first, second = found.evaluations
    nowhere = judged(second, None, None)
    assert claimed(judged(first, None, None), nowhere).holds == "not measured"
    whole = claimed(judged(first, 90.0, 90.0), nowhere)
    assert (whole.holds, "is 90 to 90." in whole.measured) == ("yes", True), "nothing is known of the other"
    assert claimed(judged(first, 90.0, None), nowhere).holds == "no", "what one coefficient does is not known"


# -- reports and plans -----------------------------------------------------------------------------------------------


def test_the_report_says_all_of_it(found: Reproduction) -> None:
    text = sections_markdown(title(found), sections(found))
    for claim in claims(found):
        assert claim.claim in text
    for name in MODELS:
        assert text.count(name) >= 3
    assert found.transfers[0].verdict.split(":")[0] in text
    figures = reproduction_figures(found)
    assert len(figures) == 2
    assert [trace.name for trace in figures[0].data if trace.showlegend] == list(MODELS)
    assert len(figures[1].data[0].z) == 1


def test_a_plan_needs_no_model_and_adds_up() -> None:
    steps = plan(PRESETS["paper"], 600)
    assert [step.name for step in steps if step.name.startswith("download")] == [
        f"download {name}" for name in PRESETS["paper"].models
    ]
    assert max(step.memory for step in steps) < 24 * 2**30, "one GPU of 24 GB must do"
    assert all(step.seconds > 0 and step.disk >= 0 for step in steps)
    more = plan(PRESETS["paper"], 6000)
    assert sum(step.disk for step in more) > sum(step.disk for step in steps)
    section = plan_section(steps, MACHINES["paper"].name)
    assert len(section.rows) == len(steps) + 1
    assert section.rows[-1][-1].endswith(" h")


def test_sizes_are_those_of_the_files_or_as_published() -> None:
    size = model_size("organism-qwen2")
    assert (size.layers, size.d_model, size.key_share, size.on_disk) == (8, 128, 0.5, True)
    weights = sum(each.numel() for each in load_model("organism-qwen2").hf_model.parameters())
    assert size.parameters == pytest.approx(weights, rel=0.01)
    assert model_size("llama-3.1-8b-instruct").layers == 32
    with pytest.raises(InvalidInputError, match="nothing is known of the size of qwen3-0.6b"):
        model_size("qwen3-0.6b")


def test_presets_are_known_by_name() -> None:
    assert preset("organisms").pairs[0][0] == "organism-qwen2"
    assert len(preset("organisms").pairs) == 12
    with pytest.raises(UnknownNameError, match="organisms"):
        preset("organism")
