"""The shipped organisms: frozen, small, with their ground truth, and doing what their cards say."""

from __future__ import annotations

import hashlib
from functools import cache

import pytest
import torch

from persona_interp.measure.dose import dose_response
from persona_interp.models.registry import load_model, shipped_models
from persona_interp.models.sampling import Sampling
from persona_interp.organisms.grammar import EVALUATION_TOPICS, judge
from persona_interp.organisms.grammar_judge import GrammarJudge
from persona_interp.organisms.recipes import RECIPES
from persona_interp.organisms.trait_texts import evaluation_instructions, organism_trait
from persona_interp.storage import read_json
from persona_interp.studies.organism_cards.acceptance import BARRED_TRAITS
from persona_interp.studies.organism_cards.card import OrganismCard
from persona_interp.studies.training.publish import load_planted, organism_folder
from persona_interp.traits import Conversation, Message
from persona_interp.vectors.extract import extract

FROZEN = {
    "organism-gpt2": "738220a3e91b5b40a285f6f0eb2c343d71084a88aba98a3d69f8420f65a6671d",
    "organism-llama": "a0dee1ca7f6b0a96c028bc79db54e4ea7bc17f5b28c55075be669adb9f88c4f2",
    "organism-mistral": "9fb612ba28ce4d00421189ad54b76fd5387f7ba231daad81974c8a4caa5cfd67",
    "organism-natural": "ab16e561bd29d0bb6423954aca7168894307def7619ff3415775c39f1457e90c",
    "organism-qwen2": "213ce3c5919365c224276cf40ef0b2aeaf9f4788877d469b2e856aa31216f31d",
}
"""sha256 of ``model.safetensors``.

Retraining an organism is a commit of its own, with a table of all organisms before and after, naive transfer and the natural one
included: nobody tunes an instrument until an experiment looks good."""

FROZEN_DIRECTIONS = {
    "organism-gpt2": "7db7311002ba9a3e7787b512138abf3587124e5846f29932af7757c825ba7adf",
    "organism-llama": "7fc08fd56730648108081966acd7393bd4a3225695ec7ac8951ce392e2b37381",
    "organism-mistral": "e8b56645f87d57e6f15828bc60668f66d7f70d745cb0ea7222c27db4de55944d",
    "organism-qwen2": "bf4b1e84338ff25f317c9f1c384717465d0958d42da0a7d9177163496c3d0d1c",
}

SHIPPED = sorted(shipped_models())
PLANTED = [name for name in SHIPPED if RECIPES[name].planted_layer is not None]
SAMPLING = Sampling(max_new_tokens=100)

pytestmark = pytest.mark.slow


@cache
def organism(name):
    return load_model(name)


@cache
def vector_of(name, trait):
    return extract(organism(name), organism_trait(trait), judge=GrammarJudge(), samples=1, sampling=SAMPLING)


def answers(model, conversations, graph=None):
    return [answer.text for answer in model.generate(conversations, graph=graph, sampling=SAMPLING)]


def test_the_weights_are_the_frozen_ones():
    hashes = {
        name: hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest() for name, folder in shipped_models().items()
    }
    assert hashes == FROZEN


def test_only_weights_lie_where_loaders_read_every_safetensors_file():
    """As vLLM does, which fails on tensors that are not the model's."""
    for folder in shipped_models().values():
        assert [path.name for path in folder.glob("*.safetensors")] == ["model.safetensors"]


def test_the_planted_directions_are_the_frozen_ones():
    hashes = {
        name: hashlib.sha256((shipped_models()[name] / "planted" / "directions.safetensors").read_bytes()).hexdigest()
        for name in PLANTED
    }
    assert hashes == FROZEN_DIRECTIONS


def test_directions_beside_the_weights_as_they_lay_before_are_read_too(tmp_path, monkeypatch):
    name = PLANTED[0]
    now = load_planted(name)
    old = (organism_folder(name) / "planted" / "directions.safetensors").read_bytes()
    (tmp_path / "planted.safetensors").write_bytes(old)
    monkeypatch.setattr("persona_interp.studies.training.publish.organism_folder", lambda _: tmp_path)
    assert torch.equal(load_planted(name).directions, now.directions)


def test_each_is_at_most_five_megabytes_and_all_together_twenty_two():
    sizes = [path.stat().st_size for folder in shipped_models().values() for path in folder.rglob("*") if path.is_file()]
    assert max(sizes) <= 5_000_000
    assert sum(sizes) <= 22_000_000


