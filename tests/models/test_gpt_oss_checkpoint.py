"""The published checkpoints of gpt_oss hold their experts in MXFP4: four bits a weight, one power of two for every 32 of them."""

from __future__ import annotations

import json
from pathlib import Path

import oracle
import torch
from einops import rearrange
from safetensors.torch import load_file, save_file
from tiny import save_tiny_model
from torch import Tensor

from persona_interp.interventions.graph import Capture, InterventionGraph, Write
from persona_interp.interventions.operations import Add
from persona_interp.models.chat import TokenisedAnswer
from persona_interp.models.registry import load_model

FOUR_BITS = torch.tensor([0.0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])
PACKED = ("experts.gate_up_proj", "experts.down_proj")


def packed_checkpoint(folder: Path) -> dict[str, tuple[Tensor, Tensor]]:
    """A tiny model whose experts are random bytes, as files say it; returns the bytes ``[expert out group byte]`` and scales."""
    save_tiny_model("gpt_oss", folder)
    tensors = load_file(folder / "model.safetensors")
    generator = torch.Generator().manual_seed(0)
    packed: dict[str, tuple[Tensor, Tensor]] = {}
    for name in [name for name in tensors if name.endswith(PACKED)]:
        n_experts, n_in, n_out = tensors.pop(name).shape
        blocks = torch.randint(0, 256, (n_experts, n_out, n_in // 32, 16), generator=generator, dtype=torch.uint8)
        scales = torch.randint(123, 126, (n_experts, n_out, n_in // 32), generator=generator, dtype=torch.uint8)
        packed[name] = (blocks, scales)
        tensors |= {f"{name}_blocks": blocks, f"{name}_scales": scales}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn", "lm_head"]}
    (folder / "config.json").write_text(json.dumps(config))
    return packed


def unpacked(blocks: Tensor, scales: Tensor) -> Tensor:
    """``[expert in out]``: the lower half of a byte comes first."""
    values = FOUR_BITS[torch.stack([blocks & 15, blocks >> 4], dim=-1).long()]
    scaled = values * torch.exp2(scales.float() - 127)[..., None, None]
    return rearrange(scaled, "expert out group byte half -> expert (group byte half) out")


def test_a_packed_checkpoint_loads_as_what_its_bytes_say_and_is_steered(tmp_path: Path) -> None:
    packed = packed_checkpoint(tmp_path)
    model = load_model(tmp_path, dtype="float32", device="cpu")
    weights = dict(model.hf_model.named_parameters())
    assert len(packed) == 2 * model.n_layers
    for name, (blocks, scales) in packed.items():
        assert torch.equal(weights[name], unpacked(blocks, scales))
    rows = [TokenisedAnswer(tuple(range(start, start + 12)), 7) for start in (20, 60)]
    vector, every = torch.linspace(-3, 3, model.d_model), Capture("all", "none")
    for row, got in zip(rows, model.capture(rows, InterventionGraph((Write(1, Add(vector)), every))), strict=True):
        _, outputs = oracle.forward(model.hf_model, row.ids[:-1], {1: (vector, slice(None))})
        torch.testing.assert_close(got[every], outputs, rtol=1e-4, atol=1e-4)
