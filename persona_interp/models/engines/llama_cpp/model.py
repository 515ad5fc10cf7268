"""`LlamaCppModel`: a GGUF file with the verbs of a `SteerableModel`, run by llama.cpp."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from persona_interp.errors import FileFormatError, InvalidInputError, UnsupportedError
from persona_interp.models.chat import ChatFormat
from persona_interp.models.engines.llama_cpp.engine import LlamaEngine
from persona_interp.models.engines.llama_cpp.library import llama_cpp
from persona_interp.models.engines.llama_cpp.session import LlamaWeights
from persona_interp.models.engines.llama_cpp.tokenizer import LlamaTokenizer
from persona_interp.models.engines.protocol import ModelConfig
from persona_interp.models.gguf_file import FINGERPRINT, ORGANISM, GgufHeader, file_fingerprint
from persona_interp.models.gguf_pieces import read_model_header
from persona_interp.models.names import gguf_names
from persona_interp.models.steerable import SteerableModel

_FLOATS = {0: torch.float32, 1: torch.float16, 30: torch.bfloat16}


class LlamaCppModel(SteerableModel):
    """A causal language model in a GGUF file, whose residual stream llama.cpp reads and writes.

    The verbs, their arguments and results are those of a `SteerableModel`, so whatever is written over one runs on the other. Its
    graphs may add vectors at layers from 1 on, at all, prompt or response positions and at chosen rows; everything else raises
    `UnsupportedError` before anything runs, and so does what needs gradients or the unembedding alone.

    Example:
        >>> with LlamaCppModel("organism-qwen2-q8_0.gguf") as model:
        ...     answers = model.generate([Conversation.ask("How are you?")], graph=vector.graph(1.5, layers=[3]))

    Args:
        path: the file; of a model in several pieces the first one.
        n_ctx: tokens a text may have, prompt and answer together; None: as many as the model was made for.
        n_threads: to compute with; None: as many as PyTorch.
        name: how results call it; None: the file's name without its ending.

    Raises:
        FileFormatError: the file is missing, damaged, cut short, or no language model; llama.cpp refuses it or crashes on it.
        UnsupportedError: a recurrent model, or one that does not generate.
        InvalidInputError: `n_ctx` or `n_threads` below 1, or `n_ctx` above what the model was made for.
        MissingExtraError: the extra ``gguf`` is not installed.
    """

    def __init__(
        self, path: str | Path, *, n_ctx: int | None = None, n_threads: int | None = None, name: str | None = None
    ) -> None:
        self.path = Path(path)
        name, header = name or self.path.stem, read_model_header(self.path)
        config = _config(header, name)
        most = config.max_position_embeddings
        n_ctx = most if n_ctx is None else n_ctx
        threads = torch.get_num_threads() if n_threads is None else n_threads
        if not 1 <= n_ctx <= most or threads < 1:
            raise InvalidInputError(
                f"n_ctx is {n_ctx} and n_threads {threads}: {name} takes 1 to {most} tokens and at least 1 thread"
            )
        weights = LlamaWeights(self.path)
        try:
            _check_kind(weights, name)
            tokenizer = LlamaTokenizer(weights.vocab, header.metadata, name)
            engine = LlamaEngine(weights, config, _dtype(header), _fingerprints(header), n_ctx=n_ctx, n_threads=threads)
            super().__init__(engine, tokenizer, name=name, chat=_chat_format(tokenizer, self.path))
        except BaseException:
            weights.close()
            raise


def _chat_format(tokenizer: LlamaTokenizer, path: Path) -> ChatFormat:
    try:
        return ChatFormat(tokenizer, SimpleNamespace(eos_token_id=tokenizer.end_ids))
    except FileFormatError as error:
        raise FileFormatError(f"GGUF file {path}: {error}") from error


def _fingerprints(header: GgufHeader) -> tuple[str, str]:
    """Of the weights and of the file.

    A float file that this package exported has the fingerprint of the PyTorch model it was made from, because it holds the
    same weights; any other file one of its own.
    """
    stated, file = header.metadata.get(FINGERPRINT), file_fingerprint(header)
    exact = isinstance(stated, str) and all(tensor.kind in _FLOATS for tensor in header.tensors)
    return str(stated) if exact else file, file


def _dtype(header: GgufHeader) -> torch.dtype:
    kinds = {tensor.kind for tensor in header.tensors if len(tensor.shape) > 1 and tensor.name != "position_embd.weight"}
    return torch.float32 if kinds == {0} else torch.float16


def _config(header: GgufHeader, name: str) -> ModelConfig:
    """The shape of the model.

    Raises:
        FileFormatError: the file holds no language model, or lacks a number.
    """
    architecture, kind = header.required("general.architecture", str), header.metadata.get("general.type", "model")
    if kind != "model" or architecture in ("controlvector", "clip", "imatrix") or not header.tensors:
        what = architecture if kind == "model" else kind
        raise FileFormatError(f"{header.path} is a GGUF file of kind {what!r}, not a language model: give the model's own file")
    heads, kv_heads = (_largest(header, f"{architecture}.attention.{key}") for key in ("head_count", "head_count_kv"))
    tokens = header.required("tokenizer.ggml.tokens", list)
    organism = header.metadata.get(ORGANISM)
    config = ModelConfig(
        model_type=architecture,
        name_or_path=name,
        hidden_size=header.required(f"{architecture}.embedding_length", int),
        num_hidden_layers=header.required(f"{architecture}.block_count", int),
        num_attention_heads=heads or 1,
        num_key_value_heads=kv_heads or heads or 1,
        max_position_embeddings=header.required(f"{architecture}.context_length", int),
        vocab_size=len(tokens),
        organism=organism if isinstance(organism, str) else None,
        called=gguf_names(header.metadata),
    )
    numbers = (config.hidden_size, config.num_hidden_layers, config.max_position_embeddings, config.vocab_size)
    if min(numbers) < 1:
        raise FileFormatError(f"GGUF file {header.path} describes an empty model {numbers}: download or export it again")
    return config


def _largest(header: GgufHeader, key: str) -> int:
    """A number, or the largest of those that a file gives layer by layer."""
    value: Any = header.metadata.get(key, 0)
    values: list[Any] = value.tolist() if isinstance(value, np.ndarray) else [value]
    if not all(isinstance(number, int) and number >= 0 for number in values):
        raise FileFormatError(f"GGUF file {header.path}: {key!r} is {value!r:.60}, expected numbers: download or export it again")
    return max(values, default=0)


def _check_kind(weights: LlamaWeights, name: str) -> None:
    library, handle = llama_cpp(), weights.handle
    for refused, what in (
        (library.llama_model_is_recurrent(handle), "is recurrent"),
        (library.llama_model_is_hybrid(handle), "is partly recurrent"),
        (library.llama_model_is_diffusion(handle), "generates by diffusion"),
        (library.llama_model_has_encoder(handle), "has an encoder"),
        (not library.llama_model_has_decoder(handle), "does not generate"),
    ):
        if refused:
            raise UnsupportedError(f"{name} {what}; only transformers that generate token by token can be read and steered here")
