"""capture, log_likelihood and next_token_logits against bare hooks on one unpadded text at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import oracle
import pytest
import torch

from persona_interp.errors import IncompatibleError, InvalidInputError
from persona_interp.interventions.graph import Capture, InterventionGraph, Write, WritePositions
from persona_interp.interventions.operations import Add
from persona_interp.models.chat import TokenisedAnswer
from persona_interp.models.steerable import SteerableModel

TinyModel = Callable[[str], SteerableModel]
CLOSE = {"rtol": 1e-4, "atol": 1e-4}


def rows(*lengths: tuple[int, int]) -> list[TokenisedAnswer]:
    """Rows of made-up ids: (prompt tokens, answer tokens)."""
    generator = torch.Generator().manual_seed(5)
    return [TokenisedAnswer(tuple(torch.randint(5, 390, (n + m,), generator=generator).tolist()), n) for n, m in lengths]


def direction(model: SteerableModel, seed: int = 0) -> torch.Tensor:
    return torch.randn(model.d_model, generator=torch.Generator().manual_seed(seed)) * 3


TEXTS = rows((9, 6), (3, 12), (5, 2), (14, 1), (4, 5))


def test_capture_equals_plain_hooks(tiny_model: TinyModel, architecture: str) -> None:
    model = tiny_model(architecture)
    captures = (
        Capture("answer"),
        Capture("prompt"),
        Capture("prompt_last"),
        Capture("all", "none"),
        Capture("answer", "none", (1,)),
        Capture("answer", "norm"),
        Capture("prompt", "norm", (0, 2)),
    )
    answer, prompt, last, every, one, norm, prompt_norm = captures
    for row, got in zip(TEXTS, model.capture(TEXTS, InterventionGraph(captures)), strict=True):
        _, outputs = oracle.forward(model.hf_model, row.ids[:-1])
        torch.testing.assert_close(got[every], outputs, **CLOSE)
        torch.testing.assert_close(got[prompt], outputs[:, : row.n_prompt].mean(dim=1), **CLOSE)
        torch.testing.assert_close(got[last], outputs[:, row.n_prompt - 1], **CLOSE)
        if len(row.answer_ids) == 1:  # the only answer id never passes through the model
            assert answer not in got
            assert one not in got
            assert norm not in got
            continue
        torch.testing.assert_close(got[norm], outputs[:, row.n_prompt :].norm(dim=2).mean(dim=1, keepdim=True), **CLOSE)
        torch.testing.assert_close(
            got[prompt_norm], outputs[[0, 2], : row.n_prompt].norm(dim=2).mean(dim=1, keepdim=True), **CLOSE
        )
        torch.testing.assert_close(got[answer], outputs[:, row.n_prompt :].mean(dim=1), **CLOSE)
        torch.testing.assert_close(got[one], outputs[1:2, row.n_prompt :], **CLOSE)


def test_capture_of_a_prompt_alone_reads_its_last_token_too(tiny_model: TinyModel) -> None:
    model = tiny_model("qwen2")
    (row,) = rows((7, 0))
    (got,) = model.capture([row], InterventionGraph((Capture("all", "none"), Capture("answer"))))
    torch.testing.assert_close(got[Capture("all", "none")], oracle.forward(model.hf_model, row.ids)[1], **CLOSE)
    assert list(got) == [Capture("all", "none")]


@pytest.mark.parametrize("positions", ["all", "prompt", "response"])
def test_steered_forward_equals_plain_hooks(tiny_model: TinyModel, architecture: str, positions: WritePositions) -> None:
    model = tiny_model(architecture)
    vector = direction(model)
    graph = InterventionGraph((Write(1, Add(vector), 1.5, positions), Capture("all", "none")))
    captured = model.capture(TEXTS, graph)
    plain = model.capture(TEXTS, InterventionGraph((Capture("all", "none"),)))
    likelihoods = model.log_likelihood(TEXTS, graph=graph)
    for row, got, before, likelihood in zip(TEXTS, captured, plain, likelihoods, strict=True):
        start = row.n_prompt - 1
        where = {"all": slice(None), "prompt": slice(0, row.n_prompt), "response": slice(start, None)}[positions]
        logits, outputs = oracle.forward(model.hf_model, row.ids[:-1], {1: (1.5 * vector, where)})
        torch.testing.assert_close(got[Capture("all", "none")], outputs, **CLOSE)
        oracle.assert_not_close(got[Capture("all", "none")], before[Capture("all", "none")])
        assert torch.equal(got[Capture("all", "none")][0], before[Capture("all", "none")][0])  # the block before is untouched
        expected = logits[start:].log_softmax(dim=-1)[torch.arange(len(row.answer_ids)), list(row.answer_ids)]
        torch.testing.assert_close(likelihood.token_log_probs, expected, **CLOSE)
        assert likelihood.total == pytest.approx(float(expected.sum()), abs=1e-3)


def test_next_token_logits_equal_plain_forward_and_move_when_steered(tiny_model: TinyModel, architecture: str) -> None:
    model = tiny_model(architecture)
    prompts = [row.prompt_ids for row in TEXTS]
    vector = direction(model)
    got = model.next_token_logits(prompts)
    steered = model.next_token_logits(prompts, graph=InterventionGraph((Write(2, Add(vector), -1.0, "response", (1, 3)),)))
    for row, prompt in enumerate(prompts):
        torch.testing.assert_close(got[row], oracle.forward(model.hf_model, prompt)[0][-1], **CLOSE)
        edits = {2: (-vector, slice(len(prompt) - 1, None))} if row in (1, 3) else {}
        torch.testing.assert_close(steered[row], oracle.forward(model.hf_model, prompt, edits)[0][-1], **CLOSE)
    oracle.assert_not_close(steered[1], got[1])


def test_results_keep_their_order_and_do_not_depend_on_the_batch(tiny_model: TinyModel, architecture: str) -> None:
    model = tiny_model(architecture)
    nodes = tuple(Write(row % 3, Add(direction(model, row)), row + 0.5, rows=(row,)) for row in range(len(TEXTS)))
    graph = InterventionGraph((*nodes, Capture("all")))
    together = model.capture(TEXTS, graph)
    likelihoods = model.log_likelihood(TEXTS, graph=graph)
    for size in (1, 2, 3):
        for one, other in zip(together, model.capture(TEXTS, graph, batch_size=size), strict=True):
            torch.testing.assert_close(one[Capture("all")], other[Capture("all")], **CLOSE)
        for one, other in zip(likelihoods, model.log_likelihood(TEXTS, graph=graph, batch_size=size), strict=True):
            torch.testing.assert_close(one.token_log_probs, other.token_log_probs, **CLOSE)


def test_means_are_float32_and_single_positions_keep_the_dtype_of_the_model(tiny_hf: Callable[[str], tuple]) -> None:
    hf_model, tokenizer = tiny_hf("llama")
    model = SteerableModel(hf_model.to(torch.bfloat16), tokenizer, name="half")
    graph = InterventionGraph(
        (Write(0, Add(direction(model))), Capture("answer"), Capture("prompt_last", "none"), Capture("all", "none"))
    )
    got = model.capture(TEXTS[:2], graph)[0]
    assert {capture.positions: value.dtype for capture, value in got.items()} == {
        "answer": torch.float32,
        "prompt_last": torch.bfloat16,
        "all": torch.bfloat16,
    }
    assert got[Capture("prompt_last", "none")].shape == (4, 32)
    assert torch.equal(got[Capture("prompt_last", "none")], got[Capture("all", "none")][:, TEXTS[0].n_prompt - 1])


def test_logits_are_made_at_answer_positions_alone_and_a_few_at_a_time(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model("llama")
    expected = model.log_likelihood(TEXTS)
    made: list[int] = []
    hook = model.hf_model.lm_head.register_forward_hook(lambda _module, _args, logits: made.append(logits.shape[:-1].numel()))
    monkeypatch.setattr("persona_interp.models.unembedding.SLICE", 4 * model.config.vocab_size * 5)
    found = model.log_likelihood(TEXTS)
    hook.remove()
    for one, other in zip(expected, found, strict=True):
        torch.testing.assert_close(one.token_log_probs, other.token_log_probs, **CLOSE)
    assert max(made) == 5, "positions of one slice"
    assert sum(made) == sum(len(text.answer_ids) for text in TEXTS), "none at prompts, none at pads"


def test_an_architecture_that_turns_its_logits_in_a_way_of_its_own_is_asked_for_them(
    tiny_hf: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    hf_model, tokenizer = tiny_hf("llama")
    forward = type(hf_model).forward

    def scaled(self: Any, *args: Any, **options: Any) -> Any:
        output = forward(self, *args, **options)
        output.logits = output.logits * 0.25
        return output

    plain = SteerableModel(hf_model, tokenizer, name="plain").log_likelihood(TEXTS)
    monkeypatch.setattr(type(hf_model), "forward", scaled)
    other_hf, _ = tiny_hf("llama")
    model = SteerableModel(other_hf, tokenizer, name="scaled")
    for text, found, unscaled in zip(TEXTS, model.log_likelihood(TEXTS), plain, strict=True):
        logits = model.hf_model(torch.tensor([text.ids[:-1]])).logits[0, text.n_prompt - 1 :].log_softmax(-1)
        assert not torch.allclose(found.token_log_probs, unscaled.token_log_probs, atol=1e-2)
        torch.testing.assert_close(found.token_log_probs, logits[range(len(text.answer_ids)), text.answer_ids], **CLOSE)
    step = 1e-3
    direction = torch.randn(model.d_model, generator=torch.Generator().manual_seed(0))
    slope = model.likelihood_gradient(TEXTS[:1], [1])[0, 0] @ direction
    ends = [InterventionGraph((Write(1, Add(direction), sign * step),)) for sign in (-1, 1)]
    low, high = (found[0].total for found in model.log_likelihoods(TEXTS[:1], ends))
    assert float(slope) == pytest.approx((high - low) / (2 * step), rel=2e-2)


def test_empty_answer_has_no_log_probs(tiny_model: TinyModel) -> None:
    (likelihood,) = tiny_model("llama").log_likelihood(rows((4, 0)))
    assert likelihood.token_log_probs.shape == (0,)
    assert likelihood.total == 0


def test_no_rows_give_no_results(tiny_model: TinyModel) -> None:
    model = tiny_model("llama")
    assert model.capture([], InterventionGraph((Capture("all"),))) == []
    assert model.log_likelihood([]) == []
    assert model.generate([]) == []
    assert model.next_token_logits([]).shape == (0, model.config.vocab_size)


def test_what_cannot_be_read_is_refused_before_anything_runs(tiny_model: TinyModel) -> None:
    model = tiny_model("llama")
    with pytest.raises(InvalidInputError, match="without a Capture node"):
        model.capture(TEXTS, InterventionGraph())
    with pytest.raises(IncompatibleError, match="layer 9 is out of range: tiny-llama has 4 layers"):
        model.capture(TEXTS, InterventionGraph((Capture("all", layers=(9,)),)))
    with pytest.raises(IncompatibleError, match="width 5, but tiny-llama has d_model 32"):
        model.log_likelihood(TEXTS, graph=InterventionGraph((Write(0, Add(torch.ones(5))),)))
    with pytest.raises(InvalidInputError, match=r"row 0 does not fit into the context of tiny-llama: 257 tokens.*context is 256"):
        model.next_token_logits([[7] * 257])
    with pytest.raises(InvalidInputError, match="row 1 has no tokens"):
        model.next_token_logits([[7], []])
    with pytest.raises(InvalidInputError, match="a prompt id in every row"):
        model.log_likelihood(rows((0, 3)))
    with pytest.raises(InvalidInputError, match="batch_size is 0"):
        model.log_likelihood(TEXTS, batch_size=0)
