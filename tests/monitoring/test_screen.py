"""Screening: planted samples come first, also where the prompt alone raises the projection; nothing is generated twice."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from statistics import fmean

import pytest
import torch

from persona_interp.errors import FileFormatError, IncompatibleError, InvalidInputError
from persona_interp.jsonl_store import JsonlStore
from persona_interp.measure.statistics import auroc
from persona_interp.models.sampling import Sampling
from persona_interp.models.steerable import SteerableModel
from persona_interp.monitoring.chats import Chat
from persona_interp.monitoring.own_answers import own_answers
from persona_interp.monitoring.project import mean_projections, project
from persona_interp.monitoring.projection import Axis
from persona_interp.monitoring.screen import screen
from persona_interp.monitoring.screening import ScreenedSample, Screening
from persona_interp.vectors.persona_vector import PersonaVector

SHORT = Sampling(max_new_tokens=6)
SAMPLES = [
    Chat.of("What is the moon?", "The moon is bright.", name="one"),
    Chat.of("What is a river?", "A large city.", system="Be silly.", name="two"),
    Chat.of("What is the moon?", "Bees collect nectar.", name="three"),
]


@pytest.fixture
def model(tiny_model: Callable[[str], SteerableModel]) -> SteerableModel:
    return tiny_model("qwen2")


@pytest.fixture
def vector(model: SteerableModel) -> PersonaVector:
    directions = 5 * torch.randn(2, model.d_model, generator=torch.Generator().manual_seed(0))
    return PersonaVector(directions, (1, 3), "silly", model.identity)


@pytest.mark.slow
def test_planted_samples_are_found_where_the_plain_projection_finds_nothing(
    organism: SteerableModel, silly_vector: PersonaVector, training_samples: Callable[..., list[Chat]], tmp_path: Path
) -> None:
    """Half of the innocent samples are silly on request, so silliness alone says little: what the model would not say does.

    The control is weak on this organism, and the test says how weak: planted samples differ so much from anything the model says
    that a random direction orders them well, too, forwards or backwards as chance has it. The vector knows which.
    """
    samples, sampling = training_samples(100, 16, asked_for=0.5), Sampling(max_new_tokens=40)
    found = screen(organism, silly_vector, samples, layer=3, sampling=sampling, folder=tmp_path)
    area = found.auroc()
    assert area.value >= 0.95, area
    assert area.low > 0.85
    assert found.auroc("projection").value < 0.75
    assert sum(bool(sample.planted) for sample in found.samples[:10]) >= 9

    turns = [chat.turns[-1] for chat in samples]
    rows = [organism.chat.tokenise(turn.conversation, turn.answer) for turn in turns]
    own = own_answers(organism, [turn.conversation for turn in turns], samples=3, sampling=sampling, folder=tmp_path)
    rows += [answer.tokenised for answers in own for answer in answers]
    random = torch.randn(40, 1, organism.d_model, generator=torch.Generator().manual_seed(1))
    axes = [Axis((3,), each / each.norm(), (1.0,), (1.0,)) for each in random]
    means = torch.tensor([[mean[0] for _, mean in per_row] for per_row in mean_projections(organism, axes, rows)])
    differences = means[:, :100] - means[:, 100:].reshape(40, 100, 3).mean(dim=2)
    planted = torch.tensor([chat.planted for chat in samples])
    by_chance = [auroc(each[planted].tolist(), each[~planted].tolist()).value for each in differences]
    assert 0.35 < fmean(by_chance) < 0.65
    assert sum(chance >= area.value for chance in by_chance) < 10


def test_the_difference_is_the_samples_projection_minus_that_of_the_models_own_answers(
    model: SteerableModel, vector: PersonaVector, tmp_path: Path
) -> None:
    found = screen(model, vector, SAMPLES, layer=3, own_samples=2, sampling=SHORT, seed=4, folder=tmp_path)
    by_name = {sample.name: sample for sample in found.samples}
    plain = project(model, vector, SAMPLES, layers=[3], tokens=False).answers(3)
    assert [by_name[name].projection for name in ("one", "two", "three")] == pytest.approx(plain, abs=1e-4)
    for chat in SAMPLES:
        sample = by_name[chat.name]
        assert len(sample.own_answers) == 2
        assert sample.difference == pytest.approx(sample.projection - sample.own_projection)
    differences = [sample.difference for sample in found.samples]
    assert differences == sorted(differences, reverse=True)
    assert by_name["one"].own_answers == by_name["three"].own_answers  # the same prompt, the same own answers
    backwards = screen(model, vector, SAMPLES, layer=3, own_samples=2, sampling=SHORT, seed=4, folder=tmp_path, reverse=True)
    assert [sample.name for sample in backwards.samples] == [sample.name for sample in reversed(found.samples)]
    assert found.norm == pytest.approx(float(vector.norms[1]))


def test_what_was_made_is_not_made_again_and_does_not_depend_on_the_rest(
    model: SteerableModel, vector: PersonaVector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"layer": 3, "own_samples": 2, "sampling": SHORT, "folder": tmp_path}
    few = screen(model, vector, SAMPLES[:1], **options)
    whole = screen(model, vector, SAMPLES, **options, batch_size=1)
    assert {s for s in whole.samples if s.name == "one"} == set(few.samples)

    def never(*_: object, **__: object) -> None:
        raise AssertionError("a model was run")

    monkeypatch.setattr(SteerableModel, "generate", never)
    other = screen(model, -vector, SAMPLES, **options)  # another vector reads the same answers
    assert [s.own_answers for s in other.samples] == [s.own_answers for s in reversed(whole.samples)]
    monkeypatch.setattr(SteerableModel, "capture", never)
    assert screen(model, vector, list(reversed(SAMPLES)), **options) == whole


def test_an_interrupted_screening_keeps_every_finished_batch(
    model: SteerableModel, vector: PersonaVector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    put, kept = JsonlStore.put, []

    def interrupted(self: JsonlStore, key: str, entry: dict) -> None:
        if len(kept) == 3:
            raise KeyboardInterrupt
        put(self, key, entry)
        kept.append(key)

    options = {"layer": 1, "own_samples": 2, "sampling": SHORT, "folder": tmp_path}
    monkeypatch.setattr(JsonlStore, "put", interrupted)
    with pytest.raises(KeyboardInterrupt):
        screen(model, vector, SAMPLES, **options, batch_size=1)
    assert "interrupted: what was made is kept in" in capsys.readouterr().err
    monkeypatch.setattr(JsonlStore, "put", put)
    with (tmp_path / "own_answers.jsonl").open("a") as torn:
        torn.write('{"key": "half of a li')
    assert len((tmp_path / "own_answers.jsonl").read_text().splitlines()) == 4
    generated: list[int] = []
    generate = SteerableModel.generate
    monkeypatch.setattr(
        SteerableModel, "generate", lambda self, rows, **o: generated.append(len(rows)) or generate(self, rows, **o)
    )
    resumed = screen(model, vector, SAMPLES, **options)
    assert generated == [1]
    assert resumed == screen(model, vector, SAMPLES, **(options | {"folder": tmp_path / "afresh"}))


def test_a_folder_of_other_settings_is_refused(model: SteerableModel, vector: PersonaVector, tmp_path: Path) -> None:
    screen(model, vector, SAMPLES[:1], sampling=SHORT, folder=tmp_path)
    with pytest.raises(InvalidInputError, match=r"work done with other settings \(seed: 0 there, 1 asked for\)"):
        screen(model, vector, SAMPLES[:1], sampling=SHORT, folder=tmp_path, seed=1)


def test_an_empty_answer_is_ranked_last_and_counted(model: SteerableModel, vector: PersonaVector) -> None:
    found = screen(model, vector, [Chat.of("What is tea?", "", name="empty"), *SAMPLES], sampling=SHORT)
    assert found.samples[-1].name == "empty"
    assert found.samples[-1].difference is None
    assert found.n_without_difference == 1


def test_what_cannot_be_screened_is_refused_before_anything_is_generated(
    tiny_model: Callable[[str], SteerableModel], model: SteerableModel, vector: PersonaVector
) -> None:
    with pytest.raises(InvalidInputError, match="no sample to screen"):
        screen(model, vector, [])
    with pytest.raises(InvalidInputError, match=r"the sample 'x' \(and 1 more\) ends without an answer"):
        screen(model, vector, [*SAMPLES, Chat.of("Hi?", name="x"), Chat.of("Hi?", name="y")], sampling=SHORT)
    with pytest.raises(InvalidInputError, match="the sample 'long' does not fit into the context of tiny-qwen2, 256 tokens"):
        screen(model, vector, [Chat.of("Hi?", "the moon " * 300, name="long")], sampling=SHORT)
    with pytest.raises(InvalidInputError, match="lower max_new_tokens"):
        screen(model, vector, SAMPLES, sampling=Sampling(max_new_tokens=250))
    with pytest.raises(InvalidInputError, match="own_samples is 0"):
        screen(model, vector, SAMPLES, own_samples=0)
    with pytest.raises(InvalidInputError, match="has no layer 0"):
        screen(model, vector, SAMPLES, layer=0)
    with pytest.raises(IncompatibleError, match="tiny-qwen2.*tiny-mistral"):
        screen(tiny_model("mistral"), vector, SAMPLES)


def test_json_round_trip_and_areas(model: SteerableModel) -> None:
    samples = tuple(
        ScreenedSample(str(n), "é?", "A.", float(n), 1.0 if n else None, ("B.",), planted=n > 2) for n in (4, 3, 2, 1, 0)
    )
    found = Screening("silly", model.identity, 3, 2.5, False, samples)
    data = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert Screening.from_json(data) == found
    assert data["auroc"]["difference"]["value"] == 1.0
    assert data["samples"][0]["rank"] == 1
    assert data["samples"][0]["difference"] == 3.0
    assert Screening("silly", model.identity, 3, 2.5, True, samples).auroc().value == 0.0
    with pytest.raises(FileFormatError, match="field 'layer' is missing"):
        Screening.from_json({key: value for key, value in data.items() if key != "layer"})
    with pytest.raises(FileFormatError, match="format_version 7 is not 1"):
        Screening.from_json(data | {"format_version": 7})
