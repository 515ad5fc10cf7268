"""A prompt that reaches the model in several calls is steered as one that does in a single call, or the call is refused."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import DynamicCache

from persona_interp.errors import InvalidInputError, UnsupportedError
from persona_interp.interventions.compile.model_call import cache_name, cache_of
from persona_interp.interventions.compile.transformer_lens import transformer_lens_hooks
from persona_interp.interventions.graph import InterventionGraph, Write, WritePositions
from persona_interp.interventions.operations import Add
from persona_interp.interventions.schedules import StepTable
from persona_interp.models.steerable import SteerableModel
from persona_interp.models.steered import steered

TinyModel = Callable[[str], SteerableModel]
IDS = torch.tensor([list(range(20, 33))])
GREEDY = {"do_sample": False, "max_new_tokens": 6, "min_new_tokens": 6, "pad_token_id": 0}
BY_STEP = StepTable((0.0, 1.0, -1.0, 2.0, 0.5, 1.5, 1.0))

pytestmark = pytest.mark.filterwarnings("ignore:.*generation_config.*:UserWarning")


def writing(model: SteerableModel, positions: WritePositions, schedule: StepTable | None = None) -> InterventionGraph:
    direction = torch.randn(model.d_model, generator=torch.Generator().manual_seed(0)) * 5
    return InterventionGraph((Write(1, Add(direction), 1.0, positions, schedule=schedule),))


@pytest.fixture(params=["all", "prompt", "response", "by step"])
def graph(request: pytest.FixtureRequest, tiny_model: TinyModel) -> InterventionGraph:
    if request.param == "by step":
        return writing(tiny_model("qwen2"), "response", BY_STEP)
    return writing(tiny_model("qwen2"), request.param)


@pytest.fixture
def hf_model(tiny_model: TinyModel) -> Iterator[Any]:
    model = tiny_model("qwen2").hf_model
    yield model
    assert "generate" not in vars(model)
    assert not model._forward_hooks
    assert not model._forward_pre_hooks
    assert not model.model._forward_hooks
    assert not model.model._forward_pre_hooks


WAYS: dict[str, dict[str, Any]] = {
    "chunks of 4": {"prefill_chunk_size": 4},
    "single tokens": {"prefill_chunk_size": 1},
    "static cache": {"cache_implementation": "static"},
    "static cache in chunks": {"cache_implementation": "static", "prefill_chunk_size": 5},
    "no cache": {"use_cache": False},
    "prompt lookup": {"prompt_lookup_num_tokens": 3},
}


@pytest.mark.parametrize("way", WAYS)
def test_generation_gives_the_same_answer_however_the_prompt_is_fed(hf_model: Any, graph: InterventionGraph, way: str) -> None:
    with steered(hf_model, graph):
        expected = hf_model.generate(IDS, **GREEDY)
        assert torch.equal(hf_model.generate(IDS, **GREEDY, **WAYS[way]), expected)
        assert torch.equal(hf_model.generate(inputs=IDS, **GREEDY, **WAYS[way]), expected)
    assert not torch.equal(hf_model.generate(IDS, **GREEDY), expected)


def test_a_model_that_assists_itself_gives_the_same_answer(hf_model: Any, graph: InterventionGraph) -> None:
    """As a whole, and leaving at an early block."""
    with steered(hf_model, graph):
        expected = hf_model.generate(IDS, **GREEDY)
        assert torch.equal(hf_model.generate(IDS, **GREEDY, assistant_model=hf_model), expected)
        assert torch.equal(hf_model.generate(IDS, **GREEDY, assistant_early_exit=1), expected)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("chunk", [None, 4])
def test_padded_rows_in_chunks_equal_each_row_alone(
    hf_model: Any, graph: InterventionGraph, side: str, chunk: int | None
) -> None:
    """Right-padded ones, which transformers answers badly, at the positions of each row, chunked or not."""
    short = IDS[:, :8]
    pads = torch.zeros(1, 5, dtype=torch.long)
    ids = torch.cat([IDS, torch.cat([pads, short] if side == "left" else [short, pads], dim=1)])
    mask = torch.ones_like(ids)
    mask[1, slice(None, 5) if side == "left" else slice(8, None)] = 0
    given = {"input_ids": ids, "attention_mask": mask, **GREEDY}
    with steered(hf_model, graph):
        together = hf_model.generate(**given, prefill_chunk_size=chunk)[:, 13:]
        assert torch.equal(together[:1], hf_model.generate(IDS, **GREEDY)[:, 13:])
        if side == "left":
            assert torch.equal(together[1:], hf_model.generate(short, **GREEDY)[:, 8:])
        else:
            assert torch.equal(together, hf_model.generate(**given)[:, 13:])


def test_a_prefix_in_a_cache_and_the_rest_to_generate_equal_the_whole(hf_model: Any, graph: InterventionGraph) -> None:
    """The ids whole with the cache, or only the new ones with the mask of all."""
    with steered(hf_model, graph):
        expected = hf_model.generate(IDS, **GREEDY)
    n_prompt = [IDS.shape[1]]
    with steered(hf_model, graph, n_prompt=n_prompt), torch.no_grad():
        cache = cache_of(hf_model(IDS[:, :6], use_cache=True))
    with steered(hf_model, graph):
        whole = hf_model.generate(IDS, **{cache_name(hf_model): copy.deepcopy(cache)}, **GREEDY)
        rest = {"input_ids": IDS[:, 6:], "attention_mask": torch.ones_like(IDS)}
        parts = hf_model.generate(**rest, **{cache_name(hf_model): copy.deepcopy(cache)}, **GREEDY)
    assert torch.equal(whole, expected)
    assert torch.equal(parts[:, 7:], expected[:, 13:])


def test_a_second_turn_over_one_cache_is_a_prompt(hf_model: Any) -> None:
    """Of it only what has not run yet is written to, the last token of the first answer included."""
    model_graph = InterventionGraph((Write(1, Add(torch.full((32,), 3.0)), 1.0, "prompt"),))
    seen: list[Tensor] = []
    with torch.no_grad():
        cache = DynamicCache(config=hf_model.config)
        first = hf_model.generate(IDS, **{cache_name(hf_model): cache}, **GREEDY)
        second = torch.cat([first, IDS[:, :4]], dim=1)
        plain = copy.deepcopy(cache)
        for steering in (False, True):
            handle = hf_model.model.layers[2].register_forward_pre_hook(lambda module, args: seen.append(args[0].clone()))
            try:
                if steering:
                    with steered(hf_model, model_graph):
                        hf_model.generate(second, **{cache_name(hf_model): cache}, **GREEDY)
                else:
                    hf_model.generate(second, **{cache_name(hf_model): plain}, **GREEDY)
            finally:
                handle.remove()
    moved = (seen[len(seen) // 2] - seen[0]).abs().amax(dim=-1)
    assert seen[0].shape[1] == 5
    assert bool((moved > 1).all())
    assert [len(seen) // 2, seen[1].shape[1]] == [6, 1]


def by_hand(hf_model: Any, pieces: list[Tensor], **given: Any) -> Tensor:
    """The logits of a text that is given to the model in pieces over one cache."""
    cache = DynamicCache(config=hf_model.config)
    with torch.no_grad():
        return torch.cat([hf_model(piece, **{cache_name(hf_model): cache}, **given).logits for piece in pieces], dim=1)


@pytest.mark.parametrize("sizes", [[13], [5, 8], [10, 1, 1, 1], [4, 4, 4, 1], [1] * 13])
def test_given_prompt_lengths_settle_every_call(hf_model: Any, graph: InterventionGraph, sizes: list[int]) -> None:
    """A prompt of 9 tokens and an answer of 4, in pieces that cut either."""
    with steered(hf_model, graph, n_prompt=[9]), torch.no_grad():
        expected = hf_model(IDS).logits
    with steered(hf_model, graph, n_prompt=[9]):
        got = by_hand(hf_model, list(IDS.split(sizes, dim=1)))
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


def test_what_cannot_be_known_is_refused_where_it_matters(hf_model: Any, graph: InterventionGraph) -> None:
    """Several tokens behind a cache; a cut cache; the ids of the call before and one more; packed texts."""
    matters = graph.writes[0].positions != "all"

    def refused(call: Callable[[], Any], match: str) -> None:
        if matters:
            with pytest.raises(UnsupportedError, match=f"(?s){match}.*n_prompt"), steered(hf_model, graph):
                call()
        else:
            with steered(hf_model, graph):
                call()

    def cut() -> None:
        cache = cache_of(hf_model(IDS, use_cache=True))
        cache.crop(-4)
        hf_model(IDS[:, :1], **{cache_name(hf_model): cache})

    packed = torch.tensor([[0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5, 6]])
    refused(lambda: by_hand(hf_model, list(IDS.split([5, 8], dim=1))), "8 tokens a row behind 5 cached ones")
    refused(cut, "1 tokens a row behind 9 cached ones")
    refused(lambda: [hf_model(IDS[:, :n]) for n in (7, 8)], "the ids of the call before and one more")
    refused(lambda: hf_model(IDS, position_ids=packed), "packed")


def test_prompts_that_are_scored_one_after_another_are_each_a_prompt(hf_model: Any) -> None:
    graph = InterventionGraph((Write(1, Add(torch.ones(32) * 3), 1.0, "response"),))
    prompts = [IDS[:, :7], IDS[:, 3:], IDS, IDS[:, :9]]
    alone = []
    for prompt in prompts:
        with steered(hf_model, graph), torch.no_grad():
            alone.append(hf_model(prompt).logits)
    with steered(hf_model, graph), torch.no_grad():
        for prompt, expected in zip(prompts, alone, strict=True):
            assert torch.equal(hf_model(prompt).logits, expected)


def test_conversations_in_turns_are_told_apart_by_their_caches(hf_model: Any) -> None:
    """The steps of each answer count from its own prompt, though prompts differ in length and answers interleave."""
    table = InterventionGraph((Write(1, Add(torch.ones(32) * 3), 1.0, "response", schedule=BY_STEP),))
    prompts, answers = [IDS[:, :5], IDS[:, :9]], IDS[0, :3]

    def talk(which: list[int]) -> dict[int, list[Tensor]]:
        with steered(hf_model, table), torch.no_grad():
            caches = {n: cache_of(hf_model(prompts[n], use_cache=True)) for n in which}
            said: dict[int, list[Tensor]] = {n: [] for n in which}
            for token in answers:
                for n in which:
                    said[n].append(hf_model(token.view(1, 1), **{cache_name(hf_model): caches[n]}).logits)
        return said

    together = talk([0, 1])
    for n in (0, 1):
        for got, expected in zip(together[n], talk([n])[n], strict=True):
            assert torch.equal(got, expected)


def test_the_decoder_alone_and_masks_by_place_are_followed_too(hf_model: Any, graph: InterventionGraph) -> None:
    """``model.model(...)`` and positional arguments, which hooks once overlooked."""
    mask = torch.ones_like(IDS)
    mask[:, :3] = 0
    with steered(hf_model, graph), torch.no_grad():
        expected = hf_model(input_ids=IDS, attention_mask=mask).logits
        assert torch.equal(hf_model(IDS, mask).logits, expected)
        assert torch.equal(hf_model.lm_head(hf_model.model(IDS, mask).last_hidden_state), expected)
        assert torch.equal(hf_model.forward(IDS, mask).logits, expected)


def test_a_block_called_by_itself_is_refused(hf_model: Any, graph: InterventionGraph) -> None:
    with pytest.raises(UnsupportedError, match="block 1 was called by itself"), steered(hf_model, graph):
        hf_model.model.layers[1](torch.zeros(1, 2, 32), position_embeddings=(torch.ones(1, 2, 8), torch.zeros(1, 2, 8)))


def test_rows_that_do_not_fit_are_named(hf_model: Any, graph: InterventionGraph) -> None:
    wrong = pytest.raises(InvalidInputError, match="n_prompt has 2 entries, but the model was called with 1")
    with wrong, steered(hf_model, graph, n_prompt=[3, 4]):
        hf_model(IDS)
    wrong = pytest.raises(InvalidInputError, match="attention mask has 2 rows")
    with wrong, steered(hf_model, graph, attention_mask=torch.ones(2, 13)):
        hf_model(IDS)


def test_two_blocks_may_end_in_any_order(hf_model: Any, graph: InterventionGraph) -> None:
    """Entered in one order and left in the same, as two threads may; generation is followed to the end."""
    with steered(hf_model, graph):
        expected = hf_model.generate(IDS, **GREEDY)
    first, second = steered(hf_model, InterventionGraph()), steered(hf_model, graph)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert torch.equal(hf_model.generate(IDS, **GREEDY, prefill_chunk_size=4), expected)
    second.__exit__(None, None, None)


def test_a_copy_made_inside_generates_by_itself(hf_model: Any, graph: InterventionGraph) -> None:
    with steered(hf_model, graph):
        twin = copy.deepcopy(hf_model)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.mul_(0.5)
    assert twin.generate.__self__ is twin


def test_streamed_answers_of_transformer_lens_are_followed(tiny_model: TinyModel) -> None:
    """Without a cache, where only the call of `generate_stream` shows that the same prompt grows an answer."""
    model = tiny_model("qwen2")
    bridge, graph = model.bridge(), writing(model, "response", BY_STEP)
    settings = {"max_new_tokens": 5, "do_sample": False, "stop_at_eos": False, "verbose": False}
    with transformer_lens_hooks(bridge, graph):
        expected = bridge.generate(IDS, **settings, return_type="tokens")
        for cached in (True, False):
            parts = list(bridge.generate_stream(IDS, **settings, return_type="tokens", use_past_kv_cache=cached))
            assert torch.equal(torch.cat(parts, dim=1)[:, -5:], expected[:, -5:])
    assert not {"generate", "generate_stream"} & set(vars(bridge))
