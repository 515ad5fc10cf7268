"""Steering baked into weights: a constant Add becomes a bias, and the checkpoint needs no code of this package any more."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from persona_interp.errors import PersonaInterpError, UnsupportedError
from persona_interp.interventions.compile.weights import constant_offsets
from persona_interp.interventions.graph import InterventionGraph
from persona_interp.models.adapters import adapter_settings
from persona_interp.models.engines.registry import check
from persona_interp.models.families import layout_of
from persona_interp.models.inference import inference_only
from persona_interp.models.second_tree import second_tree
from persona_interp.models.steerable import SteerableModel
from persona_interp.models.steered import steered
from persona_interp.provenance import provenance
from persona_interp.shapes import Direction
from persona_interp.storage import write_folder_atomically, write_json

FORMAT_VERSION = 1
RECORD = "persona_interp.json"
"""The file of a baked checkpoint that says what is in its weights."""

_ELSEWHERE = "Steer while it runs instead, with steered() or the verbs of a SteerableModel"
_ZERO = ("q_proj.bias", "k_proj.bias", "v_proj.bias", "o_proj.bias", "gate_proj.bias", "up_proj.bias", "down_proj.bias")


def bake(model: SteerableModel, graph: InterventionGraph, folder: str | Path, *, max_shard_size: str = "5GB") -> Path:
    """Save a checkpoint that is `model` steered by `graph`, for anything that loads Hugging Face checkpoints, vLLM among them.

    Every write must be an `Add` at all positions of every row; several layers, and several at one layer, will do. What is added
    to the output of a block becomes a bias of its MLP: in the same class for GPT-2, GPT-NeoX and a Llama with ``mlp_bias``; a
    Llama without, a Mistral or a Qwen2 is saved as the ``LlamaForCausalLM`` with biases that computes the same. Before anything
    is written, the logits are compared with those of the steered model. Saved with it are the tokenizer with its chat template,
    the generation config, and ``persona_interp.json``: the model, the graph, and how it was made. `model` is not changed.

    In half precision the sum is rounded at another place, so logits agree up to the rounding of the model's dtype.

    Example:
        >>> bake(model, vector.graph(coefficient=1.5, layers=[12]), "qwen-silly")
        >>> AutoModelForCausalLM.from_pretrained("qwen-silly")

    Args:
        graph: what to add.
        folder: new, or empty. It appears whole or not at all.
        max_shard_size: larger checkpoints are split into files of this size.

    Raises:
        UnsupportedError: the graph does something else, or the weights cannot hold it: another family, an active sliding window,
            quantized weights, or weights that are spread over devices or elsewhere. The message says which and why.
        InvalidInputError: the graph writes nothing, or `folder` holds something; also as `InterventionGraph.check`.
        PersonaInterpError: `folder` cannot be written.
    """
    check(graph, model.capabilities, model.name, ("module",))
    hf_model = model.hf_model
    graph.check(n_layers=model.n_layers, d_model=model.d_model, model_name=model.name)
    offsets = constant_offsets(graph)
    _check_weights(hf_model, model.name)
    convert = _needs_conversion(model.config, model.name)

    def write(target: Path) -> None:
        baked = _as_llama(hf_model) if convert else second_tree(hf_model)
        _add_biases(baked, f"{model.layout.blocks}.{{}}.{layout_of(baked.config).mlp_out}", offsets)
        _check_logits(model, graph, baked)
        _save(baked, model.tokenizer, target, max_shard_size)
        record = {
            "format_version": FORMAT_VERSION,
            "baked": {"architecture": type(baked).__name__, "layers": list(offsets), "graph": graph.to_json()},
            "model": model.identity.to_json(),
            "provenance": provenance(),
        }
        write_json(target / RECORD, record)

    return write_folder_atomically(Path(folder), write)


def _check_weights(hf_model: Any, name: str) -> None:
    parameters = list(hf_model.parameters())
    devices = {parameter.device for parameter in parameters}
    quantized = getattr(hf_model.config, "quantization_config", None) is not None
    if quantized or not all(parameter.is_floating_point() for parameter in parameters):
        what = "are quantized, and a bias beside them could not be saved as they were loaded: load the model without quantization"
    elif len(devices) > 1 or any(device.type == "meta" for device in devices):
        what = f"are not all on one device ({', '.join(sorted(map(str, devices)))}): load the model onto one, the CPU will do"
    elif adapters := adapter_settings(hf_model):
        names = sorted({adapter for layer in adapters.values() for adapter, _ in layer})
        what = f"have adapters beside them ({', '.join(names)}): merge those first, with PEFT's merge_and_unload()"
    else:
        return
    raise UnsupportedError(f"{name} cannot be baked: its weights {what}")


def _needs_conversion(config: Any, name: str) -> bool:
    """Whether the model must be saved as a Llama with biases.

    Raises:
        UnsupportedError: it has no bias where one is needed, and is no such Llama either.
    """
    layout = layout_of(config)
    if layout.mlp_out is not None and getattr(config, "mlp_bias", True):
        return False
    if not layout.llama_equivalent:
        why = layout.why_not_baked
    elif getattr(config, "sliding_window", None) is not None:
        why = f"its attention has a sliding window of {config.sliding_window} tokens, and LlamaForCausalLM has none"
    else:
        return True
    raise UnsupportedError(f"{name} ({layout.model_type}) cannot be baked: {why}. {_ELSEWHERE}")


def _as_llama(hf_model: Any) -> Any:
    """The LlamaForCausalLM with biases that computes what `hf_model` does, over the same tensors; new biases are zero."""
    from transformers import LlamaConfig, LlamaForCausalLM

    source = hf_model.config
    other = ("model_type", "architectures", "layer_types", "sliding_window", "use_sliding_window", "max_window_layers")
    fields = {name: value for name, value in source.to_dict().items() if name not in other}
    biased = bool(getattr(source, "attention_bias", source.model_type == "qwen2"))
    config = LlamaConfig(**{**fields, "attention_bias": biased, "mlp_bias": True})
    config._attn_implementation = source._attn_implementation
    with torch.device("meta"):
        baked = LlamaForCausalLM(config)
    state = hf_model.state_dict()
    weight: Tensor = hf_model.get_input_embeddings().weight
    for name, parameter in baked.named_parameters():
        if name not in state and name.endswith(_ZERO):
            state[name] = torch.zeros(parameter.shape, dtype=weight.dtype, device=weight.device)
    try:
        baked.load_state_dict(state, assign=True)
    except RuntimeError as error:
        raise UnsupportedError(
            f"a {type(hf_model).__name__} cannot be baked: it has weights that LlamaForCausalLM has not ({error}). {_ELSEWHERE}"
        ) from error
    baked.tie_weights()
    # made on the meta device like all else, but without numbers in the state to take instead
    baked.model.rotary_emb = type(baked.model.rotary_emb)(config).to(weight.device)
    baked.generation_config = copy.deepcopy(hf_model.generation_config)
    return baked.eval()


def _add_biases(baked: nn.Module, path: str, offsets: Mapping[int, Direction]) -> None:
    """Replace biases, rather than write into them: they may be those of the user's model."""
    for layer, offset in offsets.items():
        linear: Any = baked.get_submodule(path.format(layer))
        bias: Tensor = linear.bias.detach()
        total = bias.to(torch.float64) + offset.to(bias.device)
        linear.bias = nn.Parameter(total.to(bias.dtype))


