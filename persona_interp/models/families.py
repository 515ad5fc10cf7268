"""Where an architecture keeps what this package needs: one declarative layout each, never guessed from names.

A new family is three lines, which the error for an unknown architecture spells out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from persona_interp.errors import InvalidInputError, UnsupportedError


@dataclass(frozen=True)
class FamilyLayout:
    """Module paths of one architecture, as in `model.get_submodule(path)`.

    Attributes:
        model_type: as in the model's ``config.json``.
        blocks: the list of blocks; the output of block i is what "layer i" means everywhere.
        embedding: called with the token ids.
        final_norm: between the last block and the unembedding.
        unembedding: from the residual stream to the vocabulary.
    """

    model_type: str
    blocks: str = "model.layers"
    embedding: str = "model.embed_tokens"
    final_norm: str = "model.norm"
    unembedding: str = "lm_head"


FAMILIES: dict[str, FamilyLayout] = {}
"""Every known layout by its ``model_type``."""


def register_family(layout: FamilyLayout) -> FamilyLayout:
    """Add an architecture. The layout is verified when a model of it is loaded.

    Raises:
        InvalidInputError: the ``model_type`` already has another layout.
    """
    known = FAMILIES.get(layout.model_type)
    if known is not None and known != layout:
        raise InvalidInputError(
            f"model_type {layout.model_type!r} is already registered as {known}: remove it from FAMILIES first"
        )
    FAMILIES[layout.model_type] = layout
    return layout


for _model_type in ("llama", "mistral", "qwen2"):
    register_family(FamilyLayout(_model_type))
register_family(FamilyLayout("gpt2", blocks="transformer.h", embedding="transformer.wte", final_norm="transformer.ln_f"))


def layout_of(config: Any) -> FamilyLayout:
    """The layout for a Hugging Face config.

    Raises:
        UnsupportedError: no layout is registered for its ``model_type``; the message has the lines that add one.
    """
    model_type = str(getattr(config, "model_type", None))
    if model_type not in FAMILIES:
        raise UnsupportedError(
            f"architecture {model_type!r} is not known (known: {', '.join(sorted(FAMILIES))}). If its blocks return one tensor "
            "[batch pos d_model], add it before loading, with the paths that print(model) shows:\n"
            "    from persona_interp.models.families import FamilyLayout, register_family\n"
            f'    register_family(FamilyLayout("{model_type}", blocks="model.layers", embedding="model.embed_tokens",\n'
            '                                 final_norm="model.norm", unembedding="lm_head"))'
        )
    return FAMILIES[model_type]
