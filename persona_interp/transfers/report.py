"""What a transfer did and rests on, and what should be doubted about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from persona_interp.html_table import Cell, html_table
from persona_interp.models.identity import ModelIdentity
from persona_interp.transfers.coverage import ENOUGH, Coverage

FORMAT_VERSION = 1


@dataclass(frozen=True)
class LayerFit:
    """One layer of the target.

    Attributes:
        layer: 0-based block.
        score: what layers were compared by, see `Carried`.
        quality: of the map, on held-out anchors.
    """

    layer: int
    score: float
    quality: Mapping[str, float]


@dataclass(frozen=True)
class TransferReport:
    """How a vector came into the target. Nothing here was generated, and nothing of the trait was read in the target.

    Attributes:
        trait: name of the trait.
        source: model the vector was extracted from.
        target: model it is for.
        method: the alignment.
        layer_map: how the target's layer was chosen.
        calibration: how the length was chosen.
        source_layer: 0-based block the direction was taken from.
        target_layer: 0-based block it is meant for.
        layers: every layer of the target that was tried.
        coverage: what the anchors cover of the direction.
        kind: rows the method was fitted on, ``states`` or ``effects``.
        n_anchors: texts both models read.
        provenance: anchors' digest, versions.
        choice_quality: what to expect of the map at the layer chosen by its score: of a layer picked on one half of the held-out
            anchors, its quality on the other half. None where the layer was not picked so.
    """

    trait: str
    source: ModelIdentity
    target: ModelIdentity
    method: str
    layer_map: str
    calibration: str
    source_layer: int
    target_layer: int
    layers: tuple[LayerFit, ...]
    coverage: Coverage
    kind: str
    n_anchors: int
    provenance: Mapping[str, Any] = field(default_factory=dict[str, Any])
    choice_quality: Mapping[str, float] | None = None

    @property
    def quality(self) -> Mapping[str, float]:
        """Of the map at the layer the vector is meant for, by anchors that neither fitted it nor picked the layer."""
        return self.chosen.quality if self.choice_quality is None else self.choice_quality

    @property
    def chosen(self) -> LayerFit:
        """The layer the vector is meant for."""
        return next(each for each in self.layers if each.layer == self.target_layer)

    @property
    def support(self) -> float | None:
        """What the anchors can be expected to carry; see `Coverage.support`."""
        return self.coverage.support(self.kind, self.quality)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What speaks against expecting an effect, in words; empty where nothing does."""
        found: list[str] = []
        support, enough = self.support, ENOUGH[self.kind]
        if support is not None and support < enough:
            what = "do to these anchors little more than chance" if self.kind == "effects" else "hardly vary in these anchors"
            found.append(
                f"the anchors' support is {support:.2f} (below {enough:g}): pushes along {self.trait!r} {what}, so there is "
                "little to carry it by. Give anchors in which texts of that style occur; no label is needed"
            )
        if self.method == "naive":
            found.append("entries were only cut or padded: two models share no basis, so this is a control")
        return tuple(found)

    def reason(self) -> str:
        """One line for the person steering."""
        quality = ", ".join(f"{name.replace('_', ' ')} {value:.2f}" for name, value in self.quality.items())
        return (
            f"{self.trait} of {self.source.name}, layer {self.source_layer}, carried to {self.target.name}, "
            f"layer {self.target_layer}, by {self.method} over {self.n_anchors} anchors (held out: {quality}; "
            f"layer by {self.layer_map})"
        )

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        said = {"support": self.support, "warnings": list(self.warnings), "reason": self.reason()}
        return {"format_version": FORMAT_VERSION, **asdict(self), "layers": [asdict(each) for each in self.layers], **said}

    def _repr_html_(self) -> str:
        """In a notebook: what was carried where, what is doubtful about it, and a row for each layer tried."""
        columns: dict[str, list[Cell]] = {
            "layer": [each.layer for each in self.layers],
            "score": [each.score for each in self.layers],
        }
        for name in self.chosen.quality:
            columns[name.replace("_", " ")] = [each.quality[name] for each in self.layers]
        title = " ".join([self.reason() + ".", *(f"Warning: {warning}." for warning in self.warnings)])
        return html_table(title, columns, bars="score", best=self.layers.index(self.chosen))