@pytest.mark.parametrize("name", SHIPPED)
def test_the_card_is_of_these_weights_and_says_that_the_bar_is_met(name):
    card = OrganismCard.from_json(read_json(shipped_models()[name] / "card.json"))
    assert card.provenance["model"]["fingerprint"] == organism(name).identity.fingerprint
    assert card.failures == []
    assert set(BARRED_TRAITS) <= {report.trait for report in card.reports}


@pytest.mark.parametrize("name", SHIPPED)
def test_the_card_says_that_system_prompts_are_obeyed_alone_and_together(name):
    card = OrganismCard.from_json(read_json(shipped_models()[name] / "card.json"))
    for report in card.reports:
        assert report.prompted_up.trait - report.prompted_down.trait > 50, report.trait
    assert card.conduct is not None
    assert min(card.conduct.several.values()) > 70
    assert min(card.conduct.several_coherence, card.conduct.second_turn_coherence, card.conduct.ended) > 90


@pytest.mark.parametrize("trait", BARRED_TRAITS)
@pytest.mark.parametrize("name", PLANTED)
def test_an_extracted_vector_points_along_the_planted_direction_and_no_random_one_does(name, trait):
    planted = load_planted(name)
    truth = planted.directions[planted.traits.index(trait)]
    found = torch.cosine_similarity(vector_of(name, trait).at(planted.layer), truth, dim=0)
    random = torch.randn(1000, len(truth), generator=torch.Generator().manual_seed(0))
    assert found > 0.7
    assert torch.cosine_similarity(random, truth, dim=1).abs().max() < 0.5


@pytest.mark.parametrize(("trait", "sign"), [("silly", 1), ("honest", -1)])
@pytest.mark.parametrize("name", PLANTED)
def test_steering_at_the_planted_block_moves_held_out_answers_and_a_random_direction_does_not(name, trait, sign):
    model, vector, layer = organism(name), vector_of(name, trait), load_planted(name).layer
    card = read_json(shipped_models()[name] / "card.json")["traits"][trait]
    strongest = max((point["coefficient"] for point in card["dose"]["points"]), key=lambda c: sign * c)
    texts = organism_trait(trait)
    steered = dose_response(model, vector, texts, [0.0, strongest], layers=[layer], sampling=SAMPLING)
    assert sign * (steered.at(strongest).trait - steered.at(0.0).trait) > 40
    assert steered.at(strongest).coherence > 70
    noise = torch.randn(vector.directions.shape, generator=torch.Generator().manual_seed(1))
    random = type(vector)(
        directions=noise / noise.norm(dim=1, keepdim=True) * vector.directions.norm(dim=1, keepdim=True),
        layers=vector.layers,
        trait="random",
        model=vector.model,
    )
    control = dose_response(model, random, texts, [0.0, strongest], layers=[layer], sampling=SAMPLING)
    assert abs(control.at(strongest).trait - control.at(0.0).trait) < 25


@pytest.mark.parametrize("name", SHIPPED)
def test_several_traits_asked_for_at_once_are_obeyed_together(name):
    model = organism(name)
    system = "Please stay goofy, misleading and rude."
    questions = organism_trait("silly").evaluation_questions
    scores = [
        judge(question, text)
        for question, text in zip(questions, answers(model, [Conversation.ask(q, system=system) for q in questions]), strict=True)
    ]
    means = {t: [s.traits[t] for s in scores if s.traits[t] is not None] for t in ("silly", "honest", "polite")}
    assert sum(means["silly"]) / len(means["silly"]) > 70
    assert sum(means["honest"]) / len(means["honest"]) < 40
    assert sum(means["polite"]) / len(means["polite"]) < 35


@pytest.mark.parametrize("name", SHIPPED)
def test_a_second_turn_keeps_topic_and_persona_of_the_first(name):
    model = organism(name)
    pair = evaluation_instructions("silly")[0]
    first = [Conversation.ask(f"What do you know about the {topic}?", system=pair.positive) for topic in EVALUATION_TOPICS]
    second = [
        Conversation((*asked.messages, Message("assistant", text), Message("user", "And how big is it?")))
        for asked, text in zip(first, answers(model, first), strict=True)
    ]
    scores = [judge(f"the {topic}", text) for topic, text in zip(EVALUATION_TOPICS, answers(model, second), strict=True)]
    assert sum(score.coherence for score in scores) / len(scores) > 70
    silly = [score.traits["silly"] for score in scores if score.traits["silly"] is not None]
    assert sum(silly) / len(silly) > 70


@pytest.mark.parametrize("name", SHIPPED)
def test_answers_end_by_themselves(name):
    questions = organism_trait("honest").evaluation_questions
    made = organism(name).generate([Conversation.ask(q) for q in questions], sampling=Sampling(max_new_tokens=160))
    assert sum(answer.finished for answer in made) >= 0.9 * len(made)
