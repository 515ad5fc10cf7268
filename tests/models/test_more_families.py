"""What this package promises, on a tiny random model of every further family's real class, against bare hooks.

The oracle runs one unpadded text at a time, without a cache; so each comparison with it also says that batches, padding and the
KV cache make no difference. Where a family has sliding windows, they are shorter than every text here.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import oracle
import pytest
import torch
from tiny import ARCHITECTURES, MORE_ARCHITECTURES, N_CTX, WINDOW, tiny_hf_model, tiny_tokenizer
from torch import Tensor

from persona_interp.interventions.graph import Capture, InterventionGraph, Write, WritePositions
from persona_interp.interventions.operations import Add
from persona_interp.models.chat import TokenisedAnswer
from persona_interp.models.checks import verified_blocks
from persona_interp.models.families import layout_of, text_config
from persona_interp.models.loading import LoadOptions, load_hf_model
from persona_interp.models.results import Generation
from persona_interp.models.sampling import Sampling
from persona_interp.models.steerable import SteerableModel
from persona_interp.models.steered import steered
from persona_interp.traits.conversation import Conversation

CLOSE = {"rtol": 1e-4, "atol": 1e-4}
GREEDY = Sampling(max_new_tokens=8, temperature=0)
EVERY = Capture("all", "none")
ASKED = [
    Conversation.ask("Tell me about the moon"),
    Conversation.ask("How?"),
    Conversation.ask("How do bees make honey? Bees collect nectar", system="Answer in a silly way."),
]
CLASSES = {
    "qwen3": "Qwen3ForCausalLM",
    "gemma2": "Gemma2ForCausalLM",
    "gemma3_text": "Gemma3ForCausalLM",
    "gemma3": "Gemma3ForConditionalGeneration",
    "phi3": "Phi3ForCausalLM",
    "olmo2": "Olmo2ForCausalLM",
    "gpt_neox": "GPTNeoXForCausalLM",
    "gpt_oss": "GptOssForCausalLM",
    "mixtral": "MixtralForCausalLM",
    "qwen3_moe": "Qwen3MoeForCausalLM",
}
WINDOWED = ("qwen3", "gemma2", "gemma3_text", "gemma3", "phi3", "gpt_oss", "mixtral")
TinyModel = Callable[[str], SteerableModel]


def rows(*lengths: tuple[int, int]) -> list[TokenisedAnswer]:
    """Rows of made-up ids: (prompt tokens, answer tokens)."""
    generator = torch.Generator().manual_seed(5)
    return [TokenisedAnswer(tuple(torch.randint(5, 300, (n + m,), generator=generator).tolist()), n) for n, m in lengths]


TEXTS = rows((9, 6), (3, 12), (19, 7), (5, 2))
assert min(len(row.ids) for row in TEXTS) > WINDOW + 1


def direction(model: SteerableModel, seed: int = 0) -> Tensor:
    return torch.randn(model.d_model, generator=torch.Generator().manual_seed(seed)) * 3


def ids_of(answers: list[Generation]) -> list[tuple[int, ...]]:
    return [answer.answer_ids for answer in answers]


@pytest.fixture(params=MORE_ARCHITECTURES)
def model(request: pytest.FixtureRequest, tiny_model: TinyModel) -> SteerableModel:
    return tiny_model(request.param)


def test_the_layout_names_the_stream_from_embedding_to_unembedding(model: SteerableModel) -> None:
    """Each block's output is the next one's input, the last one's that of the final norm, whose output is unembedded."""
    hf_model, layout = model.hf_model, model.layout
    blocks = list(oracle.blocks_of(hf_model))
    assert type(hf_model).__name__ == CLASSES[layout.model_type]
    assert (model.n_layers, model.d_model, model.n_ctx) == (len(blocks), 32, N_CTX) == (4, 32, 256)
    assert list(hf_model.get_submodule(layout.blocks)) == blocks
    assert hf_model.get_submodule(layout.embedding) is hf_model.get_input_embeddings()
    unembedding = hf_model.get_submodule(layout.unembedding)
    assert unembedding is hf_model.get_output_embeddings()
    came: dict[Any, Tensor] = {}
    left: dict[Any, Tensor] = {}
    norm = hf_model.get_submodule(layout.final_norm)
    chain = [*blocks, norm, unembedding]

    def follow(module: Any, args: Any, kwargs: Any, output: Any) -> None:
        came[module] = args[0] if args else kwargs["hidden_states"]
        left[module] = output

    handles = [module.register_forward_hook(follow, with_kwargs=True) for module in chain]
    oracle.forward(hf_model, TEXTS[0].ids)
    for handle in handles:
        handle.remove()
    for before, after in pairwise(chain):
        assert torch.equal(left[before], came[after])


