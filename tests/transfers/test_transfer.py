"""Vectors carried between models: what is fitted on what, what is kept, what is said, what is refused."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import pytest
import torch
from torch import Tensor

from persona_interp.alignment.anchor_texts import anchor_texts
from persona_interp.alignment.layer_map import equal_depth
from persona_interp.alignment.methods import alignment_names
from persona_interp.errors import FileFormatError, IncompatibleError, InvalidInputError, UnknownNameError, UnsupportedError
from persona_interp.measure.diagnostics.layer_correspondence import layer_correspondence
from persona_interp.models.identity import ModelIdentity
from persona_interp.models.registry import load_model
from persona_interp.models.steerable import SteerableModel
from persona_interp.organisms.anchors import organism_anchors
from persona_interp.transfers.anchor_rows import AnchorRows, held_in_memory
from persona_interp.transfers.anchors import Anchor, anchors_digest, anchors_for, read_anchors
from persona_interp.transfers.carry import carry
from persona_interp.transfers.correspondence import correspondence
from persona_interp.transfers.coverage import coverage
from persona_interp.transfers.pooling import covering, sentence_spans, token_ends, word_ends
from persona_interp.transfers.reading import known_rows, read_rows
from persona_interp.transfers.transfer import averaged, transfer
from persona_interp.vectors.layer_choice import choose_layer
from persona_interp.vectors.persona_vector import PersonaVector

TinyModel = Callable[[str], SteerableModel]
N, WIDE, NARROW = 600, 36, 24


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def identity(name: str, d_model: int, n_layers: int) -> ModelIdentity:
    return ModelIdentity(name, None, f"{name}-fingerprint", n_layers, d_model)


SOURCE, TARGET = identity("ours", NARROW, 2), identity("theirs", WIDE, 3)
TURN = torch.linalg.qr(drawn(WIDE, WIDE, seed=50))[0][:NARROW]
"""Layer 1 of the source, turned, is layer 2 of the target; the target's other layers are unrelated."""


def rows(model: ModelIdentity, states: Tensor, effects: Tensor, anchors: str = "texts") -> AnchorRows:
    norms = torch.arange(1.0, model.n_layers + 1) * 10
    return held_in_memory(model, anchors, {"states": states.float(), "effects": effects.float()}, norms)


@pytest.fixture
def pair() -> tuple[AnchorRows, AnchorRows]:
    states, effects = drawn(N, 2, NARROW), drawn(N, 2, NARROW, seed=1)
    theirs, done = drawn(N, 3, WIDE, seed=2), drawn(N, 3, WIDE, seed=3)
    theirs[:, 2], done[:, 2] = states[:, 1] @ TURN, effects[:, 1] @ TURN
    return rows(SOURCE, states, effects), rows(TARGET, theirs, done)


@pytest.fixture
def vector() -> PersonaVector:
    directions = drawn(2, NARROW, seed=7).float()
    return PersonaVector(directions, (0, 1), "loud", SOURCE, statistics={"effectiveness": (0.1, 0.9), "resid_norm": (10.0, 20.0)})


# -- fits ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [name for name in alignment_names() if name != "naive"])
def test_the_direction_and_its_layer_are_found(pair: tuple[AnchorRows, AnchorRows], vector: PersonaVector, method: str) -> None:
    found = transfer(vector, *pair, alignment=method)
    assert (found.report.source_layer, found.report.target_layer) == (1, 2)
    wanted = vector.at(1).double() @ TURN
    assert float(torch.cosine_similarity(found.vector.at(2).double(), wanted, dim=0)) > 0.95
    assert choose_layer(found.vector).layer == 2, "--layer auto takes the layer the report names"


@pytest.mark.parametrize("method", ["effects", "ridge"])
def test_where_nothing_corresponds_the_quality_reported_is_none_though_the_layer_was_the_best_of_many(method: str) -> None:
    target = identity("theirs", WIDE, 8)
    bare = PersonaVector(drawn(2, NARROW, seed=7).float(), (0, 1), "loud", SOURCE, statistics={"effectiveness": (0.1, 0.9)})
    name = "correlation" if method == "effects" else "r2"
    said, picked = [], []
    for seed in range(0, 60, 5):
        ours = rows(SOURCE, drawn(100, 2, NARROW, seed=seed), drawn(100, 2, NARROW, seed=seed + 1))
        theirs = rows(target, drawn(100, 8, WIDE, seed=seed + 2), drawn(100, 8, WIDE, seed=seed + 3))
        report = transfer(bare, ours, theirs, alignment=method).report
        said.append(report.quality[name])
        picked.append(report.chosen.quality[name])
    assert fmean(picked) > fmean(said), "the layer's own held-out quality is that of the luckiest of eight"
    if method == "effects":
        assert fmean(picked) > 0.2
        assert abs(fmean(said)) < 0.12


