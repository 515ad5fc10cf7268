"""Anchors read by a model, once: the rows are kept on disk, under the model's fingerprint and the texts' digest."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from persona_interp.errors import FileFormatError, InvalidInputError, UnsupportedError
from persona_interp.interventions.graph import Capture, InterventionGraph
from persona_interp.models.chat import TokenisedAnswer
from persona_interp.models.steerable import SteerableModel
from persona_interp.progress import say
from persona_interp.storage import home, safe_name
from persona_interp.transfers.anchor_rows import KINDS, AnchorRows, Kind, held_in_memory
from persona_interp.transfers.anchors import Anchor, anchors_digest

MINIMUM = 50
"""Anchors below which nothing can be held out."""
_ANSWER = Capture("answer")
_EVERY = Capture("answer", reduction="none")
_FOR_NORMS = 64


def anchors_folder() -> Path:
    """Where rows are kept: ``anchors`` in the user's data folder."""
    return home() / "anchors"


def read_rows(
    model: SteerableModel,
    anchors: Sequence[Anchor],
    *,
    kinds: Sequence[Kind] = KINDS,
    folder: str | Path | None = None,
    batch_size: int | None = None,
) -> AnchorRows:
    """What `model` makes of the anchors, from the file if they were read before.

    States need one forward pass over the texts, effects one forward and one backward pass.

    Args:
        model: any.
        anchors: texts; too long for the model's context: an error names how many.
        kinds: which rows; effects are left out, with a note, where the model passes no gradient (remote, GGUF, some quantized).
        folder: of the files; None: the user's data folder.
        batch_size: rows run together; None lets the model choose.

    Raises:
        InvalidInputError: fewer than 50 anchors, or as `SteerableModel.capture`.
    """
    if len(anchors) < MINIMUM:
        raise InvalidInputError(f"{len(anchors)} anchors are too few to hold some out: give at least {MINIMUM}")
    digest = anchors_digest(anchors)
    path = _file(model.identity.fingerprint, digest, folder, str(model.dtype).rpartition(".")[2])
    if path.exists():
        try:
            known = AnchorRows.load(path)
            if set(kinds) <= set(known.kinds):
                return known
        except FileFormatError as error:
            say(f"note: {error}")
    tokenised = [model.chat.tokenise(anchor.conversation, anchor.text) for anchor in anchors]
    found: dict[Kind, Tensor] = {}
    if "states" in kinds:
        found["states"] = _states(model, tokenised, batch_size)
    if "effects" in kinds:
        try:
            found["effects"] = model.likelihood_gradient(tokenised, batch_size=batch_size)
        except (UnsupportedError, AttributeError) as error:
            if len(kinds) == 1:
                raise
            say(f"note: no effects of {model.name} ({error}); vectors can be carried by its states only")
    return held_in_memory(model.identity, digest, found, _norms(model, tokenised, batch_size)).save(path)


def known_rows(fingerprint: str, anchors: Sequence[Anchor], folder: str | Path | None = None) -> AnchorRows | None:
    """The rows of a model that read these anchors before, in whatever dtype, without loading it; None if it did not."""
    pattern = _file(fingerprint, anchors_digest(anchors), folder, "*")
    for path in sorted(pattern.parent.glob(pattern.name)):
        try:
            return AnchorRows.load(path)
        except FileFormatError as error:
            say(f"note: {error}")
    return None


def _file(fingerprint: str, digest: str, folder: str | Path | None, dtype: str) -> Path:
    return Path(folder or anchors_folder()) / f"{safe_name(fingerprint[:16])}-{digest}-{dtype}.safetensors"


def _states(model: SteerableModel, tokenised: Sequence[TokenisedAnswer], batch_size: int | None) -> Tensor:
    read = model.capture(tokenised, InterventionGraph((_ANSWER,)), batch_size=batch_size)
    if short := sum(_ANSWER not in row for row in read):
        raise InvalidInputError(f"{short} anchors are of a single token or none: take out texts that short")
    return torch.stack([row[_ANSWER] for row in read])


def _norms(model: SteerableModel, tokenised: Sequence[TokenisedAnswer], batch_size: int | None) -> Tensor:
    read = model.capture(tokenised[:_FOR_NORMS], InterventionGraph((_EVERY,)), batch_size=batch_size)
    return torch.cat([row[_EVERY].double().norm(dim=-1) for row in read if _EVERY in row], dim=1).mean(dim=1)
