"""Answers told while they are written, and generations ended from outside."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from persona_interp.interventions.graph import InterventionGraph, Write
from persona_interp.interventions.operations import Add
from persona_interp.models.sampling import Sampling
from persona_interp.models.steerable import SteerableModel
from persona_interp.traits.conversation import Conversation

TinyModel = Callable[[str], SteerableModel]
ASKED = [
    Conversation.ask("How?"),
    Conversation.ask("How do bees make honey? Bees collect nectar", system="Answer in a silly way."),
    Conversation.ask("What is the capital?"),
]


class Stopped(Exception):  # noqa: N818
    """What a person pressing stop raises."""


@pytest.fixture
def model(tiny_model: TinyModel, architecture: str) -> SteerableModel:
    return tiny_model(architecture)


def heard(model: SteerableModel, **options: object) -> tuple[dict[int, list[str]], list[str]]:
    told: dict[int, list[str]] = {row: [] for row in range(len(ASKED))}
    answers = model.generate(ASKED, on_text=lambda row, text: told[row].append(text), **options)  # type: ignore[arg-type]
    return told, [answer.text for answer in answers]


@pytest.mark.parametrize("batch_size", [None, 1])
def test_each_row_is_told_token_by_token_and_closes_with_its_answer(model: SteerableModel, batch_size: int | None) -> None:
    told, texts = heard(model, sampling=Sampling(7), seed=1, batch_size=batch_size)
    assert [told[row][-1] for row in range(len(ASKED))] == texts
    assert all(len(told[row]) == 7 for row in told)
    assert texts == [answer.text for answer in model.generate(ASKED, sampling=Sampling(7), seed=1)]


def test_an_answer_that_has_ended_is_told_no_more(tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("llama")
    free = model.generate(ASKED, sampling=Sampling(8), seed=2)
    ends = frozenset({free[1].answer_ids[3]})
    monkeypatch.setattr(model.chat, "end_ids", ends)
    told, texts = heard(model, sampling=Sampling(8), seed=2)
    lengths = [len(told[row]) for row in range(len(ASKED))]
    ids = [answer.answer_ids for answer in model.generate(ASKED, sampling=Sampling(8), seed=2)]
    assert lengths == [len(row) - (row[-1] in ends) for row in ids]
    assert min(lengths) < 8
    assert [told[row][-1] if told[row] else "" for row in told] == texts


def test_rows_steered_differently_are_told_side_by_side(tiny_model: TinyModel) -> None:
    model = tiny_model("qwen2")
    push = torch.randn(model.d_model, generator=torch.Generator().manual_seed(0)) * 5
    graph = InterventionGraph((Write(1, Add(push), 1.0, rows=(1,)),))
    order: list[int] = []
    pair = [ASKED[0], ASKED[0]]
    answers = model.generate(
        pair, graph=graph, sampling=Sampling(5, 0), seed=[3, 3], on_text=lambda row, _text: order.append(row)
    )
    assert order == [0, 1] * 5
    assert answers[0].text != answers[1].text


@pytest.mark.parametrize("error", [Stopped, KeyboardInterrupt])
def test_whoever_listens_can_end_the_generation_and_the_model_is_as_before(
    model: SteerableModel, error: type[BaseException]
) -> None:
    push = torch.randn(model.d_model, generator=torch.Generator().manual_seed(1)) * 5
    graph = InterventionGraph((Write(1, Add(push), 1.0),))
    plain = model.generate(ASKED, sampling=Sampling(6, 0))
    hooks = {name: len(module._forward_hooks) for name, module in model.hf_model.named_modules()}
    steps: list[str] = []

    def stop(_row: int, text: str) -> None:
        steps.append(text)
        if len(steps) == 7:
            raise error("enough")

    with pytest.raises(error, match="enough"):
        model.generate(ASKED, graph=graph, sampling=Sampling(40, 0), on_text=stop)
    assert len(steps) == 7
    assert {name: len(module._forward_hooks) for name, module in model.hf_model.named_modules()} == hooks
    assert model.generate(ASKED, sampling=Sampling(6, 0)) == plain
