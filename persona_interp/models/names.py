"""What models are called: which names mean one model, and which of them name an architecture only."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from persona_interp.models.families import text_config

_QUANTIZED = re.compile(
    r"[-.](gguf|ggml|i?q\d(-[0-9a-z]{1,3})*|tq\d-\d|mxfp4|nvfp4|b?f(p)?(8|16|32)|int[48]|[48]-?bit|bnb|awq|gptq|exl2|mlx|i1)$"
)
_ALIASES = {
    "mistral": "llama", "mixtral": "llama", "phi": "phi2", "cohere": "commandr", "deepseekv2": "deepseek2",
    "deepseekv3": "deepseek2",
}  # fmt: skip
"""Architectures that llama.cpp calls otherwise than transformers does."""


def normalised_name(name: str) -> str:
    """A model's name without its owner or folder and in lower case: ``Qwen/Qwen2.5-7B-Instruct`` -> ``qwen2.5-7b-instruct``."""
    return re.split(r"[/\\]", name.rstrip("/\\"))[-1].lower()


def same_name(first: str, second: str, *, form: bool = True) -> bool:
    """Whether two names mean one model: the last parts agree, and the owners do not differ where both have one.

    Args:
        first: a hub id, a folder's or a file's name.
        second: likewise.
        form: False: whatever form the weights are in, so that ``Qwen2.5-7B-Instruct-Q4_K_M`` is ``Qwen/Qwen2.5-7B-Instruct``.
    """
    owners = {owner for owner in map(_owner, (first, second)) if owner}
    names = [normalised_name(name) if form else formless_name(name) for name in (first, second)]
    return names[0] == names[1] and bool(names[0]) and len(owners) < 2


def formless_name(name: str) -> str:
    """A normalised name without what says how the weights are quantized."""
    found = re.sub(r"[\s_]+", "-", normalised_name(name))
    while (shorter := _QUANTIZED.sub("", found)) != found:
        found = shorter
    return found


def _owner(name: str) -> str:
    parts = name.lower().split("/")
    return parts[0] if len(parts) == 2 and parts[0] not in ("", ".", "..", "~") else ""


def gguf_names(metadata: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What a GGUF file calls its model, and the models it says that was made from."""

    def said(key: str) -> str:
        value = metadata.get(f"general.{key}")
        return value if isinstance(value, str) else ""

    parts = [said(key) for key in ("basename", "size_label", "finetune")]
    own = (said("name"), "-".join(part for part in parts if part) if parts[0] else "")
    bases: list[str] = []
    count = metadata.get("general.base_model.count")
    for number in range(count if isinstance(count, int) else 0):
        url, name, owner = (said(f"base_model.{number}.{key}") for key in ("repo_url", "name", "organization"))
        bases.append("/".join(url.rstrip("/").split("/")[-2:]) if url else f"{owner}/{name}" if owner else name)
    return tuple(filter(None, own)), tuple(filter(None, bases))


def hf_names(config: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """As `gguf_names`, of a Hugging Face model.

    It has no name of its own, for what was loaded may have been changed since; it was made from that, and from the models that
    the card beside its weights names.
    """
    path = str(getattr(config, "_name_or_path", "") or "")
    if not path:
        return (), ()
    folder = Path(path)
    card = folder / "README.md"
    if folder.is_dir():
        return (), (folder.resolve().name, *(_bases_in(card) if card.is_file() else ()))
    return (), (path,)


def _bases_in(card: Path) -> tuple[str, ...]:
    from huggingface_hub import metadata_load

    try:
        found = (metadata_load(card) or {}).get("base_model") or ()
    except Exception:  # a card is written by hand: whatever is wrong with it, it only says nothing
        return ()
    return tuple(str(name) for name in ([found] if isinstance(found, str) else found))


def architecture_of(config: Any) -> str:
    """The architecture a configuration names, in the form of `canonical_architecture`."""
    return canonical_architecture(str(getattr(text_config(config), "model_type", "") or ""))


def canonical_architecture(name: str) -> str:
    """One name for what llama.cpp and transformers call an architecture; of two files that agree here one may still not fit."""
    plain = re.sub(r"[-_]", "", name.lower().removesuffix("_text"))
    return _ALIASES.get(plain, plain)


def is_architecture(name: str) -> bool:
    """Whether `name` is that of an architecture, to llama.cpp or to transformers, and so says nothing of whose weights."""
    return canonical_architecture(name) in _architectures()


@cache
def _architectures() -> frozenset[str]:
    from transformers import CONFIG_MAPPING

    from persona_interp.models.engines.llama_cpp.library import gguf

    return frozenset(canonical_architecture(name) for name in (*CONFIG_MAPPING.keys(), *gguf().MODEL_ARCH_NAMES.values()))
