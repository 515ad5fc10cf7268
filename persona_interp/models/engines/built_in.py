"""The engines that come with the package. Each is loaded when a model is, so that listing them is cheap."""

from __future__ import annotations

from typing import Any, NoReturn

from persona_interp.errors import UnsupportedError
from persona_interp.models.engines.capabilities import ENDPOINT, LLAMA_CPP, TORCH, TRANSFORMER_LENS, VLLM
from persona_interp.models.engines.registry import register_engine
from persona_interp.models.source import ModelSource


def _torch(source: ModelSource, options: Any, tokenizer: Any, remote: bool | str) -> Any:
    from persona_interp.models.engines.nnsight.opening import open_model

    return open_model(source, options, tokenizer, remote)


def _llama_cpp(source: ModelSource, options: Any, tokenizer: Any, remote: bool | str) -> Any:
    from persona_interp.models.engines.llama_cpp.model import LlamaCppModel
    from persona_interp.models.gguf_options import refuse_in_llama_cpp

    refuse_in_llama_cpp(source.location, options, tokenizer, remote)
    return LlamaCppModel(source.location, name=source.name)


def _vllm(source: ModelSource, options: Any, tokenizer: Any, remote: bool | str) -> Any:
    from persona_interp.models.engines.vllm.opening import open_model

    return open_model(source, options, tokenizer, remote)


def _transformer_lens(source: ModelSource, options: Any, tokenizer: Any, remote: bool | str) -> Any:
    from persona_interp.models.bridge import require_transformer_lens
    from persona_interp.models.engines.transformer_lens import BridgeEngine
    from persona_interp.models.steerable import SteerableModel

    require_transformer_lens()
    whole = _torch(source, options, tokenizer, remote)
    engine = BridgeEngine(whole.engine, whole.bridge())
    return SteerableModel(engine, whole.tokenizer, name=whole.name, revision=whole.revision, chat=whole.chat)


def _endpoint(source: ModelSource, options: Any, tokenizer: Any, remote: bool | str) -> NoReturn:
    raise UnsupportedError(
        f"{source.location} is a server, which takes conversations and shows nothing of its inside: ask it through "
        "persona_interp.blackbox.endpoint.EndpointModel, or persona-interp modulate --model URL"
    )


def _is_url(source: ModelSource) -> bool:
    return source.location.startswith(("http://", "https://"))


register_engine(
    "torch",
    opens=lambda source: source.gguf or source.is_hugging_face,
    load=_torch,
    capabilities=TORCH,
    runs="Hugging Face models, GGUF files",
)
register_engine("llama.cpp", opens=lambda source: source.gguf, load=_llama_cpp, capabilities=LLAMA_CPP, runs="GGUF files")
register_engine(
    "transformer_lens",
    opens=lambda source: source.gguf or source.is_hugging_face,
    load=_transformer_lens,
    capabilities=TRANSFORMER_LENS,
    runs="Hugging Face models, GGUF files",
)
register_engine(
    "vllm",
    opens=lambda source: source.gguf or source.is_hugging_face,
    load=_vllm,
    capabilities=VLLM,
    runs="Hugging Face models, GGUF files",
)
register_engine("endpoint", opens=_is_url, load=_endpoint, capabilities=ENDPOINT, runs="OpenAI-compatible servers")
