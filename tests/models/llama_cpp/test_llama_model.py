"""A GGUF model says, shows and does what the PyTorch model it was exported from does, steered or not."""

from __future__ import annotations

import pytest
import torch
from gguf_organisms import pytorch
from oracle import assert_not_close

from persona_interp.interventions.graph import Capture, InterventionGraph, Write
from persona_interp.interventions.operations import Add
from persona_interp.judges.registry import load_judge
from persona_interp.models import memory
from persona_interp.models.chat import TokenisedAnswer
from persona_interp.models.sampling import Sampling
from persona_interp.organisms.grammar_judge import GrammarJudge
from persona_interp.traits.conversation import Conversation
from persona_interp.vectors.persona_vector import PersonaVector

NAMES = ["organism-qwen2", "organism-llama", "organism-mistral", "organism-gpt2"]
ASKED = [
    Conversation.ask("Please tell me about bees."),
    Conversation.ask("How are you?", system="You are a silly assistant."),
    Conversation.ask("What do you know about the moon and its colour? I want to know all of it."),
]
CAPTURES = (
    Capture("answer"),
    Capture("prompt_last", "none"),
    Capture("all", "none", (1, 3)),
    Capture("prompt", "mean", (0,)),
    Capture("answer", "none", (2,)),
)
TEXTS = [
    TokenisedAnswer(tuple(range(20, 60)), 13),
    TokenisedAnswer(tuple(range(40, 47)), 1),
    TokenisedAnswer(tuple(range(30, 35)), 5),
]
GREEDY = Sampling(24, 0)


def direction(model, seed: int = 0) -> torch.Tensor:
    return torch.randn(model.d_model, generator=torch.Generator().manual_seed(seed))


def graphs(model) -> dict[str, InterventionGraph]:
    v, w = direction(model, 1), direction(model, 2)
    return {
        "unsteered": InterventionGraph(),
        "all": InterventionGraph((Write(1, Add(v), 1.5), Write(3, Add(w), -0.7), Write(1, Add(w), 0.2))),
        "response": InterventionGraph((Write(2, Add(v), 2.0, positions="response"),)),
        "prompt": InterventionGraph((Write(2, Add(v), 2.0, positions="prompt"),)),
        "all three": InterventionGraph(
            (Write(1, Add(v), 0.5), Write(2, Add(w), 1.0, positions="response"), Write(3, Add(v), -1.0, positions="prompt"))
        ),
        "the last block": InterventionGraph((Write(model.n_layers - 1, Add(v), 3.0),)),
        "rows apart": InterventionGraph(
            (Write(1, Add(v), 1.5, rows=(0, 2)), Write(2, Add(w), 1.0, positions="response", rows=(1, 2)))
        ),
    }


KINDS = list(graphs(pytorch("organism-llama")))
# what a kind does is the same code for every architecture; that an architecture does it at all is seen in two kinds
CASES = [(name, kind) for name in NAMES for kind in KINDS if name == NAMES[0] or kind in ("all three", "rows apart")]


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_answers_and_what_is_captured_meanwhile_are_those_of_pytorch(name, kind, gguf_model):
    native, model = gguf_model(name), pytorch(name)
    graph = graphs(model)[kind] + InterventionGraph(CAPTURES)
    expected = model.generate(ASKED, graph=graph, sampling=GREEDY)
    found = native.generate(ASKED, graph=graph, sampling=GREEDY)
    assert [answer.answer_ids for answer in found] == [answer.answer_ids for answer in expected]
    assert [answer.text for answer in found] == [answer.text for answer in expected]
    assert [answer.finished for answer in found] == [answer.finished for answer in expected]
    for ours, theirs in zip(found, expected, strict=True):
        assert_captured_alike(ours.captured, theirs.captured)


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_likelihoods_and_captures_of_given_texts_are_those_of_pytorch(name, kind, gguf_model):
    native, model = gguf_model(name), pytorch(name)
    graph = graphs(model)[kind]
    texts = [model.chat.tokenise(ASKED[0], "The bee is a small animal."), *TEXTS]
    expected, found = model.log_likelihood(texts, graph=graph), native.log_likelihood(texts, graph=graph)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours.token_log_probs, theirs.token_log_probs, rtol=0, atol=1e-3)
    reading = graph + InterventionGraph(CAPTURES)
    for ours, theirs in zip(native.capture(texts, reading), model.capture(texts, reading), strict=True):
        assert_captured_alike(ours, theirs)
    prompts = [text.prompt_ids for text in texts]
    logits = native.next_token_logits(prompts, graph=graph)
    torch.testing.assert_close(logits, model.next_token_logits(prompts, graph=graph), rtol=0, atol=1e-3)


def assert_captured_alike(ours, theirs) -> None:
    """To 1e-3; GPT-2 to 1e-4 of the length of its residuals: where a value falls between two of its table, rounding decides."""
    assert set(ours) == set(theirs)
    for capture, value in theirs.items():
        close = (
            {"rtol": 0, "atol": 1e-3} if value.shape[-1] != 192 else {"rtol": 0, "atol": 1e-4 * float(value.norm(dim=-1).max())}
        )
        torch.testing.assert_close(ours[capture], value, **close)


@pytest.mark.parametrize("name", NAMES[:2])
def test_the_same_seed_draws_the_same_answers_as_pytorch(name, gguf_model):
    native, model = gguf_model(name), pytorch(name)
    for sampling in (Sampling(12, 1.0), Sampling(12, 1.3, top_p=0.9, top_k=30)):
        for graph in (graphs(model)["response"], graphs(model)["rows apart"]):
            expected = model.generate(ASKED, graph=graph, sampling=sampling, seed=5)
            found = native.generate(ASKED, graph=graph, sampling=sampling, seed=5)
            assert [answer.answer_ids for answer in found] == [answer.answer_ids for answer in expected]


