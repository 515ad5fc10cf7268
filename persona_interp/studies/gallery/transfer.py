"""Vectors carried between families of models: what arrives, and whether that was foreseen."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import plotly.graph_objects as go

from persona_interp.storage import read_json
from persona_interp.studies.gallery.entry import GalleryFigure, Step
from persona_interp.studies.gallery.vectors import PLANTED
from persona_interp.studies.plotting.transfers import recovery_figure, support_figure
from persona_interp.studies.transfers import TransferCase

_TRAITS = ("silly", "honest", "optimistic", "polite", "verbose")
_BETWEEN_PLANTED = Step("persona-interp study transfer --output transfer", 40)


def _cases(figure: GalleryFigure, folder: Path) -> list[TransferCase]:
    """Of the figure's files, trait by trait in the order above."""
    found = [TransferCase.from_json(read_json(path, "transfer case"), source=str(path)) for path in figure.files(folder)]
    return sorted(found, key=lambda case: (_TRAITS.index(case.trait), case.source, case.target))


def _recovery(folder: Path) -> go.Figure:
    return recovery_figure(_cases(TRANSFER, folder))


TRANSFER = GalleryFigure(
    name="transfer",
    title="What arrives in another family",
    caption="""Vectors for silly and honest carried between the four planted organisms, each of another family, width, depth
and tokenizer, by 2000 unlabelled texts that both read. Recovery is the slope of the trait score under the carried vector over
that under the target's own, at perturbation ratios of ±0.2 and ±0.4 on twenty evaluation questions with two answers each; 95 %
intervals over questions.

Controls at the same ratios: random directions, shuffled anchors, entries cut or padded, the other trait's vector, the layer at
equal relative depth; and system prompts without steering, which do as much as native steering or more. The method was developed
on these organisms: these are not held-out numbers for it.""",
    steps=(_BETWEEN_PLANTED,),
    data=tuple(
        f"transfer/{source}_{target}_{trait}.json" for trait in _TRAITS[:2] for source, target in permutations(PLANTED, 2)
    ),
    draw=_recovery,
)


SUPPORT = GalleryFigure(
    name="support",
    title="Support foresees what arrives, mostly",
    caption="""Each marker is a vector carried between two organisms, of all five traits and with the natural organism; open
where the texts that show the trait were left out of the anchors. Across: how far the anchors support the vector, which the
report of a transfer says before anything is generated. Up: what then arrived. Dotted: where the warning is due.

Without the trait's style among the anchors little arrives, and support says so. It does not foresee everything: verbose fails
with supports of 0.44 to 0.64, polite arrives with supports down to 0.02. Thresholds were chosen on silly and honest. Pairs and
intervals, which are wide for the three further traits, are on hover; cases without a defined recovery are left out.""",
    steps=(
        _BETWEEN_PLANTED,
        Step("persona-interp study transfer --traits optimistic polite verbose --output transfer", 60),
        Step(
            "persona-interp study transfer organism-natural organism-gpt2 organism-llama organism-mistral organism-qwen2 "
            "--output transfer",
            25,
        ),
    ),
    data=tuple(f"transfer/*_{trait}.json" for trait in _TRAITS),
    draw=lambda folder: support_figure(_cases(SUPPORT, folder)),
)
