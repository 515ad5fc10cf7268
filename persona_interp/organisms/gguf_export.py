"""Models of this package as GGUF files: what llama.cpp, and everything built on it, runs.

Llama, Mistral, Qwen2 and GPT-2 architectures. At ``f32`` the file holds the same function: texts become the same ids, and logits
agree with PyTorch to the rounding of float32. GPT-2 is the exception: llama.cpp reads its GELU off a table in half precision, so
logits move by some 1e-4 of their size. llama.cpp's own quantizer makes the smaller files.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from persona_interp.errors import InvalidInputError, PersonaInterpError, UnsupportedError
from persona_interp.models.engines.llama_cpp.library import gguf, llama_cpp, quiet_llama
from persona_interp.models.gguf_file import FINGERPRINT, ORGANISM, read_header
from persona_interp.models.steerable import SteerableModel
from persona_interp.organisms.gguf_tokenizer import write_tokenizer
from persona_interp.storage import write_atomically

ARCHITECTURES = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2", "gpt2": "gpt2"}
"""What llama.cpp calls the architecture of each ``model_type``."""
QUANTIZATIONS = {"q8_0": 7, "q5_1": 9, "q4_0": 2}
"""Kinds of `quantize_gguf` and llama.cpp's numbers for them."""
_FILE_TYPES = {"f32": 0, "f16": 1}
KINDS = (*_FILE_TYPES, *QUANTIZATIONS)
"""What `kept_gguf` makes, from the most exact to the coarsest."""
_SMOOTH_GELUS = ("gelu_new", "gelu_pytorch_tanh")
_BUFFERS = (".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq")


def export_gguf(model: SteerableModel, path: str | Path, *, dtype: str = "f32") -> Path:
    """Write `model` with its tokenizer and chat template to a GGUF file; returns the path.

    Example:
        >>> export_gguf(load_model("organism-qwen2"), "organism-qwen2.gguf")

    Args:
        model: of one of `ARCHITECTURES`, with a byte-level BPE tokenizer.
        path: where to; written whole or not at all.
        dtype: of matrices, ``f32`` or ``f16``, which rounds what was float32; vectors (norms, biases) are float32 always.

    Raises:
        UnsupportedError: llama.cpp cannot compute what the model does, or cut text as its tokenizer does; names the part.
        InvalidInputError: an unknown dtype.
        MissingExtraError: the extra ``gguf`` is not installed.
    """
    if dtype not in _FILE_TYPES:
        raise InvalidInputError(f"dtype {dtype!r} is not one of {', '.join(_FILE_TYPES)}: quantize_gguf() makes smaller files")
    config: Any = model.config
    _check_supported(config, model.name)
    with torch.no_grad():
        tensors = [(name, _as(value, name, dtype)) for name, value in _tensors(model)]
    library = gguf()

    def write(target: Path) -> None:
        writer = library.GGUFWriter(str(target), ARCHITECTURES[config.model_type])
        writer.add_type("model")
        writer.add_name(model.name)
        writer.add_file_type(_FILE_TYPES[dtype])
        writer.add_quantization_version(2)
        _write_shape(writer, config)
        write_tokenizer(writer, model.tokenizer, config.vocab_size)
        if _exact(model, dtype):
            writer.add_string(FINGERPRINT, model.identity.fingerprint)
        if getattr(config, "organism", None):
            writer.add_string(ORGANISM, config.organism)
        for name, value in tensors:
            writer.add_tensor(name, value.contiguous().numpy())
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()

    return write_atomically(Path(path), write)


def quantize_gguf(path: str | Path, out: str | Path, kind: str) -> Path:
    """Let llama.cpp quantize a float GGUF model to ``q8_0``, ``q5_1`` or ``q4_0``; returns `out`.

    Matrices whose rows do not divide by 32 become float16; an embedding that is the unembedding too becomes ``q8_0`` at least.

    Raises:
        InvalidInputError: an unknown kind, or `out` is `path`.
        FileFormatError: `path` is no whole GGUF file.
        PersonaInterpError: llama.cpp refuses it; says its reason.
    """
    path, out = Path(path), Path(out)
    if kind not in QUANTIZATIONS:
        raise InvalidInputError(f"quantization {kind!r} is not one of {', '.join(QUANTIZATIONS)}")
    if out.resolve() == path.resolve():
        raise InvalidInputError(f"cannot quantize {path} in place: give another file to write to")
    read_header(path).required("general.architecture", str)
    library = llama_cpp()
    settings = library.llama_model_quantize_default_params()
    settings.ftype = QUANTIZATIONS[kind]

    def write(target: Path) -> None:
        with quiet_llama() as words:
            failed = library.llama_model_quantize(bytes(path), bytes(target), settings)
        if failed:
            raise PersonaInterpError(f"llama.cpp could not quantize {path} to {kind}: {words}. Give a float32 or float16 model")

    return write_atomically(out, write)