def _check_logits(model: SteerableModel, graph: InterventionGraph, baked: nn.Module) -> None:
    """Raise UnsupportedError unless both models give the same logits for a few tokens, up to the rounding of their dtype."""
    vocabulary = model.hf_model.get_input_embeddings().weight.shape[0]
    ids = torch.linspace(0, vocabulary - 1, 8, dtype=torch.float32, device=model.device).long().unsqueeze(0)
    with inference_only(model.hf_model), inference_only(baked):
        with steered(model.hf_model, graph):
            expected = model.hf_model(input_ids=ids, use_cache=False).logits.float()
        got = baked(input_ids=ids, use_cache=False).logits.float()
    difference, largest = float((got - expected).abs().max()), float(expected.abs().max())
    if not difference <= torch.finfo(model.dtype).eps ** 0.5 * largest:
        raise UnsupportedError(
            f"{model.name} cannot be baked: its class ({type(model.hf_model).__name__}) computes something else than "
            f"{type(baked).__name__} with biases (logits differ by {difference:.2g}, the largest is {largest:.2g}), so nothing "
            f"was written. {_ELSEWHERE}"
        )


def _save(baked: Any, tokenizer: Any, target: Path, max_shard_size: str) -> None:
    from safetensors import SafetensorError

    try:
        baked.save_pretrained(target, max_shard_size=max_shard_size)
        tokenizer.save_pretrained(target)
    except SafetensorError as error:
        raise PersonaInterpError(f"cannot write the weights into {target.parent}: {error}. Is there space left?") from error