def test_a_layer_that_was_not_picked_by_the_anchors_keeps_their_whole_word(
    pair: tuple[AnchorRows, AnchorRows], vector: PersonaVector
) -> None:
    report = transfer(vector, *pair, layer_map=2).report
    assert report.choice_quality is None
    assert report.quality == report.chosen.quality
    automatic = transfer(vector, *pair).report
    assert automatic.quality["correlation"] == pytest.approx(report.quality["correlation"], abs=0.05), "both halves pick layer 2"
    assert automatic.to_json()["choice_quality"] == automatic.quality


def test_shuffled_pairs_and_cut_entries_carry_nothing(pair: tuple[AnchorRows, AnchorRows], vector: PersonaVector) -> None:
    wanted = vector.at(1).double() @ TURN
    for method in alignment_names():
        control = transfer(vector, *pair, alignment=method, layer_map=2, shuffled=1 if method != "naive" else None)
        assert abs(float(torch.cosine_similarity(control.vector.at(2).double(), wanted, dim=0))) < 0.6
    shuffled = transfer(vector, *pair, layer_map=2, shuffled=1).report.chosen.quality["correlation"]
    assert abs(shuffled) < 0.3 < transfer(vector, *pair).report.chosen.quality["correlation"]


def test_a_coefficient_means_the_same_perturbation_ratio(pair: tuple[AnchorRows, AnchorRows], vector: PersonaVector) -> None:
    found = transfer(vector, *pair).vector
    ratio = vector.norms[1] / 20.0
    assert found.norm_ratios.tolist() == pytest.approx((float(ratio),) * 3)
    raw = transfer(vector, *pair, calibration="none").vector
    torch.testing.assert_close(transfer(vector, *pair, calibration=3.0).vector.directions, 3.0 * raw.directions)


def test_nothing_of_the_target_but_the_anchors_enters(pair: tuple[AnchorRows, AnchorRows]) -> None:
    named = set(inspect.signature(transfer).parameters) | set(inspect.signature(carry).parameters)
    assert named.isdisjoint({"native", "trait", "judge", "instructions", "questions", "positives", "negatives"})
    ours, theirs = pair
    assert set(vars(theirs)) == {"model", "anchors", "resid_norms", "kinds", "path", "_held", "first_layer"}
    assert ours.rows("states", 0).shape == (N, NARROW)


