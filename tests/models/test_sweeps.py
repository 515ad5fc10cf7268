"""What makes sweeps cheap gives the numbers of the plain way: shared prompts, restarts in mid-model, gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import oracle
import pytest
import torch
from tiny import ARCHITECTURES, MORE_ARCHITECTURES, tiny_hf_model, tiny_tokenizer

from persona_interp.errors import InvalidInputError, UnsupportedError
from persona_interp.interventions.graph import Capture, InterventionGraph, Write
from persona_interp.interventions.operations import Ablate, Add
from persona_interp.models.batching import pad
from persona_interp.models.chat import TokenisedAnswer
from persona_interp.models.engines.nnsight.shared_prompts import SharedPrompts, shared_prompts
from persona_interp.models.sampling import Sampling
from persona_interp.models.steerable import SteerableModel
from persona_interp.traits.conversation import Conversation

TinyModel = Callable[[str], SteerableModel]
CLOSE = {"rtol": 1e-4, "atol": 1e-4}
ASKED = [Conversation.ask(text) for text in ("Tell me about the moon", "How?", "How do bees make honey? Bees collect nectar")]
SAMPLING = Sampling(max_new_tokens=7)


def any_model(architecture: str) -> SteerableModel:
    tokenizer = tiny_tokenizer(architecture)
    return SteerableModel(tiny_hf_model(architecture, tokenizer), tokenizer, name=f"tiny-{architecture}")


def direction(model: SteerableModel, seed: int = 0) -> torch.Tensor:
    return torch.randn(model.d_model, generator=torch.Generator().manual_seed(seed)) * 3


def answers_steered(model: SteerableModel, n_rows: int) -> InterventionGraph:
    """Every row with a layer and coefficient of its own, from the last prompt token on."""
    return InterventionGraph(
        tuple(
            Write(row % model.n_layers, Add(direction(model)), row - 3.0, positions="response", rows=(row,))
            for row in range(1, n_rows)
        )
    )


@pytest.mark.parametrize("architecture", [*ARCHITECTURES, *MORE_ARCHITECTURES])
def test_answers_from_prompts_run_once_are_those_of_every_row_alone(architecture: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = any_model(architecture)
    conversations, seeds = ASKED * 4, [3, 4, 5] * 4
    captures = (Capture("answer"), Capture("prompt_last"))
    graph = answers_steered(model, len(conversations)) + InterventionGraph(captures)
    used: list[int] = []
    cache = SharedPrompts.cache
    monkeypatch.setattr(SharedPrompts, "cache", lambda self, hf: used.append(len(self.ids)) or cache(self, hf))
    together = model.generate(conversations, graph=graph, sampling=SAMPLING, seed=seeds)
    assert used == [3], "three distinct prompts, run once"
    for row, found in enumerate(together):
        (alone,) = model.generate([conversations[row]], graph=graph.for_rows([row]), sampling=SAMPLING, seed=[seeds[row]])
        assert found.answer_ids == alone.answer_ids
        for capture in captures:
            if capture in alone.captured:
                torch.testing.assert_close(found.captured[capture], alone.captured[capture], **CLOSE)
    assert used == [3], "a single row shares nothing"
    assert len({found.answer_ids for found in together}) > 3, "steering by row made a difference"


@pytest.mark.parametrize(
    ("graph", "why"),
    [
        (InterventionGraph((Write(1, Add(torch.ones(32)), positions="all"),)), "prompts are steered"),
        (InterventionGraph((Write(1, Add(torch.ones(32)), positions="prompt"),)), "prompts are steered"),
        (InterventionGraph((Capture("prompt"),)), "prompts are read"),
        (InterventionGraph((Capture("all", "none"),)), "prompts are read"),
    ],
)
def test_prompts_that_are_touched_are_run_in_every_row(graph: InterventionGraph, why: str) -> None:
    batch = pad([[5, 6, 7]] * 4, [3] * 4, 0, torch.device("cpu"))
    assert shared_prompts(batch, InterventionGraph()) is not None
    assert shared_prompts(batch, graph) is None, why


@pytest.mark.parametrize("architecture", [*ARCHITECTURES, *MORE_ARCHITECTURES])
def test_answers_scored_behind_prompts_run_once_are_likely_as_every_row_alone(
    architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = any_model(architecture)
    said = ["No.", "Bees make honey and the moon is far away", "How", "Tell me more about bees, bees and bees"]
    rows = [model.chat.tokenise(asked, text) for text in said for asked in ASKED]
    graph = answers_steered(model, len(rows))
    used: list[int] = []
    cache = SharedPrompts.cache
    monkeypatch.setattr(SharedPrompts, "cache", lambda self, hf: used.append(len(self.ids)) or cache(self, hf))
    for name, under in (("plain", InterventionGraph()), ("steered", graph)):
        together = model.log_likelihood(rows, graph=under)
        alone = [model.log_likelihood([row], graph=under.for_rows([place]))[0] for place, row in enumerate(rows)]
        for found, single in zip(together, alone, strict=True):
            torch.testing.assert_close(found.token_log_probs, single.token_log_probs, **CLOSE, msg=name)
    walks = model.engine.walks(64)
    assert used == ([3, 3] if walks else []), "three distinct prompts, run once"
    touched = InterventionGraph((Write(0, Add(direction(model)), positions="all"),))
    model.log_likelihood(rows, graph=touched)
    assert len(used) == (2 if walks else 0), "prompts that are steered are run in every row"


def test_prompts_that_differ_are_not_run_apart() -> None:
    batch = pad([[5, 6, 7], [5, 6, 8], [5, 6, 9], [9, 9]], [3, 3, 3, 2], 0, torch.device("cpu"))
    assert shared_prompts(batch, InterventionGraph()) is None


def texts(*lengths: tuple[int, int]) -> list[TokenisedAnswer]:
    generator = torch.Generator().manual_seed(5)
    return [TokenisedAnswer(tuple(torch.randint(5, 390, (n + m,), generator=generator).tolist()), n) for n, m in lengths]


TEXTS = texts((9, 6), (3, 12), (5, 2), (14, 1))


@pytest.mark.parametrize("architecture", [*ARCHITECTURES, *MORE_ARCHITECTURES])
def test_likelihoods_restarted_where_each_graph_steers_are_those_of_full_forwards(architecture: str) -> None:
    model = any_model(architecture)
    one = tuple(InterventionGraph((Write(layer, Add(direction(model)), 0.7),)) for layer in range(model.n_layers))
    others = (
        InterventionGraph(),
        InterventionGraph((Write(1, Add(direction(model)), rows=(0, 2)), Write(2, Ablate(direction(model, 1)), rows=(1,)))),
        InterventionGraph((Write(model.n_layers - 1, Add(direction(model)), positions="response"),)),
    )
    together = model.log_likelihoods(TEXTS, [*one, *others])
    for graph, found in zip([*one, *others], together, strict=True):
        for likelihood, alone in zip(found, model.log_likelihood(TEXTS, graph=graph), strict=True):
            torch.testing.assert_close(likelihood.token_log_probs, alone.token_log_probs, **CLOSE)
    assert not torch.allclose(together[0][0].token_log_probs, together[-3][0].token_log_probs, atol=1e-3)


def test_a_forward_begins_where_its_graph_does(tiny_model: TinyModel) -> None:
    model = tiny_model("llama")
    run: list[int] = []
    handles = [
        block.mlp.register_forward_hook(lambda *_, layer=layer: run.append(layer))
        for layer, block in enumerate(oracle.blocks_of(model.hf_model))
    ]
    model.log_likelihoods(TEXTS, [InterventionGraph((Write(layer, Add(direction(model))),)) for layer in (1, 3)])
    for handle in handles:
        handle.remove()
    assert sorted(run) == [0, 1, 2, 2, 3, 3], (
        "read up to layer 3 once; then blocks 2 and 3, then none but the last one's successors"
    )


@pytest.mark.parametrize("architecture", [*ARCHITECTURES, *MORE_ARCHITECTURES])
def test_gradients_are_what_small_coefficients_do(architecture: str) -> None:
    model = any_model(architecture)
    layers = range(model.n_layers)
    gradient = model.likelihood_gradient(
        TEXTS, layers, weights=[torch.full((len(row.answer_ids),), 1 / len(row.answer_ids)) for row in TEXTS]
    ) @ direction(model)
    step = 2e-4 if architecture == "gpt_oss" else 1e-3  # a larger one sends a token to another expert
    graphs = [InterventionGraph((Write(layer, Add(direction(model)), sign * step),)) for layer in layers for sign in (-1, 1)]
    means = torch.tensor([[float(x.token_log_probs.mean()) for x in found] for found in model.log_likelihoods(TEXTS, graphs)])
    slopes = (means[1::2] - means[0::2]).T / (2 * step)
    assert gradient.shape == (len(TEXTS), model.n_layers)
    torch.testing.assert_close(gradient, slopes, rtol=2e-2, atol=2e-3)
    assert float(slopes.abs().max()) > 1e-2


def test_a_gradient_leaves_the_model_as_it_was(tiny_model: TinyModel) -> None:
    model = tiny_model("qwen2")
    wanted = {name: parameter.requires_grad for name, parameter in model.hf_model.named_parameters()}
    model.likelihood_gradient(TEXTS, [1])
    assert {name: parameter.requires_grad for name, parameter in model.hf_model.named_parameters()} == wanted
    assert all(parameter.grad is None for parameter in model.hf_model.parameters())


def test_a_gradient_without_anything_to_differentiate_is_refused(tiny_model: TinyModel) -> None:
    model = tiny_model("llama")
    with pytest.raises(InvalidInputError, match=r"needs layers of 0 to 3 \(\[\] given\)"):
        model.likelihood_gradient(TEXTS, [])
    with pytest.raises(InvalidInputError, match=r"\[4\] given"):
        model.likelihood_gradient(TEXTS, [4])
    with pytest.raises(InvalidInputError, match=r"weights for \[1\]: give one weight a token"):
        model.likelihood_gradient(TEXTS, [1], weights=[torch.ones(1)])
    with pytest.raises(InvalidInputError, match="at least one answer token"):
        model.likelihood_gradient(texts((3, 0)), [1])


def test_the_unembedding_of_the_last_residual_is_the_models_logits(tiny_model: TinyModel, architecture: str) -> None:
    model = tiny_model(architecture)
    logits, outputs = oracle.forward(model.hf_model, TEXTS[0].ids)
    torch.testing.assert_close(model.unembed(outputs[-1]), logits, **CLOSE)


def test_remote_models_say_what_they_cannot_do(tiny_hf: Callable[[str], Any]) -> None:
    hf_model, tokenizer = tiny_hf("llama")
    model = SteerableModel(hf_model, tokenizer, name="far", remote="local")
    with pytest.raises(UnsupportedError, match="far runs in PyTorch on a remote server, which cannot take .*method 'likelihood'"):
        model.likelihood_gradient(TEXTS, [1])
    with pytest.raises(UnsupportedError, match="far runs in PyTorch on a remote server, which cannot unembed"):
        model.unembed(torch.zeros(1, model.d_model))