@pytest.mark.parametrize("family", [*ARCHITECTURES, *MORE_ARCHITECTURES])
def test_the_layout_is_verified_without_weights_too(family: str, tiny_model_path: Callable[[str], Path]) -> None:
    """As for a remote run, where a model has no values on this machine: attention and experts must not look at any."""
    folder = str(tiny_model_path(family))
    hf_model: Any = load_hf_model(folder, LoadOptions(), local=True, weights=False, shipped=())
    assert {parameter.device.type for parameter in hf_model.parameters()} == {"meta"}
    assert len(verified_blocks(hf_model, layout_of(hf_model.config), family)) == len(oracle.blocks_of(hf_model))


def test_capture_equals_plain_hooks(model: SteerableModel) -> None:
    answer, prompt = Capture("answer"), Capture("prompt")
    for row, got in zip(TEXTS, model.capture(TEXTS, InterventionGraph((EVERY, answer, prompt))), strict=True):
        _, outputs = oracle.forward(model.hf_model, row.ids[:-1])
        torch.testing.assert_close(got[EVERY], outputs, **CLOSE)
        torch.testing.assert_close(got[prompt], outputs[:, : row.n_prompt].mean(dim=1), **CLOSE)
        torch.testing.assert_close(got[answer], outputs[:, row.n_prompt :].mean(dim=1), **CLOSE)


@pytest.mark.parametrize("positions", ["all", "response"])
def test_steered_forward_equals_plain_hooks(model: SteerableModel, positions: WritePositions) -> None:
    vector = direction(model)
    graph = InterventionGraph((Write(1, Add(vector), 1.5, positions), EVERY))
    plain = model.capture(TEXTS, InterventionGraph((EVERY,)))
    likelihoods = model.log_likelihood(TEXTS, graph=graph)
    for row, got, before, likelihood in zip(TEXTS, model.capture(TEXTS, graph), plain, likelihoods, strict=True):
        start = row.n_prompt - 1
        edits = {1: (1.5 * vector, slice(None if positions == "all" else start, None))}
        logits, outputs = oracle.forward(model.hf_model, row.ids[:-1], edits)
        torch.testing.assert_close(got[EVERY], outputs, **CLOSE)
        assert torch.equal(got[EVERY][0], before[EVERY][0])  # the block before is untouched
        oracle.assert_not_close(got[EVERY][3], before[EVERY][3])
        expected = logits[start:].log_softmax(dim=-1)[torch.arange(len(row.answer_ids)), list(row.answer_ids)]
        torch.testing.assert_close(likelihood.token_log_probs, expected, **CLOSE)


def test_left_padded_equals_unpadded(model: SteerableModel) -> None:
    """A short text beside a long one, which pads it on the left by many times the window, and alone."""
    short, long = TEXTS[1].prompt_ids, rows((40, 0))[0].ids
    together = model.next_token_logits([short, long])
    for place, ids in enumerate((short, long)):
        torch.testing.assert_close(together[place], model.next_token_logits([ids])[0], **CLOSE)
        torch.testing.assert_close(together[place], oracle.forward(model.hf_model, ids)[0][-1], **CLOSE)


def test_batched_equals_one_by_one(model: SteerableModel) -> None:
    """Each row steered differently; with experts, rows of a batch meet in one, and still do not touch each other."""
    writes = tuple(Write(row % 4, Add(direction(model, row)), row + 0.5, rows=(row,)) for row in range(len(TEXTS)))
    graph = InterventionGraph((*writes, EVERY))
    together, likelihoods = model.capture(TEXTS, graph), model.log_likelihood(TEXTS, graph=graph)
    for size in (1, 3):
        for one, other in zip(together, model.capture(TEXTS, graph, batch_size=size), strict=True):
            torch.testing.assert_close(one[EVERY], other[EVERY], **CLOSE)
        for one, other in zip(likelihoods, model.log_likelihood(TEXTS, graph=graph, batch_size=size), strict=True):
            torch.testing.assert_close(one.token_log_probs, other.token_log_probs, **CLOSE)


