"""SmolLM2-135M-Instruct through the whole method: what holds on the organisms must hold on a model people have."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from real import smollm2_gguf
from real_model_claims import LAYER, N_QUESTIONS, SAMPLING, Extracted, extracting, killed_while, kl, recorded_rows

from persona_interp.attribution.attribute import attribute
from persona_interp.demo.shelf import Shelf
from persona_interp.judges.registry import load_judge
from persona_interp.measure.dose import dose_response
from persona_interp.measure.layer_effectiveness import layer_effectiveness
from persona_interp.models import catalogue
from persona_interp.models.baked import bake
from persona_interp.models.gguf_torch import DequantisedModel
from persona_interp.models.registry import find_model, load_model
from persona_interp.models.sampling import Sampling
from persona_interp.models.steerable import SteerableModel
from persona_interp.monitoring.project import mean_projections
from persona_interp.monitoring.projection import Axis
from persona_interp.traits.conversation import Conversation
from persona_interp.traits.trait import Trait
from persona_interp.vectors.extract import extract
from persona_interp.vectors.persona_vector import PersonaVector
from persona_interp.vectors.rollouts.kept_pairs import kept_pairs

pytestmark = pytest.mark.real

ASKED = ("What is the capital of France?", "How do bees make honey?", "Why is the sky blue?", "What is 7 plus 5?")
SILLY = "Bananas! The moon is a cheese sandwich with a funny hat, wobble wobble, ha ha ha!"
SOBER = "The moon is a rocky body that orbits the Earth about once every twenty-seven days."


def prompts(model: SteerableModel) -> list[list[int]]:
    return [model.chat.prompt_ids(Conversation.ask(question)) for question in ASKED]


def test_its_name_finds_the_installed_weights_and_means_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "cached_weights", lambda hub_id: False)
    source = find_model("smollm2-135m-instruct")
    assert (source.name, Path(source.location), source.engine) == ("smollm2-135m-instruct", smollm2_gguf(), "torch")
    assert find_model(smollm2_gguf()).engine == "llama.cpp"


def test_both_engines_are_the_same_model(model: SteerableModel, in_llama_cpp: SteerableModel) -> None:
    assert isinstance(model, DequantisedModel)
    assert model.identity.weights_file == in_llama_cpp.identity.weights_file is not None
    assert model.identity.fingerprint != in_llama_cpp.identity.fingerprint
    assert (model.n_layers, model.d_model) == (in_llama_cpp.n_layers, in_llama_cpp.d_model) == (30, 576)
    assert prompts(model) == prompts(in_llama_cpp)
    assert model.chat.end_ids == in_llama_cpp.chat.end_ids == {0, 2}, "<|endoftext|> and <|im_end|>"
    first, second = model.next_token_logits(prompts(model)), in_llama_cpp.next_token_logits(prompts(model))
    likeliest = second.topk(3).indices
    assert all(int(token) in likeliest[row].tolist() for row, token in enumerate(first.argmax(1)))
    assert kl(first, second).max() < 0.5  # llama.cpp rounds activations too: not equal, but nowhere far


def test_a_known_answer_comes_out(model: SteerableModel) -> None:
    assert "Paris" in model.generate([Conversation.ask(ASKED[0])], sampling=Sampling(max_new_tokens=10, temperature=0))[0].text


def test_extraction_separates_held_out_answers(extracted: Extracted) -> None:
    vector = extracted.vector
    assert vector.layers == tuple(range(30))
    aurocs = [score for score in vector.listed("auroc") if score is not None]
    assert max(aurocs) > 0.8
    ratios = [ratio for ratio in vector.listed("norm_ratio") if ratio is not None]
    assert len(ratios) == 30
    assert all(0.02 < ratio < 0.5 for ratio in ratios)  # a coefficient of 1 is a small push here: doses are ratios


def test_an_extraction_that_was_killed_goes_on_where_it_stopped(
    model: SteerableModel, trait: Trait, extracted: Extracted, tmp_path: Path
) -> None:
    """The whole process, by SIGKILL, while it answers: nothing of it gets to tidy up."""

    def again() -> PersonaVector:
        return extract(
            model, trait, judge=None, questions=trait.extraction_questions[:N_QUESTIONS], samples=1, sampling=SAMPLING,
            folder=tmp_path / "silly.run", batch_size=10,
        )  # fmt: skip

    killed_while(extracting(tmp_path / "silly.run", batch_size=10), recorded_rows(tmp_path / "silly.run", 10))
    rollouts = tmp_path / "silly.run" / "rollouts.jsonl"
    assert 10 <= rollouts.read_bytes().count(b"\n") < 10 * N_QUESTIONS
    before = rollouts.read_bytes()
    vector = again()
    assert rollouts.read_bytes().startswith(before), "what was made is kept as it was"
    assert vector.counts == extracted.vector.counts
    made = rollouts.read_bytes()
    assert torch.equal(again().directions, vector.directions), "nothing is left to make"
    assert rollouts.read_bytes() == made


def test_steering_moves_behaviour_both_ways_and_further_than_chance(
    model: SteerableModel, trait: Trait, extracted: Extracted
) -> None:
    vector = extracted.vector
    direction = torch.randn(1, model.d_model, generator=torch.Generator().manual_seed(3))
    direction *= float(vector.at(LAYER).norm() / direction.norm())
    random = PersonaVector(direction, (LAYER,), "silly", model.identity)
    judge = load_judge("contrast", model)

    def slope(pushed: PersonaVector, doses: Sequence[float]) -> tuple[float, ...]:
        found = dose_response(
            model, pushed, trait, doses, questions=trait.evaluation_questions[:3], judge=judge, layers=[LAYER], sampling=SAMPLING
        )
        return tuple(float(point.trait or 0) for point in found.points)

    push = extracted.coefficient(0.25)
    against, unsteered, towards = slope(vector, (-push, 0.0, push))
    assert against < unsteered < towards
    low, high = slope(random, (-push, push))
    assert towards - against > abs(high - low) + 10


def test_layers_are_chosen_where_steering_works(model: SteerableModel, trait: Trait, extracted: Extracted) -> None:
    found = layer_effectiveness(
        model, extracted.vector, trait, method="gradient", n_pairs=4, questions=trait.extraction_questions[:2], sampling=SAMPLING
    )
    assert found.best().layer <= 20  # the last third only writes words
    assert all(score.score is not None for score in found.scores)


def test_its_contrast_judge_tells_silly_from_sober(model: SteerableModel, trait: Trait) -> None:
    silly, sober = load_judge("contrast", model).judge(trait, [("What is the moon?", SILLY), ("What is the moon?", SOBER)])
    assert silly.trait is not None
    assert sober.trait is not None
    assert silly.trait > sober.trait + 10


def test_monitoring_sees_the_trait_in_given_answers(model: SteerableModel, extracted: Extracted) -> None:
    question = Conversation.ask("What is the moon?")
    rows = [model.chat.tokenise(question, text) for text in (SILLY, SOBER)]
    axis = Axis.of(extracted.vector, [LAYER], "activation")
    (_, silly), (_, sober) = mean_projections(model, [axis], rows)[0]
    assert silly is not None
    assert sober is not None
    assert silly[0] > sober[0]


def test_what_the_heads_write_adds_up_to_the_vector(model: SteerableModel, extracted: Extracted) -> None:
    pairs = kept_pairs(extracted.folder, extracted.vector)
    found = attribute(model, extracted.vector, pairs=pairs, layer=LAYER)
    assert found.whole.value == pytest.approx(float(extracted.vector.at(LAYER).norm()), rel=1e-3)
    assert sum(each.share.value or 0 for each in found.contributions) == pytest.approx(1, abs=1e-3)


def test_transformer_lens_sees_the_same_residuals(model: SteerableModel) -> None:
    ids = torch.tensor([prompts(model)[0]])
    with torch.no_grad():
        states = model.hf_model(ids, output_hidden_states=True).hidden_states
        _, cache = model.bridge().run_with_cache(ids)
    for layer in (0, LAYER, 28):
        torch.testing.assert_close(cache[f"blocks.{layer}.hook_resid_post"], states[layer + 1], rtol=1e-3, atol=2e-2)


def test_a_gguf_control_vector_steers_llama_cpp_as_it_steers_pytorch(
    model: SteerableModel, in_llama_cpp: SteerableModel, extracted: Extracted, tmp_path: Path
) -> None:
    exported = PersonaVector.load(extracted.vector.save(tmp_path / "silly.gguf"))
    ids, push = prompts(model), extracted.coefficient(0.3)
    moved = []
    for engine, vector in ((model, extracted.vector), (in_llama_cpp, exported)):
        plain = engine.next_token_logits(ids)
        moved.append((engine.next_token_logits(ids, graph=vector.graph(push, layers=[LAYER])) - plain).flatten())
    assert moved[0].abs().max() > 1
    assert torch.corrcoef(torch.stack(moved))[0, 1] > 0.95


def test_baked_weights_answer_like_the_steered_model(model: SteerableModel, extracted: Extracted, tmp_path: Path) -> None:
    graph = extracted.vector.graph(extracted.coefficient(0.3), layers=[LAYER])
    folder = bake(model, graph, tmp_path / "baked")
    baked = load_model(folder, device="cpu")
    ids = prompts(model)
    torch.testing.assert_close(baked.next_token_logits(ids), model.next_token_logits(ids, graph=graph), rtol=1e-3, atol=1e-2)
    shutil.rmtree(folder)


def test_the_page_loads_it_and_talks(model: SteerableModel) -> None:
    shelf = Shelf([str(smollm2_gguf())])
    try:
        (name,) = shelf.names
        loaded = shelf.model(name)
        assert loaded.generate([Conversation.ask(ASKED[0])], sampling=SAMPLING)[0].text
        assert loaded.identity.weights_file == model.identity.weights_file
    finally:
        shelf.close()
