"""A model that memory cannot hold is refused before it is loaded."""

from __future__ import annotations

import pytest
import torch
from real import smollm2_gguf

from persona_interp.demo.shelf import Shelf, at_hand
from persona_interp.errors import PersonaInterpError
from persona_interp.models import weights_size
from persona_interp.models.registry import find_model
from persona_interp.models.weights_size import check_fits_memory, size_in_memory, size_on_disk

CPU = torch.device("cpu")


def test_sizes_are_told_from_the_files() -> None:
    organism = find_model("organism-qwen2")
    assert 1e6 < (size_on_disk(organism) or 0) < 1e8
    file = find_model(smollm2_gguf())
    assert size_on_disk(file) == smollm2_gguf().stat().st_size == size_in_memory(file, CPU)  # llama.cpp holds it as it is
    named = find_model("smollm2-135m-instruct")
    assert size_in_memory(named, CPU) == pytest.approx(134.5e6 * 4, rel=0.01)  # PyTorch, in float32
    assert size_on_disk(find_model("owner/elsewhere")) is None


def test_what_does_not_fit_is_refused_with_both_numbers_and_nothing_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []
    shelf = Shelf(["organism-qwen2"], load=lambda name: loaded.append(name))  # pyright: ignore[reportArgumentType]
    monkeypatch.setattr(weights_size, "free_memory", lambda _device: 10**6)
    with pytest.raises(PersonaInterpError, match=r"organism-qwen2 needs about \d+ MB of memory, and 1 MB are free: end"):
        shelf.model("organism-qwen2")
    assert loaded == []
    check_fits_memory(find_model("owner/elsewhere"), CPU)  # not known beforehand


def test_models_at_hand_are_offered_with_their_size_real_ones_first() -> None:
    names = at_hand()
    assert names.index("smollm2-135m-instruct") < names.index("organism-qwen2")
    ((shown, name),) = Shelf(["smollm2-135m-instruct"]).choices
    assert (shown, name) == ("smollm2-135m-instruct (98 MB)", "smollm2-135m-instruct")