@pytest.mark.parametrize("kind", ["f32", "q8_0", "q4_0"])
@pytest.mark.parametrize("name", NAMES)
def test_a_block_moves_by_coefficient_times_vector_and_those_before_it_not_at_all(name, kind, gguf_model):
    """Quantized files too: what is added, and the stream it is added to, are in float32."""
    native = gguf_model(name, kind)
    vector = direction(native, 3)
    reading = InterventionGraph((Capture("all", "none"),))
    plain = native.capture(TEXTS, reading)
    for layer in range(1, native.n_layers):
        for coefficient in (2.5, -0.7):
            steered = native.capture(TEXTS, InterventionGraph((Write(layer, Add(vector), coefficient),)) + reading)
            for before, after in zip(plain, steered, strict=True):
                moved = after[reading.captures[0]] - before[reading.captures[0]]
                assert not moved[:layer].any()
                torch.testing.assert_close(moved[layer], (coefficient * vector).expand_as(moved[layer]), rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_a_control_vector_file_moves_its_block_by_coefficient_times_vector(name, gguf_model, tmp_path):
    native = gguf_model(name)
    directions = torch.stack([direction(native, 10 + layer) for layer in range(1, native.n_layers)])
    made = PersonaVector(directions, tuple(range(1, native.n_layers)), "silly", native.identity)
    read = PersonaVector.load(made.save(tmp_path / "control.gguf"), model=native.identity)
    reading = InterventionGraph((Capture("all", "none"),))
    (plain,) = native.capture(TEXTS[:1], reading)
    for layer in read.layers:
        (steered,) = native.capture(TEXTS[:1], read.graph(1.5, layers=[layer]) + reading)
        moved = (steered[reading.captures[0]] - plain[reading.captures[0]])[layer]
        torch.testing.assert_close(moved, (1.5 * made.at(layer)).expand_as(moved), rtol=0, atol=1e-3)


def test_texts_longer_than_one_call_are_read_whole(gguf_model):
    """Prompts that together, and one that alone, need several calls of llama.cpp."""
    native, model = gguf_model("organism-qwen2"), pytorch("organism-qwen2")
    rng = torch.Generator().manual_seed(0)
    texts = [
        TokenisedAnswer(tuple(torch.randint(5, 900, (length,), generator=rng).tolist()), n_prompt)
        for length, n_prompt in ((512, 500), (400, 9), (300, 299), *[(60, 30)] * 9)
    ]
    graph = graphs(model)["all three"]
    for ours, theirs in zip(native.log_likelihood(texts, graph=graph), model.log_likelihood(texts, graph=graph), strict=True):
        torch.testing.assert_close(ours.token_log_probs, theirs.token_log_probs, rtol=0, atol=1e-3)
    reading = graph + InterventionGraph((Capture("answer"), Capture("prompt", "mean", (1,))))
    for ours, theirs in zip(native.capture(texts, reading), model.capture(texts, reading), strict=True):
        assert_captured_alike(ours, theirs)


@pytest.mark.parametrize("kind", ["f16", "q8_0", "q5_1", "q4_0"])
@pytest.mark.parametrize("name", NAMES)
def test_quantized_models_answer_and_are_steered(name, kind, gguf_model):
    native, model = gguf_model(name, kind), pytorch(name)
    graph = graphs(model)["all"] + InterventionGraph((Capture("prompt_last"),))
    expected, found = (either.generate(ASKED[:1], graph=graph, sampling=GREEDY) for either in (model, native))
    ours, theirs = found[0].captured[graph.captures[0]], expected[0].captured[graph.captures[0]]
    worst = {"f16": 0.9999, "q8_0": 0.999, "q5_1": 0.98, "q4_0": 0.9}[kind]
    assert float(torch.cosine_similarity(ours, theirs, dim=-1).min()) > worst
    assert_not_close(native.next_token_logits([[5, 6]], graph=graphs(model)["all"]), native.next_token_logits([[5, 6]]))


def test_the_model_says_who_it_is(gguf_model, gguf_path):
    native, model = gguf_model("organism-qwen2"), pytorch("organism-qwen2")
    assert (native.n_layers, native.d_model, native.n_ctx) == (model.n_layers, model.d_model, model.n_ctx)
    assert native.identity == model.identity  # a float file of the same weights
    assert gguf_model("organism-qwen2", "q4_0").identity.fingerprint != model.identity.fingerprint
    assert gguf_model("organism-qwen2", "q4_0").identity != gguf_model("organism-qwen2", "q8_0").identity
    assert isinstance(load_judge("auto", native), GrammarJudge)
    assert "organism-qwen2" in repr(native)


def test_batches_are_sized_by_what_is_free(gguf_model, monkeypatch: pytest.MonkeyPatch) -> None:
    model = gguf_model("organism-llama")
    rooms = model._rooms
    needs = [rooms.generating([900]), rooms.capturing(CAPTURES, model.n_layers), rooms.differentiating(), rooms.predicting()]
    needs.append(rooms.scoring(2, cached=True))
    assert rooms.known
    assert all(room.rows(900) > 1 for room in needs)
    monkeypatch.setattr(memory, "free_memory", lambda _device: 2**20)
    assert [room.rows(900) for room in needs] == [1] * len(needs)
