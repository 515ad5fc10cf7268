"""A trait of one's own: from a description to a vector, whoever writes it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from persona_interp.demo.jobs import Job, Stopped
from persona_interp.demo.site import REFINING, Site
from persona_interp.demo.trait_form import TraitForm, template, written
from persona_interp.demo.trait_vectors import (
    ALL,
    FIRST,
    SAMPLING,
    TRIED,
    first_vector,
    folder_of,
    is_refined,
    judge_of,
    kept_vector,
    refine,
    traits_offered,
    usable_range,
)
from persona_interp.errors import InvalidInputError, PersonaInterpError, UnknownNameError
from persona_interp.models.results import Generation
from persona_interp.models.steerable import SteerableModel
from persona_interp.organisms.trait_texts import organism_template
from persona_interp.traits.catalogue import add_trait
from persona_interp.traits.model_kinds import resolve_trait
from persona_interp.traits.trait import Trait
from persona_interp.vectors.layer_choice import choose_layer

DESCRIPTION = "Goofy and playful: says things in a clownish way."


@pytest.fixture
def trait(model: SteerableModel) -> Trait:
    """Small enough to extract quickly."""
    found, _ = template(model, "clownish", DESCRIPTION)
    return replace(found, extraction_questions=found.extraction_questions[:3])


def test_on_an_organism_a_template_is_made_of_words_it_knows(model: SteerableModel, done: Callable[..., Any]) -> None:
    found, note = done(lambda job: written(job, model, "clownish", DESCRIPTION))
    assert "cannot write traits" in note
    assert "'silly'" in note
    assert {pair.positive for pair in found.instructions} >= {"Always be silly.", "You are goofy."}
    assert (found.name, found.description) == ("clownish", DESCRIPTION)


@pytest.mark.parametrize(
    ("name", "description", "base", "first"),
    [
        ("gloomy", "Pessimistic and hopeless about everything.", "optimistic", "pessimistic"),
        ("candid", "Truthful, accurate and sincere.", "honest", "honest"),
        ("odd", "Nothing the grammar has a word for.", "silly", "silly"),
    ],
)
def test_the_template_comes_from_the_trait_its_words_are_of(name: str, description: str, base: str, first: str) -> None:
    found, chosen = organism_template(name, description)
    assert chosen == base
    assert first in found.instructions[0].positive


def scripted(model: SteerableModel, reply: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a model that is no organism answer requests with `reply`."""

    def generate(conversations: Any, **_: Any) -> list[Generation]:
        return [Generation(each, (), (), reply(each.question), True) for each in conversations]

    monkeypatch.setattr(model, "generate", generate)


def test_a_model_that_can_writes_the_trait(
    tiny_model: Callable[[str], SteerableModel], done: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model("llama")
    questions = [f"What is thing {n}?" for n in range(30)]

    def reply(request: str) -> str:
        if "pairs of system prompts" in request:
            return json.dumps([{"pos": f"Be so, {n}.", "neg": f"Be otherwise, {n}."} for n in range(5)])
        return json.dumps([question for question in questions if question not in request][:10])

    scripted(model, reply, monkeypatch)
    found, note = done(lambda job: written(job, model, "so", "Is so."))
    assert found.instructions[4].negative == "Be otherwise, 4."
    assert (len(found.extraction_questions), len(found.evaluation_questions)) == (10, 10)
    assert "Written by tiny-llama" in note
    assert TraitForm.of(found).trait() == found


def test_a_reply_that_cannot_be_used_is_told_in_words(
    tiny_model: Callable[[str], SteerableModel], done: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model("llama")
    scripted(model, lambda _request: "<b>No.</b>", monkeypatch)
    with pytest.raises(PersonaInterpError, match="its last reply was '<b>No.</b>'"):
        done(lambda job: written(job, model, "so", "Is so."))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": "../up"}, "cannot be a file name"),
        ({"name": "silly"}, "trait of the bundled organisms"),
        ({"name": " "}, "the name is empty"),
        ({"description": ""}, "the description is empty"),
        ({"description": "x" * 1001}, "has 1001 characters"),
        ({"positives": ("", "b", "c", "d", "e")}, "system prompt 1 for the trait is empty"),
        ({"negatives": ("a", "b", "c", "d", " ")}, "system prompt 5 for its opposite is empty"),
        ({"negatives": ("Be so, 0.", "b", "c", "d", "e")}, "repeats"),
        ({"extraction": "\n \n"}, "extraction_questions"),
        ({"evaluation": "What is thing 0?"}, "repeats"),
        ({"rubric": "Rate it."}, "does not contain {question}"),
        ({"extraction": "x" * 70_000}, "60000 characters"),
    ],
)
def test_a_form_that_is_not_complete_says_what_is_missing(changes: dict[str, Any], words: str) -> None:
    form = TraitForm(
        "so",
        "Is so.",
        tuple(f"Be so, {n}." for n in range(5)),
        tuple(f"Be otherwise, {n}." for n in range(5)),
        "What is thing 0?\n\n What is thing 1? ",
        "What is thing 2?",
    )
    assert form.trait().extraction_questions == ("What is thing 0?", "What is thing 1?")
    with pytest.raises(InvalidInputError) as caught:
        replace(form, **changes).trait()
    assert words in str(caught.value)


