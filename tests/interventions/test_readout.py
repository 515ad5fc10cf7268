from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from persona_interp.interventions.compile.readout import Readout
from persona_interp.interventions.graph import Capture, InterventionGraph, ReadPositions
from persona_interp.models.sampling import Sampling
from persona_interp.models.steerable import SteerableModel
from persona_interp.traits.conversation import Conversation


@pytest.mark.parametrize(("positions", "read"), [("answer", 3), ("all", 4)])
def test_a_prompt_is_kept_for_those_only_who_read_it(
    tiny_model: Callable[[str], SteerableModel], monkeypatch: pytest.MonkeyPatch, positions: ReadPositions, read: int
) -> None:
    """Single positions of long prompts would fill the memory of an extraction that reads answers."""
    kept: list[torch.Size] = []
    end = Readout.end

    def counted(self: Readout) -> None:
        before = len(self._kept)
        end(self)
        kept.extend(tensor.shape for tensor, _, _ in self._kept[before:])

    monkeypatch.setattr(Readout, "end", counted)
    model = tiny_model("qwen2")
    monkeypatch.setattr(model.chat, "end_ids", frozenset[int]())
    capture = Capture(positions, "none")
    (answer,) = model.generate(
        [Conversation.ask("How?")], graph=InterventionGraph((capture,)), sampling=Sampling(max_new_tokens=4, temperature=0)
    )
    assert len(kept) == read
    assert answer.captured[capture].shape[1] == 3 + (len(answer.prompt_ids) if positions == "all" else 0)