def test_held_out_anchors_are_not_fitted_on(pair: tuple[AnchorRows, AnchorRows], vector: PersonaVector) -> None:
    ours, theirs = pair
    spoiled = theirs.rows("effects", 2).clone()
    spoiled[3::4] = drawn(N // 4, WIDE, seed=11)
    held = {f"effects.{layer}": theirs.rows("effects", layer) for layer in (0, 1)} | {"effects.2": spoiled}
    other = AnchorRows(TARGET, "texts", theirs.resid_norms, ("effects",), None, held)
    options = {"source_layer": 1, "target_layers": [2]}
    (before,), (after,) = carry(vector.at(1), ours, theirs, **options), carry(vector.at(1), ours, other, **options)
    torch.testing.assert_close(before.direction, after.direction)
    assert after.quality["correlation"] < 0.4 < before.quality["correlation"]


def test_depth_is_a_control_and_a_layer_may_be_named(pair: tuple[AnchorRows, AnchorRows], vector: PersonaVector) -> None:
    assert transfer(vector, *pair, layer_map="depth", source_layer=0).report.target_layer == equal_depth(0, 2, 3)
    for how in ("quality", "cka", "cca", "monotone"):
        assert transfer(vector, *pair, layer_map=how, alignment="naive").report.target_layer == 2
    named = transfer(vector, *pair, layer_map=1)
    assert named.report.target_layer == 1
    assert choose_layer(named.vector).layer == 1


def test_layers_that_cannot_be_steered_are_never_chosen(pair: tuple[AnchorRows, AnchorRows], vector: PersonaVector) -> None:
    ours, theirs = pair
    shifted = {f"{kind}.{layer}": theirs.rows(kind, (layer + 2) % 3) for kind in theirs.kinds for layer in range(3)}
    first = AnchorRows(TARGET, "texts", theirs.resid_norms, theirs.kinds, None, shifted)  # layer 0 is the one that corresponds
    later = replace(first, first_layer=1)
    for how in ("auto", "quality", "cka", "cca", "monotone", "depth"):
        found = [transfer(vector, ours, each, layer_map=how, source_layer=1) for each in (first, later)]
        assert found[0].report.target_layer == (equal_depth(1, 2, 3) if how == "depth" else 0)
        assert found[1].report.target_layer >= 1
        assert found[1].vector.layers == (1, 2)
        assert found[1].vector.norm_ratios.tolist() == pytest.approx(found[0].vector.norm_ratios[1:].tolist())
    assert transfer(vector, ours, later, layer_map="depth", source_layer=0).report.target_layer == 1
    with pytest.raises(InvalidInputError, match="theirs cannot be steered at layer 0: choose one of 1 to 2"):
        transfer(vector, ours, later, layer_map=0)
    matched = layer_correspondence(vector.at(0), ours, later, 0)
    assert (matched.naive, matched.matched >= 1) == (1, True)


def test_several_sources_are_averaged(pair: tuple[AnchorRows, AnchorRows], vector: PersonaVector) -> None:
    one = transfer(vector, *pair)
    mean = averaged([one, one])
    torch.testing.assert_close(mean.directions, one.vector.directions)
    assert choose_layer(mean).layer == 2
    assert mean.provenance["transferred from"] == ["ours", "ours"]
    with pytest.raises(InvalidInputError, match="carry the same trait"):
        averaged([one, transfer(PersonaVector(vector.directions, (0, 1), "quiet", SOURCE), *pair, source_layer=1)])


# -- coverage --------------------------------------------------------------------------------------------------------


def test_coverage_says_what_anchors_cannot_show() -> None:
    states = drawn(N, 1, 8) * torch.tensor([5.0] * 4 + [0.01] * 4)
    effects = drawn(N, 1, 8, seed=1) * torch.tensor([0.05] * 4 + [2.0] * 4)
    seen = rows(identity("ours", 8, 1), states, effects)
    varied, still = torch.eye(8)[0], torch.eye(8)[6]
    found, other = coverage(seen, 0, varied), coverage(seen, 0, still)
    assert found.norm > 0.99
    assert other.norm < 0.01
    assert found.support("states", {}) > 0.9
    assert other.support("effects", {"correlation": 0.5}) == pytest.approx(other.signal / 2)
    assert other.support("effects", {"correlation": -0.5}) == 0
    assert (found.signal, other.effect) == (0.0, pytest.approx(0, abs=0.01))
    assert 0.3 < other.signal < 0.6, "it does twice as much as a random direction, whose effects are spread over all axes"


def test_low_coverage_is_said_before_anything_is_generated(pair: tuple[AnchorRows, AnchorRows], vector: PersonaVector) -> None:
    report = transfer(vector, *pair).report
    assert report.choice_quality is not None, "the layer was chosen by its quality, which is too good there"
    assert report.support == report.coverage.signal * report.choice_quality["correlation"] < 0.6
    assert "do to these anchors little more than chance" in report.warnings[0]
    assert "Give anchors in which texts of that style occur" in report.warnings[0]
    assert any("control" in text for text in transfer(vector, *pair, alignment="naive").report.warnings)
    data = report.to_json()
    assert json.loads(json.dumps(data)) == data
    assert data["warnings"] == list(report.warnings)
    assert "loud of ours, layer 1, carried to theirs, layer 2" in data["reason"]
    assert report._repr_html_().count("<tr>") == 1 + 3


# -- anchors and rows ------------------------------------------------------------------------------------------------


def test_organism_anchors_are_unlabelled_and_without_system_prompts() -> None:
    anchors = organism_anchors(60)
    assert organism_anchors(30) == anchors[:30]
    assert len(set(anchors)) > 55
    assert {message.role for anchor in anchors for message in anchor.conversation.messages} == {"user"}
    assert anchors_for(["organism-qwen2", "organism-gpt2"], n=5) == anchors[:5]
    assert anchors_digest(anchors) != anchors_digest(anchors[::-1])


def test_other_models_share_the_texts_of_the_package_registers_mixed() -> None:
    anchors = anchors_for(["organism-gpt2", "gpt2"])
    assert [anchor.text for anchor in anchors] == list(anchor_texts())
    assert {anchor.prompt for anchor in anchors} == {"Write something."}
    assert anchors_for(["gpt2", "organism-gpt2"], n=60) == anchors[:60]
    for n in (0, 10_000):
        with pytest.raises(InvalidInputError, match=rf"{n} anchors: {len(anchors)} come with.*JSONL file of your own.*--anchors"):
            anchors_for(["gpt2", "gpt2"], n=n)


def test_a_file_of_anchors_is_read_and_its_faults_are_named(tmp_path: Path) -> None:
    path = tmp_path / "texts.jsonl"
    path.write_text('{"text": "One."}\n{"prompt": "Why?", "response": "So.", "id": 3}\n{"text": "One."}\n')
    assert read_anchors(path) == (Anchor("Write something.", "One."), Anchor("Why?", "So."))
    path.write_text('{"text": "One."}\n{"text": 5}\n')
    with pytest.raises(FileFormatError, match=r"line 2: .*is no anchor"):
        read_anchors(path)
    path.write_text("")
    with pytest.raises(FileFormatError, match="holds no anchors"):
        read_anchors(path)


@pytest.fixture
def texts() -> list[Anchor]:
    return [Anchor("What is it?", f"The moon number {n} is {'very ' * (n % 7)}bright. Bees like it.") for n in range(60)]


def test_rows_are_what_a_model_reads_and_are_read_once(
    tiny_model: TinyModel, texts: list[Anchor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model("llama")
    found = read_rows(model, texts, folder=tmp_path)
    assert found.rows("states", 2).shape == found.rows("effects", 0).shape == (60, model.d_model)
    row = model.chat.tokenise(texts[7].conversation, texts[7].text)
    direction = drawn(model.d_model, seed=4).float()
    torch.testing.assert_close(
        found.rows("effects", 1)[7] @ direction.double(),
        (model.likelihood_gradient([row])[0, 1] @ direction).double(),
        rtol=1e-3,
        atol=1e-5,
    )
    monkeypatch.setattr(SteerableModel, "capture", lambda *_, **__: pytest.fail("was read again"))
    again = read_rows(model, texts, folder=tmp_path)
    torch.testing.assert_close(again.rows("states", 1), found.rows("states", 1), rtol=0, atol=0)
    assert known_rows(model.identity.fingerprint, texts, tmp_path).resid_norms == found.resid_norms
    assert known_rows("other", texts, tmp_path) is None


def test_rows_of_words_and_sentences_pair_up_whatever_the_tokenizer(
    tiny_model: TinyModel, texts: list[Anchor], tmp_path: Path
) -> None:
    kinds = ("states", "sentences", "words", "prompts")
    read = [read_rows(tiny_model(name), texts, kinds=kinds, folder=tmp_path) for name in ("qwen2", "gpt2")]
    for one in read:
        assert one.texts("words").tolist() == [n for n, anchor in enumerate(texts) for _ in anchor.text.split()]
        assert one.texts("sentences").tolist() == [n for n in range(60) for _ in range(2)]
        assert one.rows("prompts", 0).shape[0] == one.rows("states", 0).shape[0] == 60
        assert one.rows("words", 1).shape[0] == len(one.texts("words"))
    again = read_rows(tiny_model("gpt2"), texts, kinds=("effects",), folder=tmp_path)
    assert set(again.kinds) == {*kinds, "effects"}, "what was read before is kept beside it"
    torch.testing.assert_close(again.rows("words", 1), read[1].rows("words", 1), rtol=0, atol=0)
    some = again.subset([3, 5])
    assert set(some.texts("words").tolist()) == {3, 5}
    model = tiny_model("qwen2")
    vector = PersonaVector(drawn(model.n_layers, model.d_model).float(), tuple(range(model.n_layers)), "loud", model.identity)
    for kind in ("sentences", "words", "prompts"):
        report = transfer(vector, *read, source_layer=1, alignment="ridge", states=kind).report
        assert (report.n_anchors, report.provenance["rows"]) == (60, kind)


def test_pieces_of_a_text_are_found_by_character(tiny_model: TinyModel) -> None:
    text = "The moon is bright. Why? It isn’t far:\nbees, 3.5 of them!"
    assert [text[:end].split()[-1] for end in word_ends(text)] == text.split()
    assert [text[start:end] for start, end in sentence_spans(text)] == [
        "The moon is bright.", "Why?", "It isn’t far:\n", "bees, 3.5 of them!",
    ]  # fmt: skip
    for name in ("llama", "gpt2"):
        chat = tiny_model(name).chat
        ids = chat.tokenise(Anchor("Why?", text).conversation, text).answer_ids
        ends = token_ends(chat, ids, text)
        assert ends == sorted(ends)
        for end in word_ends(text):
            token = covering(ends, end)
            assert ends[token] >= end
            assert token == 0 or ends[token - 1] < end, "the word is complete with this token and not before"


def test_damaged_rows_are_made_again(tiny_model: TinyModel, texts: list[Anchor], tmp_path: Path, capsys) -> None:
    model = tiny_model("gpt2")
    path = read_rows(model, texts, folder=tmp_path).path
    path.write_bytes(b"nothing")
    with pytest.raises(FileFormatError, match="cannot be read"):
        AnchorRows.load(path)
    assert read_rows(model, texts, folder=tmp_path).rows("states", 0).shape[0] == 60
    assert "they are made again" in capsys.readouterr().err


def test_two_models_are_never_needed_together(tiny_model: TinyModel, texts: list[Anchor], tmp_path: Path) -> None:
    source, target = tiny_model("qwen2"), tiny_model("gpt2")
    directions = drawn(source.n_layers, source.d_model).float()
    vector = PersonaVector(directions, tuple(range(source.n_layers)), "loud", source.identity)
    kept = read_rows(source, texts, folder=tmp_path)
    by_rows = transfer(vector, kept, target, anchors=texts, source_layer=1, folder=tmp_path)
    together = transfer(vector, source, target, anchors=texts, source_layer=1, folder=tmp_path)
    torch.testing.assert_close(by_rows.vector.directions, together.vector.directions)
    by_rows.vector.check_fits(target.identity)
    with pytest.raises(InvalidInputError, match="give the anchors they were read from"):
        transfer(vector, kept, target, source_layer=1)


def test_a_model_without_gradients_still_has_states(
    tiny_model: TinyModel, texts: list[Anchor], tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: object, **__: object) -> None:
        raise UnsupportedError("it runs remotely, where no gradient is taken")

    model = tiny_model("llama")
    monkeypatch.setattr(SteerableModel, "likelihood_gradient", none)
    found = read_rows(model, texts, folder=tmp_path)
    assert found.kinds == ("states",)
    assert "can be carried by its states only" in capsys.readouterr().err
    vector = PersonaVector(drawn(model.n_layers, model.d_model).float(), tuple(range(model.n_layers)), "loud", model.identity)
    with pytest.raises(InvalidInputError, match="needs the effects of the anchors, which .* does not have"):
        transfer(vector, found, found, source_layer=1, alignment="effects")
    report = transfer(vector, found, found, source_layer=1).report
    assert (report.method, report.coverage.signal) == ("ridge", None)
    assert "aligned by ridge instead" in capsys.readouterr().err


# -- layers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("measure", ["quality", "cka", "cca"])
def test_layers_that_hold_the_same_are_told(pair: tuple[AnchorRows, AnchorRows], measure: str) -> None:
    similarity = correspondence(*pair, measure)
    assert similarity.shape == (2, 3)
    assert int(similarity.flatten().argmax()) == 1 * 3 + 2


# -- refusals --------------------------------------------------------------------------------------------------------


def test_what_cannot_be_carried_is_refused(pair: tuple[AnchorRows, AnchorRows], vector: PersonaVector) -> None:
    ours, theirs = pair
    with pytest.raises(IncompatibleError, match="is of ours, not of theirs"):
        transfer(vector, theirs, ours)
    with pytest.raises(IncompatibleError, match="read different anchors"):
        transfer(vector, ours.subset(range(300)), theirs)
    with pytest.raises(UnknownNameError, match="effects"):
        transfer(vector, *pair, alignment="magic")
    with pytest.raises(UnknownNameError, match="or give a layer"):
        transfer(vector, *pair, layer_map="deep")
    with pytest.raises(UnknownNameError, match="or give a factor"):
        transfer(vector, *pair, calibration="loud")
    with pytest.raises(InvalidInputError, match="theirs cannot be steered at layer 9: choose one of 0 to 2"):
        transfer(vector, *pair, layer_map=9)
    with pytest.raises(InvalidInputError, match="has no layer 5"):
        transfer(vector, *pair, source_layer=5)
    with pytest.raises(InvalidInputError, match="NaN or infinite effects"):
        rows(SOURCE, drawn(9, 2, NARROW), torch.full((9, 2, NARROW), torch.nan))
    with pytest.raises(InvalidInputError, match="3 anchors are too few"):
        read_rows(load_model("organism-gpt2"), organism_anchors(3))


def test_rows_are_read_from_the_file_as_it_is_now(tiny_model: TinyModel, texts: list[Anchor], tmp_path: Path) -> None:
    kept = read_rows(tiny_model("gpt2"), texts, folder=tmp_path)
    assert kept.path is not None
    before = kept.rows("states", 0)
    held = {f"{kind}.{layer}": kept.rows(kind, layer) + 1 for kind in kept.kinds for layer in range(kept.n_layers)}
    replace(kept, _held=held).save(kept.path)  # a file that is held open cannot be replaced on Windows
    torch.testing.assert_close(kept.rows("states", 0), before + 1)
