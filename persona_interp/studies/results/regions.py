"""What is written into the pages of docs/results: each region by its name, from the folder of the data (``figures/``)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from persona_interp.measure.markdown_table import markdown_table
from persona_interp.measure.modulation import Modulated
from persona_interp.models.engines.registry import capability_table
from persona_interp.models.registry import shipped_models
from persona_interp.storage import read_json
from persona_interp.studies.attribution import AttributionCase, attribution_markdown, attribution_summary
from persona_interp.studies.diagnoses.pairs_bench import pairs_from_json
from persona_interp.studies.diagnoses.pairs_text import pairs_markdown, pairs_summary
from persona_interp.studies.finetuning.report import FinetuningStudy, study_markdown, study_summary
from persona_interp.studies.judges.judge_validation import JudgeValidation, judges_markdown
from persona_interp.studies.judges.real_validation import RealValidation, real_markdown
from persona_interp.studies.judges.validations_file import validations_from
from persona_interp.studies.layers import LayerBench, layers_markdown
from persona_interp.studies.organism_cards.card import OrganismCard
from persona_interp.studies.organism_cards.text import bench_markdown
from persona_interp.studies.reproduction.modulation_bench import modulation_summary, overview_markdown
from persona_interp.studies.results.pages import Region
from persona_interp.studies.results.quantization import quantization
from persona_interp.studies.results.transfers import further, natural, transfers


def facts(rows: Sequence[tuple[str, str]]) -> str:
    """Numbers that the words of a page rest on, as a table."""
    return "\n".join(markdown_table(("what", "measured"), rows))


def bullets(lines: str) -> str:
    """Lines of a summary as a list."""
    return "\n".join(f"- {line}" for line in lines.splitlines())


def _engines(_: Path) -> str:
    return capability_table()


def _organisms(_: Path) -> str:
    folders = [folder for _, folder in sorted(shipped_models().items())]
    return bench_markdown([OrganismCard.from_json(read_json(folder / "card.json", "organism card")) for folder in folders])


def _layers(folder: Path) -> str:
    benches = [LayerBench.from_json(read_json(path, "layer bench")) for path in sorted((folder / "layers").glob("*.json"))]
    met = sum(bench.met for bench in benches)
    said = "The cheap choice reaches at least 95 % of the exhaustive one's effect at 10 % of its tokens or fewer"
    return f"{layers_markdown(benches)}\n{said}: met by {met} of {len(benches)} rows."


def _twins(folder: Path) -> str:
    data = read_json(folder / "diagnostics.json", "validation of diagnoses")
    cases, restored = data["cases"], [case["restored"] for case in data["cases"]]
    short = [value for value in restored if value < 0.95]
    return facts(
        [
            (
                "verdicts that name exactly what was planted",
                f"{sum(c['planted'] == c['verdict'] for c in cases)} of {len(cases)}",
            ),
            ("causes blamed on another", str(len(data["blamed_on_another"]))),
            ("every twin without a fault is called `none`", "yes" if data["no_fault_called_none"] else "no"),
            ("recovery of 0.95 or more with the planted causes alone fixed", f"{len(restored) - len(short)} of {len(cases)}"),
            ("lowest recovery then", f"{min(restored):.2f}"),
        ]
    )


def _pairs(folder: Path) -> str:
    cases = pairs_from_json(read_json(folder / "diagnostics_pairs.json", "diagnoses of pairs"))
    return f"{pairs_markdown(cases).strip()}\n\n{bullets(pairs_summary(cases))}"


def _claims(folder: Path) -> str:
    claims = read_json(folder / "reproduction.json", "claims")["claims"]
    rows = [(each["claim"], each["holds"], each["measured"]) for each in claims]
    return "\n".join(markdown_table(("claim", "holds", "measured"), rows))


def _modulation(folder: Path) -> str:
    found = [Modulated.from_json(each) for each in read_json(folder / "modulation.json", "modulations")["cases"]]
    placebos = [each for each in found if each.mode == "logit bias, shuffled vector"]
    most = max(placebos, key=lambda each: each.share.value or 0.0)
    said = f"The most that a shuffled vector's biases reach: {most.share.value or 0.0:.2f} ({most.trait} in {most.model})."
    return f"{overview_markdown(found)}\n{modulation_summary(found)}\n\n{said}"


def _judges(folder: Path) -> str:
    return judges_markdown(validations_from(read_json(folder / "judges.json", "judge validations"), JudgeValidation))


def _real_judges(folder: Path) -> str:
    return real_markdown(validations_from(read_json(folder / "judges-real.json", "judge validations"), RealValidation))


def _attribution(folder: Path) -> str:
    found = [AttributionCase.from_json(each) for each in read_json(folder / "attribution.json", "attributions")["cases"]]
    return f"{attribution_markdown(found)}\n{attribution_summary(found)}"


def _finetuning(folder: Path) -> str:
    found = FinetuningStudy.from_json(read_json(folder / "finetuning.json", "finetuning study"))
    return f"{study_markdown(found)}\n{study_summary(found)}"


REGIONS: dict[str, Region] = {
    "engines": _engines,
    "organisms": _organisms,
    "layers": _layers,
    "transfers": transfers,
    "transfers-natural": natural,
    "transfers-further": further,
    "diagnoses-twins": _twins,
    "diagnoses-pairs": _pairs,
    "claims": _claims,
    "modulation": _modulation,
    "quantization": quantization,
    "judges": _judges,
    "judges-real": _real_judges,
    "attribution": _attribution,
    "finetuning": _finetuning,
}
"""Every region by its name."""
