"""What one model makes of the anchors: a row a text and layer, kept in a file so that two models need not be loaded together."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from persona_interp.errors import FileFormatError, InvalidInputError
from persona_interp.models.identity import ModelIdentity
from persona_interp.storage import check_format_version, write_bytes

FORMAT_VERSION = 1
Kind = Literal["states", "effects", "sentences", "words", "prompts"]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""What is read of each anchor, as residuals but for ``effects``:

- ``states``: the mean over the text's tokens, a row a text; ``prompts``: over the prompt's;
- ``sentences``: the mean over each sentence; ``words``: the last token of each word. Rows are found by character, so their number
  does not depend on the tokenizer;
- ``effects``: how the text's log-likelihood changes, in nats, with what is added to the residual stream at all its tokens (a
  gradient: times a direction, the first-order effect of steering along it), a row a text.
"""


@dataclass(frozen=True, eq=False)
class AnchorRows:
    """Rows of one model, read from a file when they are asked for.

    Attributes:
        model: whose.
        anchors: digest of the texts, see `anchors_digest`.
        resid_norms: mean over the texts of the mean norm of single residuals in their answers, one a layer.
        kinds: which rows there are.
        path: the file; None: rows are in memory.
        first_layer: at which what the rows were read with can be steered: 1 for GGUF files. Not kept, because the same weights
            may be run by PyTorch the next time.
    """

    model: ModelIdentity
    anchors: str
    resid_norms: tuple[float, ...]
    kinds: tuple[Kind, ...]
    path: Path | None = None
    _held: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor], repr=False)
    first_layer: int = field(default=0, kw_only=True)

    @property
    def n_layers(self) -> int:
        """Of the model."""
        return self.model.n_layers

    @property
    def steerable_layers(self) -> range:
        """Where a vector can be added."""
        return range(self.first_layer, self.n_layers)

    def rows(self, kind: Kind, layer: int) -> Float[Tensor, "row d_model"]:
        """The rows of one layer, float64.

        Raises:
            InvalidInputError: the model has no such layer, or these rows were not read.
        """
        if kind not in self.kinds or not 0 <= layer < self.n_layers:
            raise InvalidInputError(
                f"{self.model.name} has no {kind} of anchors at layer {layer}: there are {', '.join(self.kinds)} at layers 0 to "
                f"{self.n_layers - 1}"
            )
        return self._tensor(f"{kind}.{layer}").double()

    def texts(self, kind: Kind) -> Int[Tensor, " row"]:
        """Which anchor each row is of."""
        if kind in ("sentences", "words"):
            return self._tensor(f"{kind}.texts").long()
        return torch.arange(len(self.rows(kind, 0)))

    def subset(self, places: Sequence[int]) -> AnchorRows:
        """The rows of some of the anchors, in memory."""
        kept = torch.tensor(list(places), dtype=torch.long)
        digest = hashlib.sha256(f"{self.anchors}/{list(places)}".encode()).hexdigest()[:16]
        held: dict[str, Tensor] = {}
        for kind in self.kinds:
            mine = torch.isin(self.texts(kind), kept)
            held |= {name: self._tensor(name)[mine] for name in self._names(kind)}
        return replace(self, anchors=digest, path=None, _held=held)

    def joined(self, other: AnchorRows) -> AnchorRows:
        """These rows and other kinds of the same model's and anchors', in memory."""
        held = {name: rows._tensor(name) for rows in (self, other) for kind in rows.kinds for name in rows._names(kind)}
        kinds: tuple[Kind, ...] = tuple(kind for kind in KINDS if kind in (*self.kinds, *other.kinds))
        return replace(self, kinds=kinds, path=None, _held=held)

    def _names(self, kind: Kind) -> list[str]:
        """Of the tensors a kind is kept in."""
        names = [f"{kind}.{layer}" for layer in range(self.n_layers)]
        return [*names, f"{kind}.texts"] if kind in ("sentences", "words") else names

    def save(self, path: Path) -> AnchorRows:
        """Write the rows as safetensors; the ones returned read from there."""
        from safetensors.torch import save

        about = {
            "format_version": FORMAT_VERSION,
            "model": self.model.to_json(),
            "anchors": self.anchors,
            "resid_norms": list(self.resid_norms),
            "kinds": list(self.kinds),
        }
        names = [name for kind in self.kinds for name in self._names(kind)]
        write_bytes(path, save({name: self._tensor(name).contiguous() for name in names}, {"anchor_rows": json.dumps(about)}))
        return AnchorRows(self.model, self.anchors, self.resid_norms, self.kinds, path)

    @classmethod
    def load(cls, path: Path) -> AnchorRows:
        """Open a file of `save`; rows are read when asked for.

        Raises:
            FileFormatError: missing, damaged, of another version or no file of rows.
        """
        from safetensors import safe_open

        try:
            with safe_open(str(path), framework="pt") as opened:
                text = (opened.metadata() or {}).get("anchor_rows")
            about: dict[str, Any] = json.loads(text or "{}")
            check_format_version(about, FORMAT_VERSION, str(path))
            norms = tuple(float(value) for value in about["resid_norms"])
            kinds: tuple[Kind, ...] = tuple(kind for kind in KINDS if kind in about["kinds"])
            return cls(ModelIdentity.from_json(about["model"]), str(about["anchors"]), norms, kinds, path)
        except FileFormatError:
            raise
        except Exception as error:
            raise FileFormatError(f"anchor rows {path} cannot be read ({error}): delete the file, they are made again") from error

    def _tensor(self, name: str) -> Tensor:
        if name in self._held:
            return self._held[name]
        from safetensors import safe_open

        try:
            # opened each time, and copied out of the mapping: a file that is held open cannot be replaced on Windows
            with safe_open(str(self.path), framework="pt") as opened:
                return opened.get_tensor(name).clone()
        except Exception as error:
            raise FileFormatError(f"anchor rows {self.path} cannot be read ({error}): delete the file") from error


def held_in_memory(
    model: ModelIdentity,
    anchors: str,
    rows: Mapping[Kind, Tensor],
    resid_norms: Tensor,
    texts: Mapping[Kind, Tensor] | None = None,
) -> AnchorRows:
    """Rows just read, one tensor ``[row layer d_model]`` a kind; `texts` says which anchor each row of sentences and words is of.

    Raises:
        InvalidInputError: a value is NaN or infinite.
    """
    for kind, values in rows.items():
        if not torch.isfinite(values).all():
            raise InvalidInputError(
                f"{model.name} gives NaN or infinite {kind} for some anchors: load it in float32 or bfloat16, not float16"
            )
    held = {f"{kind}.{layer}": values[:, layer] for kind, values in rows.items() for layer in range(model.n_layers)}
    held |= {f"{kind}.texts": values for kind, values in (texts or {}).items()}
    kinds: tuple[Kind, ...] = tuple(kind for kind in KINDS if kind in rows)
    return AnchorRows(model, anchors, tuple(resid_norms.tolist()), kinds, None, held)
