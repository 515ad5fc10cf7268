"""The server on a real model."""

from __future__ import annotations

from pathlib import Path

import pytest
from real import smollm2
from serving_crowd import crowd, questions, run_crowd
from serving_side import made_vector, running

TEXTS = ("What is a bicycle?", "Tell me about bees.", "How are you?", "Why does a river flow to the sea?")


@pytest.mark.real
@pytest.mark.slow
def test_side_by_side_a_real_model_says_what_it_says_alone(tmp_path: Path) -> None:
    model = smollm2()
    vectors = {name: made_vector(model, place, name, ratio=0.3) for place, name in enumerate(("silly", "calm"))}
    for name, vector in vectors.items():
        vector.save(tmp_path / f"{name}.json")
    asked = questions(model, vectors, TEXTS, n=6, layer=13, tokens=8)
    assert len({question.expected for question in asked}) > 4
    with running(model, tmp_path, concurrent=4) as server:
        found = run_crowd(crowd(server.url, asked, clients=6, seconds=120, rounds=2))
    assert (found.errors, found.wrong) == ([], [])
    assert found.right + found.cut == 12
