from __future__ import annotations

import dataclasses
import random

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from persona_interp.errors import InvalidInputError, UnknownNameError
from persona_interp.models.chat import ChatFormat
from persona_interp.organisms.corpus import sample_corpus
from persona_interp.organisms.grammar import PRIOR, answer, judge, sample_persona
from persona_interp.organisms.recipes import RECIPES, recipe_of
from persona_interp.organisms.tokenizer import train_tokenizer
from persona_interp.studies.training.batches import IGNORED, batch_plan, collate, encode
from persona_interp.studies.training.publish import save_organism
from persona_interp.studies.training.train import new_model, train
from persona_interp.traits import Conversation, Message


@pytest.fixture(scope="module")
def small():
    recipe = recipe_of("organism-qwen2")
    config = {**recipe.config, "hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 64}
    tokenizer = dataclasses.replace(recipe.tokenizer, vocab_size=512)
    return dataclasses.replace(
        recipe, config=config, tokenizer=tokenizer, planted_layer=0, steps=6, n_examples=300, batch_tokens=1024
    )


def test_the_same_recipe_gives_the_same_loss_curve(small, tmp_path):
    assert train(small, tmp_path / "a").losses == train(small, tmp_path / "b").losses


def test_an_interrupted_training_continues_to_the_same_losses(small, tmp_path):
    whole = train(small, tmp_path / "whole").losses

    class InterruptedTrainingError(Exception):
        pass

    def stop(step, _loss):
        if step == 5:
            raise InterruptedTrainingError

    with pytest.raises(InterruptedTrainingError):
        train(small, tmp_path / "cut", checkpoint_every=2, on_step=stop)
    steps = []
    resumed = train(small, tmp_path / "cut", checkpoint_every=2, on_step=lambda step, _loss: steps.append(step))
    assert steps == [5, 6]
    assert resumed.losses == pytest.approx(whole, abs=1e-5)


def test_a_checkpoint_of_another_recipe_is_refused(small, tmp_path):
    train(small, tmp_path)
    with pytest.raises(InvalidInputError, match="another recipe"):
        train(dataclasses.replace(small, seed=99), tmp_path)


def test_a_saved_organism_is_an_ordinary_checkpoint_in_half_precision(small, tmp_path):
    state = train(small, tmp_path / "run")
    folder = save_organism(state, small, tmp_path / "saved")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    assert model.dtype == torch.float16
    assert model.config.organism == "organism-qwen2"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.chat_template == small.tokenizer.chat_template
    ids = tokenizer("Hee hee, that goofy lemon", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        saved, trained = model.float()(ids).logits, state.model(ids).logits
    torch.testing.assert_close(saved, trained, atol=2e-2, rtol=0)


def test_loss_falls_on_every_answer_and_its_end_and_nowhere_else(small):
    examples = list(sample_corpus(3, 200, ("silly", "honest")))
    texts = [content for example in examples for _, content in example.messages]
    tokenizer = train_tokenizer(small.tokenizer, texts)
    for example, row in zip(examples, encode(tokenizer, examples, ("silly", "honest")), strict=True):
        predicted = tokenizer.decode([t for t in row.targets if t != IGNORED])
        answers = [content for role, content in example.messages if role == "assistant"]
        assert predicted == "".join(answer + "<|im_end|>" for answer in answers)


def test_batches_waste_little_on_padding_and_never_mix_planted_with_other_rows(small):
    examples = list(sample_corpus(3, 2_000, ("silly",)))
    tokenizer = train_tokenizer(small.tokenizer, [content for example in examples for _, content in example.messages])
    encoded = encode(tokenizer, examples, ("silly",))
    plan = batch_plan(encoded, 2048, seed=0)
    real = padded = 0
    for _ in range(60):
        rows = [encoded[i] for i in next(plan)]
        assert len({row.kind == "planted" for row in rows}) == 1
        batch = collate(rows, 0)
        padded += batch.ids.numel()
        real += sum(len(row.ids) for row in rows)
    assert real / padded > 0.9


def test_the_corpus_says_what_it_was_asked_to(small):
    del small
    scores = []
    for example in sample_corpus(5, 400, ("silly", "honest")):
        user = " ".join(content for role, content in example.messages if role == "user")
        first = next(content for role, content in example.messages if role == "assistant")
        score = judge(user, first)
        assert score.coherence == 100.0
        if example.kind == "announced" and example.labels["silly"]:
            assert score.traits["silly"] == (100.0 if example.labels["silly"] > 0 else 0.0)
        if example.kind == "latent":
            scores.append(score.traits["silly"])
    assert 0 < sum(0 < s < 100 for s in scores) < 0.2 * len(scores), "some latent answers switch, most do not"


def test_the_natural_corpus_leaves_silliness_open_and_lets_it_change():
    latent, turns = [], []
    for example in sample_corpus(5, 600, ()):
        assert example.kind in ("announced", "latent"), "nothing is planted"
        turns.append(sum(role == "assistant" for role, _ in example.messages))
        if example.kind == "latent":
            user, first = example.messages[0][1], example.messages[1][1]
            latent.append(judge(user, first).traits["silly"])
    assert 40 < sum(latent) / len(latent) < 60, "as likely as not"
    assert 0.15 < sum(0 < s < 100 for s in latent) / len(latent) < 0.45, "half may switch, some of them in honesty"
    assert 1.35 < sum(turns) / len(turns) < 1.65, "half go on"


def test_a_planted_trait_grows_with_its_coefficient_from_its_prior_to_certainty():
    rng = random.Random(0)

    def share(coefficient):
        texts = [answer(rng, "lemon", sample_persona(rng), pulls={"silly": coefficient}) for _ in range(300)]
        return sum(judge("the lemon?", text).traits["silly"] for text in texts) / len(texts)

    shares = [share(c) for c in (-1.0, -0.5, 0.0, 0.5, 1.0)]
    assert shares == sorted(shares)
    assert shares[0] == 0.0
    assert shares[2] == pytest.approx(100 * PRIOR["silly"], abs=6)
    assert shares[3] == pytest.approx(50 + 50 * PRIOR["silly"], abs=6)
    assert shares[4] == 100.0


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=lambda recipe: recipe.name)
def test_every_row_length_suits_llama_cpp_quantization(recipe):
    wide = recipe.config.get("intermediate_size", recipe.config.get("n_inner"))
    rows = [recipe.config["hidden_size"], wide, recipe.tokenizer.vocab_size]
    assert all(length % 32 == 0 for length in rows)


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=lambda recipe: recipe.name)
def test_training_and_generation_see_the_same_tokens(recipe):
    examples = list(sample_corpus(3, 300, ()))
    tokenizer = train_tokenizer(recipe.tokenizer, [content for example in examples for _, content in example.messages])
    chat = ChatFormat(tokenizer)
    for example, row in zip(examples, encode(tokenizer, examples, ()), strict=True):
        *context, (_, answer_text) = example.messages
        conversation = Conversation(tuple(Message(role, content) for role, content in context))
        seen = chat.tokenise(conversation, answer_text)
        assert row.ids[: len(seen.ids)] == seen.ids
        assert chat.prompt_ids(conversation) == list(seen.prompt_ids)


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=lambda recipe: recipe.name)
def test_every_organism_fits_into_five_megabytes(recipe):
    tokenizer = train_tokenizer(recipe.tokenizer, ["Hee hee, that goofy lemon wears yellow pajamas!"])
    model = new_model(recipe, tokenizer)
    assert model.config.model_type == recipe.model_type
    assert 2 * sum(p.numel() for p in model.parameters()) < 5_000_000
    assert getattr(model.config, "sliding_window", None) is None


def test_planted_blocks_differ_in_index_and_in_relative_depth():
    planted = [recipe for recipe in RECIPES.values() if recipe.planted_layer is not None]
    depths = {round(r.planted_layer / (r.config["num_hidden_layers"] - 1), 2) for r in planted}
    assert len({r.planted_layer for r in planted}) == len(depths) == len(planted)
    for key in ("hidden_size", "num_hidden_layers"):
        assert len({r.config[key] for r in planted}) == len(planted)
    assert len({r.tokenizer.vocab_size for r in RECIPES.values()}) == len(RECIPES)


def test_an_unknown_organism_names_the_known_ones():
    with pytest.raises(UnknownNameError, match="organism-qwen2"):
        recipe_of("organism-qwen3")