def test_a_custom_trait_becomes_a_vector_that_steers(
    site: Site, model: SteerableModel, trait: Trait, done: Callable[..., Any]
) -> None:
    first = done(lambda job: first_vector(job, model, trait))
    assert first.counts["kept_pairs"] == first.counts["pairs"] == 15  # nobody judges it
    assert not is_refined(first)
    vector = done(lambda job: refine(model, trait, 1))
    assert is_refined(vector)
    assert vector.trait == "clownish"
    assert vector.counts["kept_pairs"] >= 8
    assert "effectiveness" in vector.statistics
    assert judge_of(model, trait).name == "contrast:organism-qwen2"
    found = kept_vector(model, trait)
    assert found is not None
    assert is_refined(found)
    assert found.provenance["settings"]["sampling"] == SAMPLING.to_json()
    assert usable_range(found) is None  # its judge, contrast, tells nothing of coherence
    add_trait(trait)
    assert traits_offered(organism=True)[-1] == "clownish"
    session = site.sessions.of("one")
    assert ("clownish", "trait:clownish") in site.choices(session, model.name)
    chosen = done(lambda job: site.vector(job, session, model, "trait:clownish"))
    assert chosen.trait == trait


def test_a_cancelled_extraction_keeps_its_work_and_goes_on(
    site: Site, model: SteerableModel, trait: Trait, done: Callable[..., Any]
) -> None:
    def rollouts() -> list[str]:
        return [line for path in folder_of(model).rglob("rollouts.jsonl") for line in path.read_text().splitlines()]

    job: Job[Any] = Job(lambda job: job.show(first_vector(job, model, trait)))
    updates = job.start().updates()
    with pytest.raises(Stopped):  # noqa: PT012
        for _ in updates:
            if rollouts():
                job.stop()
    job.join(30)
    made = rollouts()
    assert made
    if len(made) < 30:  # all of them are one batch on a fast machine, and then the vector is there before it is stopped
        assert kept_vector(model, trait) is None
    vector = done(lambda job: first_vector(job, model, trait))
    assert vector.counts["rollouts"] == 30
    assert rollouts()[: len(made)] == made
    again: list[str] = []

    def once_more(job: Job[Any]) -> Any:
        found = first_vector(job, model, trait)
        again.append(job.progress.doing)
        return found

    assert done(once_more).directions.equal(vector.directions)
    assert again == ["clownish: looking for its vector in organism-qwen2"]


def test_refining_goes_on_from_the_answers_of_the_first_vector_and_measures_what_is_usable(
    site: Site, model: SteerableModel, done: Callable[..., Any]
) -> None:
    silly = resolve_trait(model, "silly")
    first = done(lambda job: first_vector(job, model, silly))
    (file,) = folder_of(model).rglob("rollouts.jsonl")
    made = file.read_text().splitlines()
    assert len(made) == first.counts["rollouts"] == 2 * 5 * FIRST
    session = site.sessions.of("one")
    assert site.begin_refining(session, model, "trait:silly")
    job = session.job(REFINING)
    assert job is not None
    assert site.begin_refining(session, model, "trait:silly")  # the same one
    assert session.job(REFINING) is job
    job.join(240)
    assert job.failure is None
    refined = site.known_vector(session, model, "trait:silly")
    assert refined is not None
    assert is_refined(refined)
    after = file.read_text().splitlines()
    assert after[: len(made)] == made
    assert len(after) == refined.counts["rollouts"] == 2 * 5 * ALL
    found = usable_range(refined)
    assert found is not None
    layer, low, high = found
    assert layer == choose_layer(refined).layer
    assert low < 0 < high
    assert {round(low, 3), round(high, 3)} <= set(TRIED)
    assert not site.begin_refining(session, model, "trait:silly")  # there is no more to do


def test_choices_that_are_none_of_the_page_are_refused(site: Site, model: SteerableModel, done: Callable[..., Any]) -> None:
    session = site.sessions.of("one")
    for choice in ("trait:../../etc/passwd", "trait:evil", "vector:of somebody else", "trait:/tmp/trait.json"):
        with pytest.raises(UnknownNameError):
            done(lambda job, choice=choice: site.vector(job, session, model, choice))
    for nothing in (None, "silly", 3, ["trait:silly"]):
        with pytest.raises(InvalidInputError, match="no trait or vector is chosen"):
            done(lambda job, nothing=nothing: site.vector(job, session, model, nothing))


def test_a_vector_of_one_session_is_not_there_in_another(
    site: Site, model: SteerableModel, random_vector: Any, done: Callable[..., Any], tmp_path: Path
) -> None:
    label = site.sessions.of("one").keep("mine", random_vector(model), model.name)
    choice = f"vector:{label}"
    assert done(lambda job: site.vector(job, site.sessions.of("one"), model, choice)).vector.trait == "silly"
    with pytest.raises(UnknownNameError, match="'mine'"):
        done(lambda job: site.vector(job, site.sessions.of("two"), model, choice))
