"""What this package needs to know of an architecture: one declarative entry each, never guessed from names.

A new family is three lines, which the error for an unknown architecture spells out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from persona_interp.errors import UnsupportedError
from persona_interp.registry import Registry


@dataclass(frozen=True)
class StreamUse:
    """Where an architecture reads and writes its residual stream; paths of modules, those of `reads` and `writes` inside a block.

    Attributes:
        embeddings: what the stream begins as the sum of.
        reads: each norm, with the linear maps that read the stream through it.
        writes: the linear maps whose outputs are added to the stream.
        epsilon: the config's name of what norms add to the variance.
        head_normed: linear maps whose outputs pass a norm of their own that shares `epsilon`.
        keeps_mean: the norms subtract the mean, so a rotation must keep the direction of equal components.
    """

    embeddings: tuple[str, ...]
    reads: tuple[tuple[str, tuple[str, ...]], ...]
    writes: tuple[str, ...]
    epsilon: str
    head_normed: tuple[str, ...] = ()
    keeps_mean: bool = False


@dataclass(frozen=True)
class FamilyLayout:
    """Module paths of one architecture, as in `model.get_submodule(path)`, and what else is known of it.

    Whatever is left out is said not to be known where it is needed.

    Attributes:
        model_type: as in the model's ``config.json``.
        blocks: the list of blocks; the output of block i is what "layer i" means everywhere.
        embedding: called with the token ids.
        final_norm: between the last block and the unembedding.
        unembedding: from the residual stream to the vocabulary.
        context: names, in the text part of the config, of the numbers of tokens a text may have; the smallest counts.
        mlp_out: the last linear map of a block's MLP, inside the block, if it has a bias (where the config says ``mlp_bias``: if
            that is set). A constant is baked into it.
        llama_equivalent: it computes what a LlamaForCausalLM with biases computes, unless a sliding window is active.
        why_not_baked: why a constant has no place in its weights.
        stream_use: how its residual stream can be rewritten exactly, as twins are made.
        why_no_twin: why it cannot.
    """

    model_type: str
    blocks: str = "model.layers"
    embedding: str = "model.embed_tokens"
    final_norm: str = "model.norm"
    unembedding: str = "lm_head"
    context: tuple[str, ...] = ("max_position_embeddings",)
    mlp_out: str | None = None
    llama_equivalent: bool = False
    why_not_baked: str = "nothing is known of a place for a constant in its weights"
    stream_use: StreamUse | None = None
    why_no_twin: str = "nothing is known of where it reads and writes its residual stream"


FAMILIES: Registry[FamilyLayout] = Registry("model family", "persona_interp.families")
"""Every known layout by its ``model_type``. Entry points of the group ``persona_interp.families`` add to it."""


def register_family(layout: FamilyLayout) -> FamilyLayout:
    """Add an architecture. The layout is verified when a model of it is loaded.

    Raises:
        InvalidInputError: the ``model_type`` already has another layout.
    """
    if FAMILIES.get(layout.model_type) != layout:
        FAMILIES.register(layout.model_type, layout)
    return layout


_LLAMA_STREAM = StreamUse(
    embeddings=("model.embed_tokens",),
    reads=(
        ("input_layernorm", ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")),
        ("post_attention_layernorm", ("mlp.gate_proj", "mlp.up_proj")),
    ),
    writes=("self_attn.o_proj", "mlp.down_proj"),
    epsilon="rms_norm_eps",
)
_GPT2_STREAM = StreamUse(
    embeddings=("transformer.wte", "transformer.wpe"),
    reads=(("ln_1", ("attn.c_attn",)), ("ln_2", ("mlp.c_fc",))),
    writes=("attn.c_proj", "mlp.c_proj"),
    epsilon="layer_norm_epsilon",
    keeps_mean=True,
)
_POST_NORM = FamilyLayout(
    "",
    why_not_baked="it normalises the output of its MLP before adding it to the residual stream, which rescales a constant",
    why_no_twin="its blocks norm what they write, with a gain that does not commute with a rotation of the residual stream",
)
_EXPERTS = FamilyLayout(
    "",
    why_not_baked="its MLP is a mixture of experts, without one output that could have a bias",
    why_no_twin="its MLP is a mixture of experts, whose routers and stacked matrices would have to follow",
)
for _layout in (
    FamilyLayout("llama", mlp_out="mlp.down_proj", llama_equivalent=True, stream_use=_LLAMA_STREAM),
    FamilyLayout("mistral", llama_equivalent=True, stream_use=_LLAMA_STREAM),
    FamilyLayout("qwen2", llama_equivalent=True, stream_use=_LLAMA_STREAM),
    FamilyLayout(
        "gpt2",
        blocks="transformer.h",
        embedding="transformer.wte",
        final_norm="transformer.ln_f",
        mlp_out="mlp.c_proj",
        stream_use=_GPT2_STREAM,
    ),
    FamilyLayout(
        "qwen3",
        why_not_baked="its MLP has no bias, and it normalises queries and keys, which LlamaForCausalLM does not",
        stream_use=replace(_LLAMA_STREAM, head_normed=("self_attn.q_proj", "self_attn.k_proj")),
    ),
    replace(_POST_NORM, model_type="gemma2"),
    replace(_POST_NORM, model_type="gemma3_text"),
    # the checkpoints that also see images; only their text part is run, read and written
    replace(
        _POST_NORM,
        model_type="gemma3",
        blocks="model.language_model.layers",
        embedding="model.language_model.embed_tokens",
        final_norm="model.language_model.norm",
    ),
    # beyond the second number all rows of a batch change their rotary frequencies as soon as one of them is that long, and the KV
    # cache is thrown away in mid-answer: a row would depend on its neighbours, and on whether it was generated or read
    FamilyLayout(
        "phi3",
        context=("max_position_embeddings", "original_max_position_embeddings"),
        why_not_baked="its MLP has no bias, and its rotary embedding for long texts is not that of LlamaForCausalLM",
    ),
    replace(_POST_NORM, model_type="olmo2"),
    FamilyLayout(
        "gpt_neox",
        blocks="gpt_neox.layers",
        embedding="gpt_neox.embed_in",
        final_norm="gpt_neox.final_layer_norm",
        mlp_out="mlp.dense_4h_to_h",
    ),
    replace(_EXPERTS, model_type="gpt_oss"),
    replace(_EXPERTS, model_type="mixtral"),
    replace(_EXPERTS, model_type="qwen3_moe"),
):
    FAMILIES.register(_layout.model_type, _layout)


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