def kept_gguf(model: SteerableModel, folder: str | Path, kind: str) -> Path:
    """The file of one of `KINDS` for these very weights in `folder`, made where it is not there.

    Raises:
        InvalidInputError: an unknown kind; also as `export_gguf` and `quantize_gguf`.
    """
    if kind not in KINDS:
        raise InvalidInputError(f"kind {kind!r} is not one of {', '.join(KINDS)}")
    path = Path(folder) / f"{Path(model.name).name}-{model.identity.fingerprint[:8]}-{kind}.gguf"
    if path.exists():
        return path
    return (
        export_gguf(model, path, dtype=kind)
        if kind in _FILE_TYPES
        else quantize_gguf(kept_gguf(model, folder, "f32"), path, kind)
    )


def _check_supported(config: Any, name: str) -> None:
    """Refuse what llama.cpp would silently compute otherwise."""
    kind = config.model_type
    if kind not in ARCHITECTURES:
        raise UnsupportedError(
            f"{name} is of architecture {kind!r}; {', '.join(ARCHITECTURES)} can be written as GGUF: use llama.cpp's own "
            "converter for others"
        )
    problem = None
    if kind == "gpt2":
        if config.activation_function not in _SMOOTH_GELUS:
            problem = f"the activation {config.activation_function!r}"
        elif config.scale_attn_by_inverse_layer_idx or not config.scale_attn_weights or config.add_cross_attention:
            problem = "attention scaled by layer, unscaled, or across to an encoder"
    else:
        rope = getattr(config, "rope_parameters", None) or {}
        window = config.sliding_window if getattr(config, "use_sliding_window", True) and kind != "llama" else None
        if config.hidden_act != "silu":
            problem = f"the activation {config.hidden_act!r}"
        elif rope.get("rope_type", "default") != "default":
            problem = f"rotary positions of type {rope['rope_type']!r}"
        elif window is not None and window < config.max_position_embeddings:
            problem = f"a sliding window of {window} tokens"
    if problem:
        raise UnsupportedError(f"{name} has {problem}, which export_gguf cannot write: use llama.cpp's own converter")


def _write_shape(writer: Any, config: Any) -> None:
    writer.add_block_count(config.num_hidden_layers)
    writer.add_embedding_length(config.hidden_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_head_count(config.num_attention_heads)
    writer.add_vocab_size(config.vocab_size)
    if config.model_type == "gpt2":
        writer.add_feed_forward_length(config.n_inner or 4 * config.hidden_size)
        writer.add_layer_norm_eps(config.layer_norm_epsilon)
        return
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_rope_dimension_count(head_dim)
    writer.add_rope_freq_base(float(config.rope_parameters["rope_theta"]))


def _tensors(model: SteerableModel) -> Iterator[tuple[str, Tensor]]:
    """Every weight under llama.cpp's name, laid out as llama.cpp multiplies it."""
    library, config = gguf(), model.config
    architecture = {name: key for key, name in library.MODEL_ARCH_NAMES.items()}[ARCHITECTURES[config.model_type]]
    names = library.get_tensor_name_map(architecture, config.num_hidden_layers)
    unembedding = f"{model.layout.unembedding}.weight"
    for name, value in model.hf_model.state_dict().items():
        if name.endswith(_BUFFERS) or (name == unembedding and config.tie_word_embeddings):
            continue
        known = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if known is None:
            raise UnsupportedError(f"{model.name} has a weight {name!r} that llama.cpp has no name for: it cannot be exported")
        yield known, _laid_out(value.detach().cpu(), name, config)


def _laid_out(value: Tensor, name: str, config: Any) -> Tensor:
    if config.model_type == "gpt2":  # its linear layers are stored input first
        return value.T if value.dim() == 2 and ".h." in name else value
    if config.model_type in ("llama", "mistral") and (".q_proj." in name or ".k_proj." in name):
        heads = config.num_attention_heads if ".q_proj." in name else config.num_key_value_heads
        return _interleaved(value, heads)
    return value


def _interleaved(value: Tensor, heads: int) -> Tensor:
    """Rows reordered within each head: rotary pairs, half a head apart in Hugging Face's Llama, lie side by side here."""
    from einops import rearrange

    return rearrange(value, "(head half pair) ... -> (head pair half) ...", head=heads, half=2)


def _as(value: Tensor, name: str, dtype: str) -> Tensor:
    half = dtype == "f16" and value.dim() > 1 and name != "position_embd.weight"  # added, not multiplied: llama.cpp wants float32
    return value.to(torch.float16 if half else torch.float32)


def _exact(model: SteerableModel, dtype: str) -> bool:
    """Whether the file holds the very weights of the model, whose fingerprint it may then carry."""
    if dtype == "f32":
        return True
    return all(bool((value.to(torch.float16).float() == value.float()).all()) for value in model.hf_model.parameters())
