"""Anchors read by a model, once: the rows are kept on disk, under the model's fingerprint and the texts' digest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from persona_interp.errors import FileFormatError, InvalidInputError, UnsupportedError
from persona_interp.interventions.graph import Capture, InterventionGraph
from persona_interp.locks import locked
from persona_interp.models.chat import TokenisedAnswer
from persona_interp.models.steerable import SteerableModel
from persona_interp.progress import say
from persona_interp.residuals.pooling import ANSWER_NORM
from persona_interp.storage import home, safe_name
from persona_interp.transfers.anchor_rows import AnchorRows, Kind, held_in_memory
from persona_interp.transfers.anchors import Anchor, anchors_digest
from persona_interp.transfers.pooling import token_ends, token_rows

MINIMUM = 50
DEFAULT: tuple[Kind, ...] = ("states", "effects")
"""Anchors below which nothing can be held out."""
_ANSWER = Capture("answer")
_PROMPT = Capture("prompt")
_EVERY = Capture("answer", reduction="none")
_MEANS: dict[Kind, Capture] = {"states": _ANSWER, "prompts": _PROMPT}
_PATIENCE = 60.0
"""Seconds to wait for another process to write its rows."""
_AT_ONCE = 16  # texts whose every position is in memory together


def anchors_folder() -> Path:
    """Where rows are kept: ``anchors`` in the user's data folder."""
    return home() / "anchors"


def read_rows(
    model: SteerableModel,
    anchors: Sequence[Anchor],
    *,
    kinds: Sequence[Kind] = DEFAULT,
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
    known = _loaded(path) if path.exists() else None
    missing = [kind for kind in dict.fromkeys(kinds) if known is None or kind not in known.kinds]
    own: dict[str, Any] = {"model": model.identity, "first_layer": model.first_steerable_layer}  # another may have read them
    if known is not None and not missing:
        return replace(known, **own)
    tokenised = [model.chat.tokenise(anchor.conversation, anchor.text) for anchor in anchors]
    pieces: list[Kind] = [kind for kind in missing if kind in ("sentences", "words")]
    found, texts = _pieces(model, anchors, tokenised, pieces, batch_size)
    wanted: dict[Kind, Capture] = {kind: node for kind, node in _MEANS.items() if kind in missing}
    means, norms = _means(model, tokenised, wanted, None if known is None else known.resid_norms, batch_size)
    found |= means
    if "effects" in missing:
        try:
            found["effects"] = model.likelihood_gradient(tokenised, batch_size=batch_size)
        except UnsupportedError:
            if len(kinds) == 1:
                raise
            say(
                f"note: {model.name} passes no gradients, so its effects are not known: vectors can be carried by its states only"
            )
            if known is not None and not found:
                return replace(known, **own)
    return replace(_kept(held_in_memory(model.identity, digest, found, norms, texts), path), **own)


def _kept(made: AnchorRows, path: Path) -> AnchorRows:
    """`made` and what the file holds by now, which another process may have added to meanwhile, written as one."""
    lock = path.with_name(f".{path.name}.lock")
    with locked(lock, patience=_PATIENCE, what=f"the file {path}", remedy="let that go on, or end it"):
        known = _loaded(path) if path.exists() else None
        return (made if known is None else known.joined(made)).save(path)


def known_rows(fingerprint: str, anchors: Sequence[Anchor], folder: str | Path | None = None) -> AnchorRows | None:
    """The rows of a model that read these anchors before, in whatever dtype, without loading it; None if it did not."""
    pattern = _file(fingerprint, anchors_digest(anchors), folder, "*")
    loaded = (_loaded(path) for path in sorted(pattern.parent.glob(pattern.name)))
    return next((rows for rows in loaded if rows is not None), None)


def _loaded(path: Path) -> AnchorRows | None:
    try:
        return AnchorRows.load(path)
    except FileFormatError as error:
        say(f"note: {error}")
        return None


def _file(fingerprint: str, digest: str, folder: str | Path | None, dtype: str) -> Path:
    return Path(folder or anchors_folder()) / f"{safe_name(fingerprint[:16])}-{digest}-{dtype}.safetensors"


def _means(
    model: SteerableModel,
    tokenised: Sequence[TokenisedAnswer],
    wanted: Mapping[Kind, Capture],
    norms: Sequence[float] | None,
    batch_size: int | None,
) -> tuple[dict[Kind, Float[Tensor, "row layer d_model"]], Float[Tensor, " layer"]]:
    """A row a text of each kind, and the residual norms as an extraction takes them, from the same pass unless they are known."""
    nodes = [*wanted.values(), *([ANSWER_NORM] if norms is None else [])]
    read = model.capture(tokenised, InterventionGraph(tuple(nodes)), batch_size=batch_size) if nodes else []
    if short := sum(any(node not in row for node in wanted.values()) for row in read):
        raise InvalidInputError(f"{short} anchors are of a single token or none: take out texts that short")
    found: dict[Kind, Tensor] = {kind: torch.stack([row[node] for row in read]) for kind, node in wanted.items()}
    if norms is not None:
        return found, torch.tensor(norms, dtype=torch.float64)
    single = [row[ANSWER_NORM][:, 0] for row in read if ANSWER_NORM in row]
    if not single:
        raise InvalidInputError(f"all {len(read)} anchors are of a single token or none: give longer texts")
    return found, torch.stack(single).double().mean(dim=0)


def _pieces(
    model: SteerableModel,
    anchors: Sequence[Anchor],
    tokenised: Sequence[TokenisedAnswer],
    kinds: Sequence[Kind],
    batch_size: int | None,
) -> tuple[dict[Kind, Tensor], dict[Kind, Tensor]]:
    """Rows of words and sentences, and which anchor each is of."""
    rows: dict[Kind, list[Tensor]] = {kind: [] for kind in kinds}
    texts: dict[Kind, list[int]] = {kind: [] for kind in kinds}
    for start in range(0, len(anchors) if kinds else 0, _AT_ONCE):
        chunk = tokenised[start : start + _AT_ONCE]
        read = model.capture(chunk, InterventionGraph((_EVERY,)), batch_size=batch_size)
        for place, (row, residuals) in enumerate(zip(chunk, read, strict=True), start=start):
            if _EVERY not in residuals:
                raise InvalidInputError(f"anchor {place} is of a single token or none: take out texts that short")
            states = residuals[_EVERY].float()
            ends = token_ends(model.chat, row.answer_ids, anchors[place].text)[: states.shape[1]]
            for kind in kinds:
                for tokens in token_rows(kind, anchors[place].text, ends):
                    rows[kind].append(states[:, tokens.start : tokens.stop].mean(dim=1))
                    texts[kind].append(place)
    return {kind: torch.stack(found) for kind, found in rows.items()}, {
        kind: torch.tensor(found) for kind, found in texts.items()
    }
