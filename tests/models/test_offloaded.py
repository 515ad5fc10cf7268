"""Weights that accelerate has put elsewhere: every verb gives what it gives with them in memory, and so does the fingerprint."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import accelerate
import pytest
import torch
from transformers import AutoModelForCausalLM

from persona_interp.errors import UnsupportedError
from persona_interp.interventions.graph import InterventionGraph, Write
from persona_interp.interventions.operations import Add
from persona_interp.models.baked import bake
from persona_interp.models.registry import load_model
from persona_interp.models.sampling import Sampling
from persona_interp.models.steerable import SteerableModel
from persona_interp.models.steered import steered
from persona_interp.traits.conversation import Conversation

TinyHf = Callable[[str], tuple[Any, Any]]
IDS = list(range(20, 33))
ASKED = Conversation.ask("Tell me about the moon")


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gpt2"])  # own unembedding, and tied ones
@pytest.mark.parametrize("place", ["cpu", "disk", "map"])
def test_offloaded_models_do_what_others_do(
    tiny_hf: TinyHf,
    tiny_model: Callable[[str], SteerableModel],
    tiny_model_path: Callable[[str], Path],
    tmp_path: Path,
    architecture: str,
    place: str,
) -> None:
    reference, (hf_model, tokenizer) = tiny_model(architecture), tiny_hf(architecture)
    if place == "map":
        folder = tiny_model_path(architecture)
        hf_model = AutoModelForCausalLM.from_pretrained(folder, device_map={"": "disk"}, offload_folder=str(tmp_path)).eval()
    else:
        hf_model = accelerate.cpu_offload(hf_model) if place == "cpu" else accelerate.disk_offload(hf_model, str(tmp_path))
    before = dict(vars(hf_model).get("hf_device_map") or {})
    model = load_model(hf_model, tokenizer=tokenizer)
    assert model.device == torch.device("cpu")
    assert dict(vars(hf_model).get("hf_device_map") or {}) == before
    assert model.identity.fingerprint == reference.identity.fingerprint

    def close(got: torch.Tensor, expected: torch.Tensor) -> None:
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))

    direction = torch.randn(model.d_model, generator=torch.Generator().manual_seed(0)) * 3
    graph = InterventionGraph((Write(1, Add(direction), 1.0, "response"),))
    close(model.next_token_logits([IDS], graph=graph), reference.next_token_logits([IDS], graph=graph))
    answers = [each.generate([ASKED], graph=graph, sampling=Sampling(5, 0))[0].answer_ids for each in (model, reference)]
    assert answers[0] == answers[1]
    close(model.unembed(direction.unsqueeze(0)), reference.unembed(direction.unsqueeze(0)))
    row = [model.chat.tokenise(ASKED, "It is big.")]
    close(model.likelihood_gradient(row, [1]), reference.likelihood_gradient(row, [1]))
    assert model.engine._traced.head is not None, "the unembedding was tried where its weights are fetched to"
    found, expected = (each.log_likelihood(row, graph=graph)[0].token_log_probs for each in (model, reference))
    close(found, expected)
    assert model._rooms.known, "batches are sized by what is free, as where the weights are in memory"
    with torch.no_grad(), steered(model.hf_model, graph):
        got = model.hf_model(torch.tensor([IDS])).logits
    with torch.no_grad(), steered(reference.hf_model, graph):
        close(got, reference.hf_model(torch.tensor([IDS])).logits)
    assert all(parameter.is_meta for parameter in model.hf_model.parameters())
    with pytest.raises(UnsupportedError, match="not all on one device"):
        bake(model, InterventionGraph((Write(1, Add(direction)),)), tmp_path / "baked")
    with pytest.raises(UnsupportedError, match="not in memory"):
        model.bridge()
