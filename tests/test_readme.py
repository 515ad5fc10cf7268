"""What the README shows works: its Python runs, its commands parse, its names exist."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import pytest

from persona_interp.cli import build_parser
from persona_interp.judges.measure import MEASURES
from persona_interp.measure.modulation import Modulated
from persona_interp.models.registry import MODELS, shipped_models
from persona_interp.organisms.gguf_export import KINDS
from persona_interp.storage import read_json
from persona_interp.studies.attribution import AttributionCase, attribution_markdown, attribution_summary
from persona_interp.studies.diagnoses.pairs_bench import pairs_from_json
from persona_interp.studies.diagnoses.pairs_text import pairs_markdown, pairs_summary
from persona_interp.studies.judges.judge_validation import JudgeValidation, judges_markdown
from persona_interp.studies.judges.validations_file import validations_from
from persona_interp.studies.layers import LayerBench, layers_markdown
from persona_interp.studies.organism_cards.card import OrganismCard
from persona_interp.studies.organism_cards.text import bench_markdown, card_markdown
from persona_interp.studies.reproduction.modulation_bench import modulation_summary, overview_markdown, works
from persona_interp.studies.reproduction.quantization_text import overview_markdown as quantization_overview
from persona_interp.studies.reproduction.quantization_text import quantization_markdown, quantization_summary
from persona_interp.studies.reproduction.quantized_steering import OTHER_SEED, quantization_from_json
from persona_interp.studies.transfers import TransferCase, summary, support, transfer_markdown, unmet
from persona_interp.traits.catalogue import trait_names

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    lines = [part for block in blocks("bash") for line in block.splitlines() for part in line.split(" && ")]
    return [line for line in lines if line.startswith("persona-interp ")]


@pytest.mark.slow
def test_the_python_blocks_run_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PERSONA_INTERP_HOME", str(tmp_path / "home"))
    namespace: dict[str, object] = {}
    for number, block in enumerate(blocks("python")):
        exec(compile(block, f"README.md, Python block {number}", "exec"), namespace)  # noqa: S102  (our own README)
    assert (tmp_path / "silly.json").exists()


@pytest.mark.parametrize("command", commands())
def test_every_command_shown_is_one_that_exists(command: str) -> None:
    assert callable(build_parser().parse_args(shlex.split(command)[1:]).run)


def test_the_two_commands_stand_first_and_the_check_runs_them() -> None:
    first, second = blocks("bash")[:2]
    assert first == "pip install -e . && persona-interp quickstart\n"
    assert second == 'pip install -e ".[test]" && pytest\n'
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert 'pip install -e ".[test]"' in script
    assert re.search(r"^pytest\b", script, flags=re.MULTILINE)


def test_planned_commands_do_not_exist_and_the_others_do() -> None:
    helped = build_parser().format_help()
    table = re.findall(r"\| `persona-interp ([a-z-]+)[^`]*` \| (works|planned) \|", README)
    assert len(table) == 9
    assert {name: state for name, state in table if (state == "works") != (name in helped)} == {}


def test_models_and_traits_are_named_as_they_are_registered() -> None:
    models = README[README.index("## Models") : README.index("## Traits")]
    assert [name for name in [*MODELS, *shipped_models()] if f"`{name}`" not in models] == []
    traits = README[README.index("## Traits") : README.index("## Judges")]
    assert [name for name, origin in trait_names().items() if origin == "library" and f"`{name}`" not in traits] == []


def test_measures_are_named_as_they_are_registered() -> None:
    judges = README[README.index("## Judges") : README.index("## Troubleshooting")]
    assert [name for name in MEASURES if f"| `{name}` |" not in judges] == []


def test_the_python_version_is_that_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["requires-python"] == ">=3.11"
    assert "Python 3.11 or newer" in README
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert "## Unreleased" in changes or f"## {project['version']}" in changes


def test_the_numbers_measured_are_those_of_the_cards() -> None:
    measured = README[README.index("## What was measured") : README.index("## Citation")]
    folders = [folder for _, folder in sorted(shipped_models().items())]
    cards = [OrganismCard.from_json(read_json(folder / "card.json", "organism card")) for folder in folders]
    assert bench_markdown(cards) in measured
    for card, folder in zip(cards, folders, strict=True):
        assert (folder / "CARD.md").read_text(encoding="utf-8") == card_markdown(card)
        assert card.short_name in measured


def test_the_table_of_layer_choices_is_that_of_its_data() -> None:
    files = sorted((ROOT / "figures" / "layers").glob("*.json"))
    benches = [LayerBench.from_json(read_json(path, "layer bench")) for path in files]
    assert {bench.model for bench in benches} == set(shipped_models())
    assert layers_markdown(benches) in README
    assert all(bench.met for bench in benches) == ("met by every row" in README)


def test_the_tables_of_transfers_are_those_of_their_data() -> None:
    planted = sorted(name for name in shipped_models() if name != "organism-natural")
    folder = ROOT / "figures" / "transfer"
    cases = [
        TransferCase.from_json(read_json(folder / f"{source}_{target}_{trait}.json", "transfer case"))
        for trait in ("silly", "honest")
        for source in planted
        for target in planted
        if source != target
    ]
    assert transfer_markdown(cases) in README
    assert unmet(cases) == []
    assert "effects recover 1.09 on average (0.96 to 1.41)" in summary(cases)
    assert "1.09 of the native effect on average, 0.96 at least" in README


def test_what_is_said_of_the_further_traits_is_in_their_data() -> None:
    defined: list[TransferCase] = []
    for trait in ("optimistic", "polite", "verbose"):
        files = sorted((ROOT / "figures" / "transfer").glob(f"*_{trait}.json"))
        assert len(files) == 12
        cases = [TransferCase.from_json(read_json(path, "transfer case")) for path in files]
        known = [(case, value) for case in cases if (value := case.recoveries["effects"].value) is not None]
        values = [value for _, value in known]
        assert f"{sum(values) / len(values):.2f} on average, {min(values):.2f} to {max(values):.2f}" in README
        defined += [case for case, _ in known]
        supports = [each for case in cases if (each := support(case, "effects", left_out=False)) is not None]
        if trait != "optimistic":
            said = f"{min(supports):.2f} to {max(supports):.2f} for" if trait == "verbose" else f"down to {min(supports):.2f} for"
            assert f"{said} {trait}" in README
    assert f"in {len(defined)} of 36 cases" in README
    assert transfer_markdown(defined).split("\n\n")[0] in README


@pytest.mark.parametrize("trait", ["silly", "honest"])
@pytest.mark.parametrize("side", ["source", "target"])
def test_what_is_said_of_the_natural_organism_is_in_its_data(trait: str, side: str) -> None:
    files = (ROOT / "figures" / "transfer").glob(f"*organism-natural*_{trait}.json")
    cases = [TransferCase.from_json(read_json(path, "transfer case")) for path in files]
    mine = [case for case in cases if getattr(case, side) == "organism-natural"]
    values = [case.recoveries["effects"].value or 0.0 for case in mine]
    assert len(values) == 4
    assert f"{min(values):.2f} to {max(values):.2f}" in README


def test_what_is_said_of_diagnoses_is_in_their_data() -> None:
    data = read_json(ROOT / "figures" / "diagnostics.json", "validation of diagnoses")
    cases = data["cases"]
    exact = sum(case["planted"] == case["verdict"] for case in cases)
    assert f"{exact} of {len(cases)} verdicts are exact" in README
    assert data["blamed_on_another"] == []
    assert data["no_fault_called_none"] is True
    restored = [case["restored"] for case in cases]
    assert f"to 0.95 or more in {sum(value >= 0.95 for value in restored)}" in README
    assert f"in the other four it is {min(restored):.2f}" in README


def test_the_table_of_real_pairs_is_that_of_its_data() -> None:
    cases = pairs_from_json(read_json(ROOT / "figures" / "diagnostics_pairs.json", "diagnoses of pairs"))
    assert pairs_markdown(cases).strip() in README
    assert "The basis is a cause in all 24, the layer in 5 (open in 7), the length in 1 (open in 4)" in README
    said = pairs_summary(cases)
    for words in ("basis: present in 24", "layers: present in 5", "open in 7", "magnitude: present in 1", "open in 4"):
        assert words in said


def test_the_four_claims_are_those_measured() -> None:
    claims = read_json(ROOT / "figures" / "reproduction.json", "claims")["claims"]
    assert len(claims) == 4
    for each in claims:
        assert f"| {each['claim']} | {each['holds']} | {each['measured']} |" in README


def test_the_table_of_modulation_is_that_of_its_data() -> None:
    data = read_json(ROOT / "figures" / "modulation.json", "modulations")
    found = [Modulated.from_json(each) for each in data["cases"]]
    assert overview_markdown(found) in README
    assert modulation_summary(found) in README
    assert [each.trait for each in found if each.mode == "logit bias" and works(each, found)] == ["silly"] * 4
    highest = max(each.share.value or 0.0 for each in found if each.mode == "logit bias, shuffled vector")
    assert f"reached {highest:.2f} of silly's movement" in README


def test_the_tables_of_quantization_are_those_of_their_data() -> None:
    rows, parity = quantization_from_json(read_json(ROOT / "figures" / "quantization.json", "quantizations"))
    assert len({(row.model, row.trait) for row in rows}) == 8
    assert quantization_overview(rows, parity) in README
    assert quantization_summary(rows, parity) in README
    assert (ROOT / "figures" / "quantization.md").read_text(encoding="utf-8") == quantization_markdown(rows, parity)


def test_the_table_of_attributions_is_that_of_its_data() -> None:
    data = read_json(ROOT / "figures" / "attribution.json", "attributions")
    found = [AttributionCase.from_json(each) for each in data["cases"]]
    assert {case.attribution.model for case in found} == set(shipped_models())
    assert attribution_markdown(found) in README
    assert attribution_summary(found) in README


def test_what_is_said_of_quantization_is_in_its_data() -> None:
    rows, parity = quantization_from_json(read_json(ROOT / "figures" / "quantization.json", "quantizations"))
    files, other = [row for row in rows if row.weights in KINDS], [row for row in rows if row.weights == OTHER_SEED]
    assert len(files) == 40
    spans = [
        f"{min(shares):.2f} to {max(shares):.2f}"
        for shares in ([row.share.value or 0.0 for row in some] for some in (files, other))
    ]
    assert f"shares are {spans[0]}, those of another seed {spans[1]}" in README
    below = [(row.model, row.trait, row.weights, f"{row.share.value:.2f}") for row in files if (row.share.high or 0.0) < 1]
    said = [("organism-llama", "silly", "q5_1", "0.95"), ("organism-mistral", "silly", "q5_1", "0.97")]
    assert below == said, "two intervals of 40 lie below 1"
    drawn = {(row.model, row.trait): row.cosines[row.layer] for row in other}
    farther = [drawn[row.model, row.trait] - row.cosines[row.layer] for row in files if row.weights == "q4_0"]
    assert [f"{gap:.5f}" for gap in farther if gap > 0] == ["0.00003"]
    least, lowest = (min(some, key=lambda row: row.cosines[row.lowest]) for some in (other, files))
    assert (least.model, least.trait, least.lowest) == ("organism-qwen2", "honest", 0)
    assert (lowest.model, lowest.trait, lowest.lowest, lowest.weights) == ("organism-mistral", "honest", 0, "q4_0")
    assert f"a cosine of {least.cosines[0]:.2f} with it" in README
    assert f"{lowest.cosines[0]:.2f} at `q4_0` in mistral" in README
    (table,) = [each for each in parity if "GELU" in each.reference]
    assert f"{table.n_beyond:,} of {table.n_tokens:,} tokens are beyond" in README
    pushed = [row.random.value or 0.0 for row in rows]
    assert f"by {min(pushed):.2f} to {max(pushed):.2f} of what the vector does" in README


def test_the_tables_of_judges_are_those_of_their_data() -> None:
    found = validations_from(read_json(ROOT / "figures" / "judges.json", "judge validations"), JudgeValidation)
    assert {each.model.name for each in found} == set(shipped_models())
    assert judges_markdown(found) in README
