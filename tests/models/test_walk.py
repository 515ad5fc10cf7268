"""Continuations walked over kept keys and values, against plain forwards of every prompt and path alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from inspect import signature
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from snapshot import snapshot
from tiny import ARCHITECTURES, MORE_ARCHITECTURES
from torch import Tensor
from transformers import LlamaForCausalLM

from persona_interp.errors import InvalidInputError, PersonaInterpError
from persona_interp.interventions.compile.model_call import CACHE_NAMES, cache_of
from persona_interp.models.continuations import shared_start, walk_anew
from persona_interp.models.engines.nnsight.cache_walk import walks_exactly
from persona_interp.models.steerable import SteerableModel

TinyModel = Callable[[str], SteerableModel]
TREE = {(): (11, 12, 13), (12,): (21, 11), (12, 21): (31,), (13,): (11,)}
PROMPTS = [[5, 6, 7, 8, 9, 10], [5, 6, 7, 30], [5, 6, 40, 41, 42, 43, 44, 45, 46]]
Seen = dict[tuple[int, tuple[int, ...]], Tensor]


def walked(
    model: SteerableModel, prompts: Sequence[Sequence[int]], likely: Sequence[tuple[int, ...]] = (), batch_size: int | None = None
) -> Seen:
    seen: Seen = {}

    def grow(row: int, path: tuple[int, ...], logits: Tensor) -> Sequence[int]:
        seen[row, path] = logits
        return TREE.get(path, ())

    model.walk(prompts, grow, depth=3, likely=likely, batch_size=batch_size)
    return seen


def alone(model: SteerableModel, prompts: Sequence[Sequence[int]]) -> Seen:
    paths = [(), *((*before, token) for before, tokens in TREE.items() for token in tokens)]
    return {(row, path): model.next_token_logits([[*ids, *path]])[0] for row, ids in enumerate(prompts) for path in paths}


def assert_alike(found: Seen, expected: Seen) -> None:
    assert found.keys() == expected.keys()
    for key, logits in expected.items():
        torch.testing.assert_close(found[key], logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", [*ARCHITECTURES, *MORE_ARCHITECTURES])
def test_every_path_has_the_logits_of_its_own_forward(tiny_model: TinyModel, family: str) -> None:
    model = tiny_model(family)
    expected = alone(model, PROMPTS)
    assert_alike(walked(model, PROMPTS), expected)
    # what is guessed makes no difference, whether it is asked for or not
    assert_alike(walked(model, PROMPTS, likely=[(12,), (99,), (12, 21), (12, 98)]), expected)
    assert_alike(walked(model, PROMPTS, batch_size=1), expected)


@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen2", "mistral"])
def test_the_prompt_is_run_once(tiny_model: TinyModel, family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model(family)
    assert model.engine.walks(max(map(len, PROMPTS)))
    widths: list[tuple[int, int]] = []
    handle = model.hf_model.register_forward_pre_hook(
        lambda _module, _args, given: widths.append(tuple(given["input_ids"].shape)), with_kwargs=True
    )
    try:
        walked(model, PROMPTS, likely=[(11,), (12,), (13,)])
    finally:
        handle.remove()
    # two tokens all begin with; the rest and three guesses; what is asked behind those, at once; the last path
    assert widths == [(1, 2), (3, 7 + 3), (3, 3), (3, 1)]


def test_the_model_is_untouched_also_after_an_error(tiny_model: TinyModel) -> None:
    model = tiny_model("llama")
    before = snapshot(model.hf_model, model.tokenizer)

    def grow(row: int, path: tuple[int, ...], logits: Tensor) -> Sequence[int]:
        raise ZeroDivisionError("my own")

    with pytest.raises(ZeroDivisionError, match="my own"):
        model.walk(PROMPTS, grow, depth=1)
    walked(model, PROMPTS)
    assert snapshot(model.hf_model, model.tokenizer) == before


def test_prompts_that_do_not_fit_are_refused_and_none_are_nothing(tiny_model: TinyModel) -> None:
    model = tiny_model("llama")
    with pytest.raises(InvalidInputError, match="does not fit into the context"):
        model.walk([[5] * model.n_ctx], lambda *_: (), depth=1)
    with pytest.raises(InvalidInputError, match="row 1 has no tokens"):
        model.walk([[5], []], lambda *_: (), depth=1)
    assert walked(model, []) == {}


def test_a_prompt_longer_than_a_sliding_window_is_walked_anew(tiny_model: TinyModel) -> None:
    model = tiny_model("mistral")
    model.hf_model.config.sliding_window, kept = 8, model.hf_model.config.sliding_window
    try:
        assert not model.engine.walks(9)
    finally:
        model.hf_model.config.sliding_window = kept


def test_shared_beginnings_leave_a_token_of_every_prompt() -> None:
    assert shared_start([[1, 2, 3], [1, 2, 4, 5]]) == 2
    assert shared_start([[1, 2], [1, 2, 3]]) == 1
    assert shared_start([[1, 2], [1, 2]]) == 1
    assert shared_start([[2], [1, 2, 3]]) == 0
    assert shared_start([[1, 2, 3]]) == 0


def test_walking_anew_asks_the_same(tiny_model: TinyModel) -> None:
    model = tiny_model("llama")
    seen: Seen = {}

    def grow(row: int, path: tuple[int, ...], logits: Tensor) -> Sequence[int]:
        seen[row, path] = logits
        return TREE.get(path, ())

    walk_anew(PROMPTS, grow, model.next_token_logits, 2)
    assert_alike(seen, alone(model, PROMPTS))


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_nan_behind_a_path_is_an_error(tiny_hf: Callable[[str], tuple[object, object]], family: str) -> None:
    hf_model, tokenizer = tiny_hf(family)
    model = SteerableModel(hf_model, tokenizer, name="broken")  # type: ignore[arg-type]
    model.hf_model.get_input_embeddings().weight.data[12] = torch.nan  # the second token asked about
    with pytest.raises(PersonaInterpError, match="broken .in float32. are NaN or infinite"):
        walked(model, [[5, 6, 7]])


class NewlyNamed(LlamaForCausalLM):
    """As transformers 5.24 calls it: ``cache`` for what was ``past_key_values``, in arguments and output."""

    def forward(self, input_ids=None, attention_mask=None, position_ids=None, cache=None, use_cache=None, logits_to_keep=0):  # type: ignore[no-untyped-def,override]
        name = next(name for name in CACHE_NAMES[::-1] if name in signature(LlamaForCausalLM.forward).parameters)
        given = {"position_ids": position_ids, "use_cache": use_cache, "logits_to_keep": logits_to_keep, name: cache}
        found = super().forward(input_ids, attention_mask, **given)
        return SimpleNamespace(logits=found.logits, cache=cache_of(found))


def test_a_model_that_calls_its_cache_by_the_new_name_is_walked(tiny_hf: Callable[[str], tuple[Any, object]]) -> None:
    hf_model, _ = tiny_hf("llama")
    hf_model.__class__ = NewlyNamed
    with torch.no_grad():
        assert walks_exactly(hf_model, torch.device("cpu"))
