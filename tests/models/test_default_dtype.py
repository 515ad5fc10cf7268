"""What torch makes of numbers without a dtype is the user's setting, and no result depends on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from persona_interp.alignment.anchors import AnchorProjection
from persona_interp.interventions.graph import Capture, InterventionGraph, Write
from persona_interp.interventions.operations import Add
from persona_interp.measure.layer_proxies import decided_early
from persona_interp.models.baked import bake
from persona_interp.models.chat import TokenisedAnswer
from persona_interp.models.identity import ModelIdentity
from persona_interp.models.sampling import Sampling
from persona_interp.models.steerable import SteerableModel
from persona_interp.residuals.components import principal_components
from persona_interp.traits.conversation import Conversation
from persona_interp.vectors.persona_vector import PersonaVector

IDS = list(range(20, 33))
ASKED = Conversation.ask("Tell me about the moon")


@pytest.fixture(params=[torch.bfloat16, torch.float16, torch.float64])
def other_default(request: pytest.FixtureRequest) -> Iterator[Callable[[], None]]:
    """Sets another default dtype when called; it is float32 again after the test."""
    yield lambda: torch.set_default_dtype(request.param)
    torch.set_default_dtype(torch.float32)


def same(got: list[Tensor], expected: list[Tensor]) -> None:
    for one, other in zip(got, expected, strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)


def test_a_model_answers_scores_and_reads_alike(
    tiny_model: Callable[[str], SteerableModel], other_default: Callable[[], None], tmp_path: Path
) -> None:
    model = tiny_model("llama")
    direction = torch.randn(model.d_model, generator=torch.Generator().manual_seed(0)) * 3
    graph = InterventionGraph((Write(1, Add(direction), 1.0, "all"),))
    row = [model.chat.tokenise(ASKED, "It is big.")]
    read = Capture("all")

    def results() -> list[Tensor]:
        (likelihood,) = model.log_likelihood(row, graph=graph)
        answer = model.generate([ASKED], graph=graph, sampling=Sampling(5, 1.0), seed=3)[0].answer_ids
        return [
            model.next_token_logits([IDS], graph=graph),
            model.likelihood_gradient(row, [1, 2]),
            model.unembed(direction.unsqueeze(0)),
            model.capture([TokenisedAnswer(tuple(IDS), len(IDS))], InterventionGraph((*graph.writes, read)))[0][read],
            likelihood.token_log_probs,
            torch.tensor(answer),
        ]

    expected = results()
    bake(model, graph, tmp_path / "float32")
    other_default()
    same(results(), expected)
    bake(model, graph, tmp_path / "other")
    assert (tmp_path / "other" / "model.safetensors").read_bytes() == (tmp_path / "float32" / "model.safetensors").read_bytes()


def test_vectors_are_calculated_with_alike(other_default: Callable[[], None], tmp_path: Path) -> None:
    directions = torch.randn(3, 32, generator=torch.Generator().manual_seed(0))
    vector = PersonaVector(
        directions=directions, layers=(0, 1, 2), trait="silly", model=ModelIdentity("tiny", None, "f" * 64, 3, 32)
    )

    def results(name: str) -> list[Tensor]:
        vector.save(tmp_path / f"{name}.pt")
        loaded = torch.load(tmp_path / f"{name}.pt", weights_only=True)
        turned = [vector.normalised(), vector * 0.3, vector / 3, -vector]
        return [*(each.directions for each in turned), loaded]

    expected = results("float32")
    other_default()
    same(results("other"), expected)


def test_arithmetic_beside_models_is_alike(other_default: Callable[[], None]) -> None:
    generator = torch.Generator().manual_seed(0)
    source, target = (torch.randn(300, width, generator=generator) for width in (8, 6))
    log_probs = -torch.rand(9, generator=generator)
    resid = torch.randn(12, 2, 8, generator=generator)

    def results() -> list[Tensor]:
        found = principal_components(resid, layers=[0, 1], groups=["a", "b"] * 6, k=2)
        return [
            AnchorProjection(n_anchors=64).fit(source, target).transform(source[:5]),
            decided_early(log_probs),
            found.coordinates,
            found.explained,
        ]

    expected = results()
    other_default()
    same(results(), expected)
