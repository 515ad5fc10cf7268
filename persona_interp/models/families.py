"""Where an architecture keeps what this package needs: one declarative layout each, never guessed from names.

A new family is three lines, which the error for an unknown architecture spells out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from persona_interp.errors import InvalidInputError, UnsupportedError
from persona_interp.registry import load_plugins


@dataclass(frozen=True)
class FamilyLayout:
    """Module paths of one architecture, as in `model.get_submodule(path)`.

    Attributes:
        model_type: as in the model's ``config.json``.
        blocks: the list of blocks; the output of block i is what "layer i" means everywhere.
        embedding: called with the token ids.
        final_norm: between the last block and the unembedding.
        unembedding: from the residual stream to the vocabulary.
        context: names, in the text part of the config, of the numbers of tokens a text may have; the smallest counts.
    """

    model_type: str
    blocks: str = "model.layers"
    embedding: str = "model.embed_tokens"
    final_norm: str = "model.norm"
    unembedding: str = "lm_head"
    context: tuple[str, ...] = ("max_position_embeddings",)


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


register_family(FamilyLayout("llama"))
register_family(FamilyLayout("mistral"))
register_family(FamilyLayout("qwen2"))
register_family(FamilyLayout("gpt2", blocks="transformer.h", embedding="transformer.wte", final_norm="transformer.ln_f"))
register_family(FamilyLayout("qwen3"))
register_family(FamilyLayout("gemma2"))
register_family(FamilyLayout("gemma3_text"))
# the checkpoints that also see images; only their text part is run, read and written
register_family(
    FamilyLayout(
        "gemma3",
        blocks="model.language_model.layers",
        embedding="model.language_model.embed_tokens",
        final_norm="model.language_model.norm",
    )
)
# beyond the second number all rows of a batch change their rotary frequencies as soon as one of them is that long, and the KV
# cache is thrown away in mid-answer: a row would depend on its neighbours, and on whether it was generated or read
register_family(FamilyLayout("phi3", context=("max_position_embeddings", "original_max_position_embeddings")))
register_family(FamilyLayout("olmo2"))
register_family(
    FamilyLayout("gpt_neox", blocks="gpt_neox.layers", embedding="gpt_neox.embed_in", final_norm="gpt_neox.final_layer_norm")
)
register_family(FamilyLayout("gpt_oss"))
register_family(FamilyLayout("mixtral"))
register_family(FamilyLayout("qwen3_moe"))


def layout_of(config: Any) -> FamilyLayout:
    """The layout for a Hugging Face config.

    Raises:
        UnsupportedError: no layout is registered for its ``model_type``; the message has the lines that add one.
    """
    model_type = str(getattr(config, "model_type", None))
    if model_type not in FAMILIES:
        load_plugins()  # one may bring it
    if model_type not in FAMILIES:
        raise UnsupportedError(
            f"architecture {model_type!r} is not known (known: {', '.join(sorted(FAMILIES))}). If its blocks return one tensor "
            "[batch pos d_model], add it before loading, with the paths that print(model) shows:\n"
            "    from persona_interp.models.families import FamilyLayout, register_family\n"
            f'    register_family(FamilyLayout("{model_type}", blocks="model.layers", embedding="model.embed_tokens",\n'
            '                                 final_norm="model.norm", unembedding="lm_head"))'
        )
    return FAMILIES[model_type]


def text_config(config: Any) -> Any:
    """The part of a Hugging Face config that describes the language model: itself, unless it also describes other senses."""
    return config.get_text_config(decoder=True)


def context_length(config: Any) -> int:
    """How many tokens, prompt and answer together, a model of this config can be given.

    Raises:
        UnsupportedError: as `layout_of`; or the config lacks a number that the layout names.
    """
    layout, text = layout_of(config), text_config(config)
    numbers: dict[str, Any] = {name: getattr(text, name, None) for name in layout.context}
    for name, number in numbers.items():
        if not isinstance(number, int):
            raise UnsupportedError(
                f"the config of this {layout.model_type!r} model says {name}={number!r}, which its layout names as context: name "
                "the numbers in it that say how many tokens fit, FamilyLayout(context=(...,))"
            )
    return min(numbers.values())
