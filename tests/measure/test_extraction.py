"""The front door of extraction: a trait as the command extracts it, and contrasts that need no file."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from persona_interp.errors import InvalidInputError
from persona_interp.measure.extraction import extract
from persona_interp.models.registry import load_model
from persona_interp.models.sampling import Sampling
from persona_interp.models.steerable import SteerableModel
from persona_interp.progress import Progress
from persona_interp.residuals.pooling import pooling
from persona_interp.traits.conversation import Conversation
from persona_interp.traits.model_kinds import resolve_trait
from persona_interp.vectors.contrast import InstructionContrast
from persona_interp.vectors.layer_choice import choose_layer

SHORT = Sampling(max_new_tokens=12)


@pytest.fixture(scope="module")
def organism() -> SteerableModel:
    return load_model("organism-qwen2")


@pytest.fixture(scope="module")
def model(tiny_model: Callable[[str], SteerableModel]) -> SteerableModel:
    return tiny_model("qwen2")


@pytest.mark.slow
def test_one_instruction_pair_is_enough_and_the_layers_are_scored(organism: SteerableModel) -> None:
    trait, told = resolve_trait(organism, "silly"), list[Progress]()
    pair = trait.instructions[0]
    vector = extract(
        organism, positive=pair.positive, negative=pair.negative, questions=trait.extraction_questions[:8], samples=1,
        sampling=SHORT, trait="mine", progress=told.append,
    )  # fmt: skip
    assert (vector.trait, vector.counts["kept_pairs"]) == ("mine", 8)
    assert vector.steering_layers() == (choose_layer(vector).layer,)
    assert "by likelihood" in choose_layer(vector).reason or "effective" in choose_layer(vector).reason
    assert told
    assert told[-1].share <= 1


@pytest.mark.slow
def test_prompts_are_answered_and_chats_are_read_and_both_are_scored_on_questions_held_out(organism: SteerableModel) -> None:
    trait = resolve_trait(organism, "silly")
    pair, questions = trait.instructions[0], trait.extraction_questions[:8]
    positive = [Conversation.ask(question, pair.positive) for question in questions]
    negative = [Conversation.ask(question, pair.negative) for question in questions]
    prompted = extract(organism, positive=positive, negative=negative, sampling=SHORT)
    answers = [organism.generate(each, sampling=SHORT, seed=3) for each in (positive, negative)]
    chats = extract(
        organism,
        pairs=[((question, one.text), (question, other.text)) for question, one, other in zip(questions, *answers, strict=True)],
        trait="silly",
    )
    for vector in (prompted, chats):
        assert vector.effectiveness
        assert vector.counts["kept_pairs"] == 8
        assert vector.statistics["auroc"].isfinite().all()
    layer = chats.steering_layers()[0]
    assert float(chats.cosine(prompted)[layer]) > 0.5, "the same contrast, read once with and once without the instruction"


def test_texts_are_read_as_they_are(model: SteerableModel) -> None:
    positive, negative = ["What a joy it is.", "Oh, I love it."], ["What a pity it is.", "Oh, I hate it."]
    vector = extract(model, positive=positive, negative=negative, trait="joy")
    by_hand = model.read(positive).mean(dim=0) - model.read(negative).mean(dim=0)
    torch.testing.assert_close(vector.directions, by_hand)
    both = model.capture([*positive, *negative], _norms())
    expected = torch.stack([each[_norms().captures[0]][:, 0] for each in both]).mean(dim=0)
    torch.testing.assert_close(vector.statistics["resid_norm"].float(), expected)
    pairs = extract(model, pairs=list(zip(positive, negative, strict=True)), trait="joy")
    assert torch.equal(pairs.directions, vector.directions)
    with pytest.raises(InvalidInputError, match="records no best layer"):
        vector.graph(0.5)


def test_prompts_alone_are_read_where_their_last_token_is_asked_for(model: SteerableModel) -> None:
    positive, negative = ([Conversation.ask(f"Part {n}?", system) for n in range(3)] for system in ("Shout.", "Whisper."))
    vector = extract(model, positive=positive, negative=negative, positions="prompt_last")
    by_hand = [model.read(list(side), positions="prompt_last").mean(dim=0) for side in (positive, negative)]
    torch.testing.assert_close(vector.directions, by_hand[0] - by_hand[1])
    assert vector.statistics["resid_norm"].isfinite().all()
    assert pooling(vector.positions)


def test_more_samples_of_a_prompt_are_more_pairs(model: SteerableModel) -> None:
    found = extract(
        model, positive=[Conversation.ask("A?", "Shout.")], negative=[Conversation.ask("A?", "Whisper.")], samples=3,
        sampling=Sampling(max_new_tokens=4), layer_scores=None,
    )  # fmt: skip
    assert found.counts["kept_pairs"] == 3


def test_what_cannot_be_a_contrast_is_refused(model: SteerableModel) -> None:
    for options, said in (
        ({}, "nothing to extract"),
        ({"positive": ["a"]}, "only one side"),
        ({"positive": ["a", "b"], "negative": ["c"]}, "2 positive and 1 negative"),
        ({"positive": [], "negative": []}, "0 positive"),
        ({"pairs": [("a", "b")], "positive": ["a"]}, "both pairs and positive"),
        ({"pairs": [("a", "b", "c")]}, "pair 0 is"),
        ({"pairs": [("a", "b")], "judge": "auto"}, "leave them out"),
        ({"pairs": [("a b", "b c")], "positions": "prompt_last"}, "has no prompt"),
        ({"positive": ["same"], "negative": ["same"], "questions": ["Q?"]}, "same system prompt on both sides"),
    ):
        with pytest.raises(InvalidInputError, match=said):
            extract(model, **options)  # pyright: ignore[reportArgumentType]
    with pytest.raises(InvalidInputError, match="questions"):
        InstructionContrast.of(["a"], ["b"], [], name="x")


def _norms():
    from persona_interp.interventions.graph import InterventionGraph
    from persona_interp.residuals.pooling import ANSWER_NORM

    return InterventionGraph((ANSWER_NORM,))
