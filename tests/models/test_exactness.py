"""What holds on every engine: nothing stays attached, nothing is changed, no pad is steered, no end loses anything.

Run over the verbs of a `SteerableModel` and over plain hooks; `test_remote` runs this file once more over remote="local". What
TransformerLens does is in `test_bridge`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import oracle
import pytest
import torch
from snapshot import snapshot
from torch import Tensor, nn
from transformers import LogitsProcessor, LogitsProcessorList

from persona_interp.interventions.graph import Capture, InterventionGraph, Write, WritePositions
from persona_interp.interventions.operations import Add
from persona_interp.models.chat import TokenisedAnswer
from persona_interp.models.row_sampler import RowSampler
from persona_interp.models.sampling import Sampling
from persona_interp.models.steerable import SteerableModel
from persona_interp.models.steered import steered
from persona_interp.traits.conversation import Conversation

ENGINES = tuple(os.environ.get("PERSONA_INTERP_TEST_ENGINES", "verbs hooks").split())
N = 8
LAYER = 1
ASKED = [
    Conversation.ask("How do bees make honey? Bees collect nectar"),
    Conversation.ask("Tell me about the moon"),
    Conversation.ask("How?"),
]  # longest first, the order in which a batch holds them
TEXT = [TokenisedAnswer(tuple(range(20, 30)), 4), TokenisedAnswer(tuple(range(40, 47)), 3)]
CAPTURES = (Capture("answer"), Capture("all", "none"))
CLOSE = {"rtol": 1e-4, "atol": 1e-4}


@dataclass
class Engine:
    """One way of steering a model.

    `answers` gives the answer ids of `ASKED` under the writes of a graph, each up to its end; `saved` what was captured of them
    meanwhile, where the engine captures.
    """

    name: str
    hf_model: Any
    tokenizer: Any
    model: SteerableModel

    @property
    def reads(self) -> bool:
        return self.name != "hooks"

    def answers(self, graph: InterventionGraph, fail: Callable[[], None] | None = None) -> list[tuple[int, ...]]:
        if self.reads:
            done = self.model.generate(ASKED, graph=graph, sampling=Sampling(N, 0))
            self.saved = [answer.captured for answer in done]
            return [answer.answer_ids for answer in done]
        return self._with_hooks(graph, LogitsProcessorList([_Failing(fail)] if fail else []))

    def _with_hooks(self, graph: InterventionGraph, processors: LogitsProcessorList) -> list[tuple[int, ...]]:
        prompts = [self.model.chat.prompt_ids(conversation) for conversation in ASKED]
        width = max(map(len, prompts))
        ids, mask = torch.zeros(len(prompts), width, dtype=torch.long), torch.zeros(len(prompts), width, dtype=torch.long)
        for row, prompt in enumerate(prompts):
            ids[row, width - len(prompt) :], mask[row, width - len(prompt) :] = torch.tensor(prompt), 1
        ends = self.model.chat.end_ids
        settings = {"max_new_tokens": N, "do_sample": False, "pad_token_id": 0, "eos_token_id": sorted(ends) or None}
        with steered(self.hf_model, InterventionGraph(graph.writes)) as hf_model:
            tokens = hf_model.generate(input_ids=ids, attention_mask=mask, logits_processor=processors, **settings)
        return [cut(row, ends) for row in tokens[:, width:].tolist()]

    def quiet(self) -> bool:
        """Whether nnsight is between runs."""
        interleaver = self.model.engine._traced._traced.interleaver  # type: ignore[attr-defined]
        return not interleaver.interleaving and not interleaver.mediators and interleaver.batcher is None


class _Failing(LogitsProcessor):
    def __init__(self, fail: Callable[[], None]) -> None:
        self.fail = fail

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        self.fail()
        return scores


def cut(ids: Sequence[int], ends: frozenset[int]) -> tuple[int, ...]:
    end = next((place for place, token in enumerate(ids) if token in ends), len(ids))
    return tuple(ids[: end + 1])


Made = Callable[[str], Engine]


@pytest.fixture(params=ENGINES)
def made(request: pytest.FixtureRequest, tiny_hf: Callable[[str], Any]) -> Made:
    """`made("llama")` -> the engine over a fresh model."""

    def make(architecture: str) -> Engine:
        hf_model, tokenizer = tiny_hf(architecture)
        remote = "local" if request.param == "remote" else False
        return Engine(request.param, hf_model, tokenizer, SteerableModel(hf_model, tokenizer, name="mine", remote=remote))

    return make


def graph_of(engine: Engine, positions: WritePositions = "response", captures: Sequence[Capture] = CAPTURES) -> InterventionGraph:
    direction = torch.randn(engine.model.d_model, generator=torch.Generator().manual_seed(3)) * 3
    return InterventionGraph((Write(LAYER, Add(direction), 1.5, positions), *(captures if engine.reads else ())))


@contextmanager
def watched(module: nn.Module, seen: Callable[[Tensor], None]) -> Iterator[None]:
    """Call `seen` with what the module is about to be given."""

    def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        seen(args[0] if args else kwargs["hidden_states"])

    handle = module.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def failing_at(call: int, error: type[BaseException]) -> Callable[..., None]:
    calls: list[int] = []

    def fail(*_: Any) -> None:
        calls.append(1)
        if len(calls) > call:
            raise error("broken on purpose")

    return fail


# -- pads, and where a response starts ----------------------------------------------------------------------------------


@pytest.mark.parametrize("positions", ["all", "prompt", "response"])
def test_exactly_the_positions_asked_for_are_steered_and_never_a_pad(
    made: Made, architecture: str, positions: WritePositions
) -> None:
    """Seen by the next block: in the prefill, with its pads on the left, and at every token after it."""
    engine = made(architecture)
    inputs: dict[bool, list[Tensor]] = {False: [], True: []}
    for steering, calls in inputs.items():
        graph = graph_of(engine, positions) if steering else InterventionGraph()
        with watched(oracle.blocks_of(engine.hf_model)[LAYER + 1], lambda resid, calls=calls: calls.append(resid.clone())):
            engine.answers(graph)
    plain, moved = inputs[False], inputs[True]
    lengths = [len(engine.model.chat.prompt_ids(conversation)) for conversation in ASKED]
    place = torch.arange(max(lengths)).expand(len(ASKED), -1)
    start = max(lengths) - torch.tensor(lengths).unsqueeze(1)
    expected = {"all": place >= start, "prompt": place >= start, "response": place == max(lengths) - 1}[positions]
    assert min(lengths) < max(lengths)
    assert torch.equal((moved[0] - plain[0]).abs().amax(dim=-1) > 1, expected)
    assert torch.equal(moved[0][~expected], plain[0][~expected])
    offset = 1.5 * graph_of(engine).writes[0].operation.direction
    torch.testing.assert_close(moved[0][expected] - plain[0][expected], offset.expand(int(expected.sum()), -1), **CLOSE)
    assert len(moved) > 1


# -- answers that end early ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [(1, 4, 9), (5, 2, 3)], ids=["one goes on to the limit", "all end before the limit"])
def test_answers_that_end_early_lose_nothing(
    made: Made, architecture: str, monkeypatch: pytest.MonkeyPatch, steps: tuple[int, ...]
) -> None:
    """Tokens the model is about to generate are declared end tokens, so that rows end at different steps, one at its first."""
    engine = made(architecture)
    monkeypatch.setattr(engine.model.chat, "end_ids", frozenset[int]())
    graph = graph_of(engine)
    free = engine.answers(graph)
    ends = frozenset(answer[step - 1] for answer, step in zip(free, steps, strict=True) if step <= N)
    monkeypatch.setattr(engine.model.chat, "end_ids", ends)
    answers = engine.answers(graph)
    assert answers == [cut(answer, ends) for answer in free]
    assert all(len(answer) <= step for answer, step in zip(answers, steps, strict=True))
    if not engine.reads:
        return
    prompts = [tuple(engine.model.chat.prompt_ids(conversation)) for conversation in ASKED]
    rows = [TokenisedAnswer(prompt + ids, len(prompt)) for prompt, ids in zip(prompts, answers, strict=True)]
    for row, got, whole in zip(rows, engine.saved, engine.model.capture(rows, graph), strict=True):
        assert set(got) == set(whole)
        assert got[CAPTURES[1]].shape[1] == len(row.ids) - 1
        for capture, value in whole.items():
            torch.testing.assert_close(got[capture], value, **CLOSE)


# -- bit-identical after use --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_the_model_is_bit_identical_after_use(made: Made, tiny_hf: Callable[[str], Any], family: str) -> None:
    """Also one that is set the unusual way: padded on the right, partly frozen, with settings of its own for generation."""
    hf_model, tokenizer = tiny_hf(family)
    tokenizer.padding_side = "right"
    next(iter(hf_model.parameters())).requires_grad_(False)
    hf_model.generation_config.repetition_penalty = 1.3
    engine = made(family)
    if engine.reads:
        hf_model.train()  # the verbs switch dropout off; whoever calls the model inside steered() decides that
    before = snapshot(hf_model, tokenizer)
    engine = Engine(engine.name, hf_model, tokenizer, SteerableModel(hf_model, tokenizer, name="mine"))
    assert snapshot(hf_model, tokenizer) == before
    graph = graph_of(engine)
    first = engine.answers(graph)
    if engine.reads:
        engine.model.generate(ASKED, graph=graph, sampling=Sampling(N), seed=1)
        engine.model.capture(TEXT, graph)
        engine.model.log_likelihood(TEXT, graph=graph)
        engine.model.next_token_logits([[5, 6]], graph=graph)
    assert engine.answers(graph) == first
    assert snapshot(hf_model, tokenizer) == before


# -- errors at any point ------------------------------------------------------------------------------------------------

POINTS = {
    "embedding": (0, lambda model: model.layout.embedding),
    "steered block, prefill": (0, lambda model: f"{model.layout.blocks}.{LAYER}"),
    "inside a block, prefill": (0, lambda model: f"{model.layout.blocks}.{LAYER + 1}.mlp"),
    "steered block, third token": (2, lambda model: f"{model.layout.blocks}.{LAYER}"),
    "last norm, second token": (1, lambda model: model.layout.final_norm),
    "unembedding, prefill": (0, lambda model: model.layout.unembedding),
}


@contextmanager
def unharmed(engine: Engine, fresh: Engine) -> Iterator[None]:
    """After the block the model is as before, nnsight is at rest, and the next results are those of a model never used."""
    before = snapshot(engine.hf_model, engine.tokenizer)
    yield
    assert snapshot(engine.hf_model, engine.tokenizer) == before
    assert engine.quiet()
    graph = graph_of(engine)
    assert engine.answers(graph) == fresh.answers(graph)
    assert engine.answers(InterventionGraph()) == fresh.answers(InterventionGraph())
    if engine.reads:
        for one, other in zip(engine.model.capture(TEXT, graph), fresh.model.capture(TEXT, graph), strict=True):
            assert all(torch.equal(value, other[capture]) for capture, value in one.items())


@pytest.mark.parametrize("error", [KeyError, KeyboardInterrupt])
@pytest.mark.parametrize("point", POINTS)
def test_nothing_stays_attached_after_an_error_inside_the_model(made: Made, point: str, error: type[BaseException]) -> None:
    engine, fresh = made("llama"), made("llama")
    engine.hf_model.train(engine.reads)
    call, path = POINTS[point]
    module = engine.hf_model.get_submodule(path(engine.model))
    with unharmed(engine, fresh):
        handle = module.register_forward_pre_hook(failing_at(call, error))
        with pytest.raises(error, match="broken on purpose"):
            engine.answers(graph_of(engine))
        handle.remove()


@pytest.mark.parametrize("error", [LookupError, KeyboardInterrupt])
def test_nothing_stays_attached_after_an_error_while_a_token_is_chosen(
    made: Made, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    engine, fresh = made("gpt2"), made("gpt2")
    if engine.name == "remote":
        return  # the sampler runs on the server, from its source
    with unharmed(engine, fresh):
        fail = failing_at(2, error)
        with monkeypatch.context() as patch:
            patch.setattr(RowSampler, "__call__", lambda _self, _ids, scores: (fail(), scores)[1])
            with pytest.raises(error, match="broken on purpose"):
                engine.answers(graph_of(engine), fail)


def test_nothing_stays_attached_after_an_error_in_an_operation(made: Made) -> None:
    class Broken(Add):
        @staticmethod
        def transform(*_: Any, **__: Any) -> Any:
            raise ZeroDivisionError("my operation")

    engine, fresh = made("qwen2"), made("qwen2")
    if engine.name == "remote":
        return  # the same: an operation of this file is none of the server's
    broken = InterventionGraph((Write(2, Broken(torch.ones(engine.model.d_model))),)) + graph_of(engine)
    runs: list[Callable[[], Any]] = [lambda: engine.answers(broken)]
    if engine.reads:
        runs += [lambda: engine.model.capture(TEXT, broken), lambda: engine.model.log_likelihood(TEXT, graph=broken)]
    for run in runs:
        with unharmed(engine, fresh), pytest.raises(ZeroDivisionError, match="my operation"):
            run()


@pytest.mark.parametrize("error", [LookupError, KeyboardInterrupt])
def test_nothing_stays_attached_after_an_error_in_the_users_own_code(made: Made, error: type[BaseException]) -> None:
    """In `on_generation`, or in the block of `steered`."""
    engine, fresh = made("llama"), made("llama")
    fail = failing_at(1, error)

    def run() -> None:
        if engine.reads:
            engine.model.generate(ASKED, graph=graph_of(engine), sampling=Sampling(N, 0), on_generation=fail)
        with steered(engine.hf_model, graph_of(engine)):
            fail()
            fail()

    with unharmed(engine, fresh), pytest.raises(error, match="broken on purpose"):
        run()


@pytest.mark.parametrize("verb", ["capture", "log_likelihood", "next_token_logits"])
def test_nothing_stays_attached_after_an_error_while_texts_are_read(made: Made, verb: str) -> None:
    engine, fresh = made("llama"), made("llama")
    if not engine.reads:
        return  # plain hooks read nothing
    given = [[5, 6]] if verb == "next_token_logits" else TEXT
    # the last block: a capture stops there, and does not run the norm after it
    module = oracle.blocks_of(engine.hf_model)[-1]
    with unharmed(engine, fresh):
        handle = module.register_forward_pre_hook(failing_at(0, KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt, match="broken on purpose"):
            getattr(engine.model, verb)(given, graph=graph_of(engine))
        handle.remove()
