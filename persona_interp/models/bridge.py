"""The weights of a loaded model seen through TransformerLens: its hook names, caches and tools on the very same tensors.

TransformerLens builds its bridge into the module tree it is given and switches that tree to eager attention. So it is given a
tree of its own here, whose parameters are those of the user's model: that model keeps its modules, its config and its attention.
"""

from __future__ import annotations

import copy
import logging
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn

from persona_interp.errors import MissingExtraError, UnsupportedError, missing_extra
from persona_interp.models.adapters import adapter_settings
from persona_interp.models.second_tree import second_tree

EXTRA = "lens"
TOO_NEW = "5.24"
"""The transformers that calls the key-value cache otherwise: with it TransformerLens 4 generates other tokens, without a word."""


def require_transformer_lens() -> None:
    """Raise where TransformerLens is not installed, or would compute wrongly with the transformers that is.

    Raises:
        MissingExtraError: says which, and how to get a pair that fits.
    """
    if (why := lens_unfit()) is not None:
        raise MissingExtraError(f"{missing_extra('TransformerLens', EXTRA)} ({why})")


def lens_unfit() -> str | None:
    """Why TransformerLens cannot be used in this installation; None: it can. Nothing is imported."""
    try:
        if find_spec("transformer_lens") is None:
            return "it is not installed"
        installed, lens = version("transformers"), version("transformer-lens")
    except (ImportError, PackageNotFoundError):
        return "it is not installed"
    if _release(installed) < _release(TOO_NEW):
        return None
    return f"transformer-lens {lens} needs transformers below {TOO_NEW}, and {installed} is installed"


def _release(number: str) -> tuple[int, ...]:
    return tuple(int(part) for part in number.split(".")[:2])


def transformer_lens_bridge(hf_model: nn.Module, tokenizer: Any, *, name: str) -> Any:
    """A ``transformer_lens`` ``TransformerBridge`` over the weights of `hf_model`, which is not changed.

    Parameters are shared, so memory does not grow and training one trains the other. The bridge is in evaluation mode and uses
    eager attention whatever `hf_model` uses: the others do not hand out the attention patterns that TransformerLens hooks. Hooks
    that are on `hf_model` now are on the bridge too. What rewrites weights, as ``bridge.enable_compatibility_mode()`` does, makes
    copies of them.

    Args:
        hf_model: a loaded Hugging Face model.
        tokenizer: its tokenizer; copied, because TransformerLens needs a pad token and may set one.
        name: how errors call the model.

    Raises:
        MissingExtraError: TransformerLens is not installed, or does not fit the installed transformers.
        UnsupportedError: TransformerLens has no adapter for the class of `hf_model`, or cannot use its weights: they are not on
            this machine, or are quantized in a class that keeps queries, keys and values in one matrix.
    """
    architecture = type(hf_model).__name__
    if any(parameter.is_meta for parameter in hf_model.parameters()):
        raise UnsupportedError(
            f"the weights of {name} are not in memory (remote or offloaded), so TransformerLens cannot run them: load the model "
            "on this machine, without remote=True"
        )
    if adapter_settings(hf_model):
        raise UnsupportedError(
            f"the layers of {name} hold adapters beside their weights, and TransformerLens would show the weights alone: merge "
            "the adapters first, with PEFT's merge_and_unload()"
        )
    require_transformer_lens()
    sources = _transformer_lens()
    tree = second_tree(hf_model)
    tree.set_attn_implementation("eager")
    try:
        with torch.random.fork_rng(devices=[]):  # GPT-2's split weights are drawn at random before they are set
            config = copy.deepcopy(tree.config)
            bridge = sources.build_bridge_from_module(tree.eval(), architecture, hf_config=config, model_name=name)
    except ValueError as error:
        if "Unsupported architecture" not in str(error):
            raise
        raise UnsupportedError(
            f"TransformerLens {version('transformer-lens')} has no adapter for {architecture}, the class of {name}: register one "
            "with its ArchitectureAdapterFactory, or use generate(), capture() or steered(), which need none"
        ) from error
    except NotImplementedError as error:
        raise UnsupportedError(f"TransformerLens cannot use the weights of {name} as they are loaded: {error}") from error
    _give_tokenizer(bridge, tokenizer, sources)
    return bridge


def _transformer_lens() -> Any:
    """The module that builds bridges; importing it silences the messages of transformers, which is undone."""
    logger = logging.getLogger("transformers")
    level = logger.level
    try:
        from transformer_lens.model_bridge import sources
    except ImportError as error:
        raise MissingExtraError(f"{missing_extra('TransformerLens', EXTRA)} (importing it fails: {error})") from error
    finally:
        logger.setLevel(level)
    return sources


def _give_tokenizer(bridge: Any, tokenizer: Any, sources: Any) -> None:
    """TransformerLens would read the tokenizer again from where it was loaded; one made in memory has no such place."""
    own = copy.deepcopy(tokenizer)
    own.pad_token = own.pad_token or own.eos_token
    own.bos_token = own.bos_token or own.eos_token
    bridge.cfg.tokenizer_prepends_bos, bridge.cfg.tokenizer_appends_eos = sources.detect_tokenizer_bos_eos(own)
    bridge.tokenizer = own