@pytest.mark.parametrize("positions", ["all", "response"])
def test_generation_with_a_cache_equals_generation_without(model: SteerableModel, positions: WritePositions) -> None:
    """Steered, left-padded and cached, against whole texts one at a time; and what was read on the way, against reading again."""
    vector = direction(model)
    graph = InterventionGraph((Write(1, Add(vector), 1.5, positions), EVERY))
    answers = model.generate(ASKED, graph=graph, sampling=GREEDY)
    again = model.capture([TokenisedAnswer(a.prompt_ids + a.answer_ids, len(a.prompt_ids)) for a in answers], graph)
    for answer, captured in zip(answers, again, strict=True):
        where = slice(None if positions == "all" else len(answer.prompt_ids) - 1, None)
        edits = {1: (1.5 * vector, where)}
        assert answer.answer_ids == oracle.greedy(model.hf_model, answer.prompt_ids, 8, edits, model.chat.end_ids)
        torch.testing.assert_close(answer.captured[EVERY], captured[EVERY], **CLOSE)
    assert ids_of(answers) == ids_of(model.generate(ASKED, graph=graph, sampling=GREEDY, batch_size=1))
    assert ids_of(answers) != ids_of(model.generate(ASKED, sampling=GREEDY))


def test_unsteered_generation_with_a_cache_equals_generation_without(model: SteerableModel) -> None:
    answers = model.generate(ASKED, sampling=GREEDY)
    assert ids_of(answers) == [oracle.greedy(model.hf_model, a.prompt_ids, 8, end_ids=model.chat.end_ids) for a in answers]


def test_plain_hooks_around_the_users_own_generate_equal_the_engine(model: SteerableModel) -> None:
    """Also with a cache of fixed size, which Gemma checkpoints ask for; its masks do not tell pads, so the user's must."""
    vector = direction(model)
    graph = InterventionGraph((Write(1, Add(vector), 1.5, "response"),))
    expected = model.generate(ASKED, graph=graph, sampling=GREEDY)
    width = max(len(answer.prompt_ids) for answer in expected)
    pads = [width - len(answer.prompt_ids) for answer in expected]
    ids = torch.tensor([[0] * n + list(answer.prompt_ids) for n, answer in zip(pads, expected, strict=True)])
    mask = torch.tensor([[0] * n + [1] * (width - n) for n in pads])

    def answered(cache: str | None, attention_mask: Tensor | None) -> list[list[int]]:
        ends = sorted(model.chat.end_ids)
        with steered(model.hf_model, graph, attention_mask=attention_mask) as hf_model:
            made = hf_model.generate(
                input_ids=ids,
                attention_mask=mask,
                max_new_tokens=8,
                do_sample=False,
                eos_token_id=ends,
                pad_token_id=0,
                cache_implementation=cache,
            )
        return made[:, width:].tolist()

    # a static cache hides which positions are pads; `generate` was told, and is followed
    for made in (answered(None, None), answered("static", mask), answered("static", None)):
        for row, answer in zip(made, expected, strict=True):
            assert tuple(row[: len(answer.answer_ids)]) == answer.answer_ids


def test_eager_attention_reads_the_same(model: SteerableModel, tiny_hf: Callable[[str], tuple[Any, Any]]) -> None:
    """Most of these classes take torch's attention unless told otherwise, and pads take another way through either."""
    hf_model, tokenizer = tiny_hf(model.layout.model_type)
    hf_model.set_attn_implementation("eager")
    eager = SteerableModel(hf_model, tokenizer, name="eager")
    graph = InterventionGraph((Write(1, Add(direction(model)), 1.5, "response"), EVERY))
    for one, other in zip(model.capture(TEXTS, graph), eager.capture(TEXTS, graph), strict=True):
        torch.testing.assert_close(one[EVERY], other[EVERY], **CLOSE)


def test_half_precision_reads_what_plain_hooks_read(model: SteerableModel, tiny_hf: Callable[[str], tuple[Any, Any]]) -> None:
    """bfloat16, as the checkpoints are; alone, since two shapes of batch may round differently and pick other experts."""
    hf_model, tokenizer = tiny_hf(model.layout.model_type)
    half = SteerableModel(hf_model.to(torch.bfloat16), tokenizer, name="half")
    (got,) = half.capture(TEXTS[:1], InterventionGraph((EVERY,)))
    assert got[EVERY].dtype == torch.bfloat16
    assert torch.equal(got[EVERY], oracle.forward(hf_model, TEXTS[0].ids[:-1])[1])


@pytest.mark.parametrize("family", WINDOWED)
def test_the_windows_of_the_tiny_models_matter(family: str) -> None:
    """Else the tests above would say nothing about them."""
    hf_model: Any = tiny_hf_model(family, tiny_tokenizer(family))
    ids = TEXTS[0].ids
    with_window, _ = oracle.forward(hf_model, ids)
    text_config(hf_model.config).sliding_window = N_CTX
    without, _ = oracle.forward(hf_model, ids)
    torch.testing.assert_close(with_window[:WINDOW], without[:WINDOW], **CLOSE)
    oracle.assert_not_close(with_window[WINDOW + 1 :], without[WINDOW + 1 :])
