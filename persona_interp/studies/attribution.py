"""Attribution and its causal check on the bundled organisms, as a table and in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from persona_interp.attribution.ablation_check import ablation_check
from persona_interp.attribution.attribute import attribute
from persona_interp.attribution.attribution import Attribution
from persona_interp.attribution.check import AblationCheck, points
from persona_interp.measure.markdown_table import markdown_table
from persona_interp.measure.point import DosePoint, mean_known
from persona_interp.measure.scored_vector import scored
from persona_interp.models.sampling import Sampling
from persona_interp.models.steerable import SteerableModel
from persona_interp.organisms.grammar_judge import GrammarJudge
from persona_interp.organisms.recipes import recipe_of
from persona_interp.organisms.trait_texts import organism_trait
from persona_interp.records import Record
from persona_interp.vectors.extract import extract
from persona_interp.vectors.layer_choice import choose_layer
from persona_interp.vectors.rollouts.kept_pairs import kept_pairs

FORMAT_VERSION = 1
HEADINGS = (
    "model",
    "trait",
    "layer",
    "writes most (share)",
    "heads, MLPs",
    "ablated",
    "top",
    "placebo",
    "random",
    "top below random",
)
_NAMED = 3


@dataclass(frozen=True)
class AttributionCase(Record):
    """One trait in one organism.

    Attributes:
        planted: whether the direction was planted at the block whose output is explained.
        attribution: of a vector extracted anew.
        heads: the check on a quarter of the heads.
        mlp: the check on the MLP that writes most; None where there is no other to compare with.
    """

    json_kind = "attribution case"

    planted: bool
    attribution: Attribution
    heads: AblationCheck
    mlp: AblationCheck | None


def attribution_case(
    model: SteerableModel,
    trait_name: str,
    folder: Path,
    *,
    samples: int = 1,
    sampling: Sampling | None = None,
    seed: int = 0,
    batch_size: int | None = None,
) -> AttributionCase:
    """Extract a vector, attribute it at the planted block (in an organism with none, at the layer that steers best), and check.

    Answers and scores are kept in `folder`, from which a second call goes on.
    """
    sampling = Sampling(max_new_tokens=96) if sampling is None else sampling
    trait, judge, run = organism_trait(trait_name), GrammarJudge(), folder / "rollouts"
    options: dict[str, Any] = {"sampling": sampling, "seed": seed, "batch_size": batch_size}
    vector = extract(model, trait, judge=judge, samples=1, folder=run, **options)
    layer = recipe_of(model.name).planted_layer
    planted = layer is not None
    if layer is None:
        layer = choose_layer(scored(vector, model, trait, run, **options)).layer
    pairs = kept_pairs(run, vector)
    found = attribute(model, vector, pairs=pairs, layer=layer, batch_size=batch_size)
    options |= {"judge": judge, "samples": samples, "folder": folder}
    heads = ablation_check(model, found, pairs, trait, **options)
    mlp = ablation_check(model, found, pairs, trait, k=1, kinds=("mlp",), **options) if layer else None
    return AttributionCase(planted, found, heads, mlp)


def attribution_rows(found: Sequence[AttributionCase]) -> list[tuple[str, ...]]:
    """Cells under `HEADINGS`."""
    return [_row(case) for case in found]


def _row(case: AttributionCase) -> tuple[str, ...]:
    found, check = case.attribution, case.heads
    most = ", ".join(f"{each.component} {each.share.value or 0:.2f}" for each in found.top(_NAMED))
    drawn = [arm.point for arm in check.random]
    return (
        found.model.removeprefix("organism-"),
        found.trait,
        f"{found.layer}{'' if case.planted else ' (not planted)'}",
        most,
        f"{found.share_of('head'):.2f}, {found.share_of('mlp'):.2f}",
        f"{len(check.top.components)} of {sum(component.kind == 'head' for component in found.components)} heads",
        _score(check.top.point),
        _score(check.placebo.point),
        f"{_mean([point.trait for point in drawn])} ({_mean([point.coherence for point in drawn])})",
        f"{points(check.excess)}{'' if check.holds else ', not shown'}",
    )


def _score(point: DosePoint) -> str:
    return f"{_mean([point.trait])} ({_mean([point.coherence])})"


def _mean(values: Sequence[float | None]) -> str:
    mean = mean_known(values)
    return "–" if mean is None else f"{mean:.0f}"


def attribution_markdown(found: Sequence[AttributionCase]) -> str:
    """A table for the results page."""
    return "\n".join(markdown_table(HEADINGS, attribution_rows(found))) + "\n"


def _planted_share(case: AttributionCase) -> float | None:
    """Of the difference, what the components of the planted block write; None where one of them is not known."""
    whole = case.attribution
    shares = [each.share.value for each in whole.contributions if each.component.layer == whole.layer]
    return None if None in shares else sum(share for share in shares if share is not None)


def attribution_summary(found: Sequence[AttributionCase]) -> str:
    """In how many cases the checks hold, in one paragraph."""
    held = sum(case.heads.holds for case in found)
    own = [share for case in found if case.planted and (share := _planted_share(case)) is not None]
    first = [case.mlp for case in found if case.mlp is not None and case.mlp.top.components[0].layer == 0]
    coherence = [known for check in first for arm in (check.top, check.placebo) if (known := arm.point.coherence) is not None]
    words = [
        f"Ablating the top heads lowers the trait more than random heads and the placebo do, and leaves language, in {held} of "
        f"{len(found)} cases"
    ]
    if own:
        words.append(f"the planted block itself writes {min(own):.2f} to {max(own):.2f} of the difference")
    if first:
        kept = f"is at most {max(coherence):.0f}" if coherence else "was not judged"
        words.append(
            f"where the MLP of block 0 is the MLP that writes most ({len(first)} cases), coherence {kept} when it writes a mean, "
            "of negative or of positive answers"
        )
    return "; ".join(words) + "."
