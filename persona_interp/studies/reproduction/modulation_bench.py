"""Model organisms as GGUF files, modulated in every way; as tables, and in words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Unpack

from persona_interp.measure.markdown_table import markdown_table
from persona_interp.measure.modulation import Modulated, modulation_modes
from persona_interp.measure.protocol import Protocol, ProtocolOptions
from persona_interp.models.engines.llama_cpp.model import LlamaCppModel
from persona_interp.models.registry import load_model
from persona_interp.models.steerable import SteerableModel
from persona_interp.organisms.gguf_export import export_gguf
from persona_interp.organisms.trait_texts import resolve_trait
from persona_interp.vectors.layer_choice import choose_layer
from persona_interp.vectors.persona_vector import PersonaVector

FORMAT_VERSION = 1
MEANS_SOMETHING = 0.1
"""Share of the control vector's effect that the low end of an interval must reach for a mode to count as working."""
HEADINGS = (
    "model",
    "trait",
    "mode",
    "negative end",
    "unmodulated",
    "positive end",
    "moves",
    "share of control vector",
    "coherence",
)


def modulation_case(
    name: str,
    trait_name: str,
    vector: PersonaVector,
    other: PersonaVector | None,
    files: Path,
    *,
    load: Callable[[str], SteerableModel] = load_model,
    **options: Unpack[ProtocolOptions],
) -> tuple[Modulated, ...]:
    """Every mode on one model, exported to a float32 GGUF file in `files`, at the layer the vector steers best from layer 1 on.

    `options` say how it is measured, each by its name in `Protocol`; the judge is the grammar's where none is named.

    Raises:
        UnsupportedError: the model cannot be exported.
    """
    source = load(name)
    path = files / f"{source.name}.gguf"
    if not path.exists():
        files.mkdir(parents=True, exist_ok=True)
        export_gguf(source, path)
    trait = resolve_trait(source, trait_name)
    layer = choose_layer(vector, 1).layer
    protocol = Protocol.of({"protocol": Protocol(judge="grammar", folder=files / "answers"), **options})
    with LlamaCppModel(path) as target:
        return modulation_modes(target, source, vector, other, trait, layer, protocol=protocol)


def modulation_rows(found: Sequence[Modulated]) -> tuple[tuple[str, ...], ...]:
    """Cells under `HEADINGS`; placebos are marked."""

    def whole(value: float | None) -> str:
        return "–" if value is None else f"{value:.0f}"

    return tuple(
        (
            each.model.removeprefix("organism-"),
            each.trait,
            f"{each.mode} (placebo)" if each.placebo else each.mode,
            *(whole(value) for value in (each.low, each.base, each.high)),
            f"{whole(each.movement.value)} [{whole(each.movement.low)}, {whole(each.movement.high)}]",
            str(each.share),
            whole(each.coherence),
        )
        for each in found
    )


def modulation_markdown(found: Sequence[Modulated]) -> str:
    """A table for the results page."""
    return "\n".join(markdown_table(HEADINGS, modulation_rows(found))) + "\n"


def overview_markdown(found: Sequence[Modulated]) -> str:
    """A short table for the results page: the range over the models of each mode's share, for each trait."""
    headings = (
        "mode",
        *(f"{trait}, share of control vector" for trait in dict.fromkeys(each.trait for each in found)),
        "coherence",
    )
    rows: list[tuple[str, ...]] = []
    for mode in dict.fromkeys(each.mode for each in found):
        mine = [each for each in found if each.mode == mode]
        spans: list[str] = []
        for trait in dict.fromkeys(each.trait for each in found):
            values = [each.share.value for each in mine if each.trait == trait and each.share.value is not None]
            spans.append(f"{min(values):.2f} to {max(values):.2f}" if values else "–")
        lowest = min((each.coherence for each in mine if each.coherence is not None), default=None)
        name = f"{mode} (placebo)" if mine[0].placebo else mode
        rows.append((name, *spans, "–" if lowest is None else f"{lowest:.0f}"))
    return "\n".join(markdown_table(headings, rows)) + "\n"


def works(each: Modulated, found: Sequence[Modulated]) -> bool:
    """Whether a mode moves its trait the right way, by more than any placebo of the same model and trait does.

    A placebo of unknown effect rules nothing out: then it is not known to work.
    """
    placebos = [other.share for other in found if other.placebo and (other.model, other.trait) == (each.model, each.trait)]
    beside = [abs(share.value) for share in placebos if share.value is not None]
    if each.share.low is None or len(beside) < len(placebos):
        return False
    return each.share.low > max([MEANS_SOMETHING, *beside])


def modulation_summary(found: Sequence[Modulated]) -> str:
    """In how many cases each mode works, in one paragraph."""
    modes = dict.fromkeys(each.mode for each in found if not each.placebo)
    said: list[str] = []
    for mode in modes:
        mine = [each for each in found if each.mode == mode]
        good = [each for each in mine if works(each, found)]
        said.append(f"{mode}: works in {len(good)} of {len(mine)}")
    return (
        f"{'; '.join(said)}. A mode works where the interval of its share of the control vector's effect lies above "
        f"{MEANS_SOMETHING:g} and above every placebo."
    )
