"""`extract-vectors`: a vector where it was asked for, nothing made twice, and mistakes found before the model is loaded."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from persona_interp.cli import arguments, extract_vectors
from persona_interp.errors import PersonaInterpError
from persona_interp.models.steerable import SteerableModel
from persona_interp.vectors.layer_choice import choose_layer
from persona_interp.vectors.pair_projections import PairProjections
from persona_interp.vectors.persona_vector import PersonaVector


@pytest.fixture
def extract(run: Callable, tiny_model_path: Callable[[str], Path], trait_file: Path) -> Callable:
    """`extract("--output", "x.json")` on the tiny model: ten pairs of short answers, all kept."""
    model = tiny_model_path("qwen2")

    def call(*words: object, trait: object = trait_file):
        base = ("--model", model, "--trait", trait, "--samples", 1, "--max-new-tokens", 5, "--judge", "none")
        return run("extract-vectors", *base, *words)

    return call


def test_the_vector_lands_in_the_default_place(extract: Callable) -> None:
    ran = extract()
    assert ran.code == 0, ran.err
    vector = PersonaVector.load("vectors/tiny-qwen2_loud.json")
    assert vector.trait == "loud"
    assert vector.counts["rollouts"] == 20
    assert "split-half cosine" in ran.out
    assert len(Path("vectors/tiny-qwen2_loud.run/rollouts.jsonl").read_text().splitlines()) == 20


@pytest.mark.parametrize("name", ["mine.json", "deep/mine.safetensors", "mine.pt", "MINE.JSON", "folder"])
def test_output_is_a_file_or_a_folder(extract: Callable, name: str) -> None:
    assert extract("--output", name).code == 0
    assert (Path(name) if "." in name else Path(name) / "tiny-qwen2_loud.json").is_file()


def test_names_become_file_names() -> None:
    assert arguments.vector_file(None, "Qwen/Qwen2.5-7B-Instruct", "silly") == Path("vectors/Qwen2.5-7B-Instruct_silly.json")
    assert arguments.vector_file(None, "qwen2.5-7b-instruct", "traits/my.json") == Path("vectors/qwen2.5-7b-instruct_my.json")
    assert arguments.vector_file(Path("v.d"), "a b/..", "silly").parent == Path("v.d")
    assert "/" not in arguments.file_part("../../etc/passwd/")
    assert arguments.file_part("..") == "unnamed"


def test_an_interrupted_run_goes_on_and_makes_nothing_twice(extract: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    assert extract("--output", "whole.json", "--batch-size", 4).code == 0

    generate = SteerableModel.generate
    made = 0

    def cut_short(self: SteerableModel, *args, on_generation=None, **options):
        if on_generation is None:
            return generate(self, *args, **options)  # the answers that score the layers

        def count(row: int, generation: object) -> None:
            nonlocal made
            on_generation(row, generation)
            made += 1
            if made == 8:
                raise KeyboardInterrupt

        return generate(self, *args, on_generation=count, **options)

    monkeypatch.setattr(SteerableModel, "generate", cut_short)
    ran = extract("--output", "cut.json", "--batch-size", 4)
    assert ran.code == 130
    assert "--resume" in ran.err
    assert "cut.run" in ran.err
    assert not Path("cut.json").exists()
    assert len(Path("cut.run/rollouts.jsonl").read_text().splitlines()) == 8

    ran = extract("--output", "cut.json", "--batch-size", 4, "--resume")
    assert ran.code == 0, ran.err
    assert "going on with the rollouts" in ran.err
    assert made == 20
    assert PersonaVector.load("cut.json").directions.sub(PersonaVector.load("whole.json").directions).abs().max() < 1e-4


def test_an_interruption_before_the_first_answer_does_not_promise_to_resume(
    extract: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_args: object, **_options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(SteerableModel, "generate", stop)
    ran = extract("--output", "cut.json")
    assert ran.code == 130
    assert ran.err.strip() == "interrupted." or "--resume" not in ran.err


def test_a_judge_that_does_not_know_the_trait_says_so_before_anything_is_generated(
    extract: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SteerableModel, "generate", lambda *_args, **_options: pytest.fail("generated"))
    ran = extract("--judge", "grammar")
    assert ran.code == 2
    assert "unknown trait of the grammar judge 'loud'" in ran.err
    assert "contrast" in ran.err
    assert not Path("vectors/tiny-qwen2_loud.run").exists()


def test_another_estimator_generates_nothing(extract: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    assert extract().code == 0
    monkeypatch.setattr(SteerableModel, "generate", lambda *_args, **_options: pytest.fail("generated again"))
    ran = extract("--estimator", "pca", "--positions", "prompt_last")
    assert ran.code == 0, ran.err
    assert PersonaVector.load("vectors/tiny-qwen2_loud.json").estimator == "pca"


def test_other_settings_do_not_mix_with_what_is_there(extract: Callable) -> None:
    assert extract().code == 0
    ran = extract("--seed", 1)
    assert ran.code == 2
    assert "seed: 0 there, 1 asked for" in ran.err


def test_rollouts_may_be_given(extract: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [
        {"prompt": f"What is the moon {n}?", "response": f"{label} the moon is {n} large", "label": label}
        for n in range(10)
        for label in ("positive", "negative")
    ]
    Path("given.jsonl").write_text("\n".join(map(json.dumps, lines)))
    monkeypatch.setattr(SteerableModel, "generate", lambda *_args, **_options: pytest.fail("generated"))
    ran = extract("--rollouts", "given.jsonl", "--output", "given.json")
    assert ran.code == 0, ran.err
    assert PersonaVector.load("given.json").counts["rollouts"] == 20


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--trait", "sily"), "Did you mean 'silly'"),
        (("--trait", "none.json"), "none.json"),
        (("--model", "gpt3"), "unknown model 'gpt3'"),
        (("--model", "./nowhere"), "does not exist"),
        (("--judge", "grammer"), "unknown judge 'grammer'"),
        (("--rollouts", "none.jsonl"), "none.jsonl does not exist"),
        (("--resume",), "nothing to resume"),
        (("--output", "loud.json/sub/x.json"), "cannot write"),
        (("--top-p", "0"), "top_p"),
    ],
)
def test_mistakes_are_found_before_the_model_is_loaded(
    extract: Callable, words: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(arguments, "load_model", lambda _: pytest.fail("loaded"))
    before = sorted(tmp_path.rglob("*"))
    ran = extract(*words)
    assert ran.code == 2
    assert ran.err.startswith("error: ")
    assert message in ran.err
    assert [path for path in sorted(tmp_path.rglob("*")) if path.is_file()] == [path for path in before if path.is_file()]


def test_a_full_disk_is_noticed_before_the_work(extract: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arguments, "load_model", lambda _: pytest.fail("loaded"))
    monkeypatch.setattr(extract_vectors, "ROLLOUT_BYTES", 1 << 70)
    ran = extract()
    assert ran.code == 2
    assert "bytes free" in ran.err


def test_too_few_kept_pairs_say_where_the_rollouts_are(extract: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    from persona_interp.traits.judging import Judgement

    class Stern:
        name = "stern"

        def judge(self, _trait: object, exchanges: list) -> list[Judgement]:
            return [Judgement(0.0, 100.0) for _ in exchanges]

    monkeypatch.setattr(extract_vectors, "judge_for", lambda *_: Stern())
    ran = extract("--output", "few.json")
    assert ran.code == 2
    assert "only 0 of 10 pairs" in ran.err
    assert "few.run" in ran.err
    assert not Path("few.json").exists()


def test_a_suffix_no_vector_is_written_in_is_refused_and_not_taken_for_a_folder(run: Callable, tmp_path: Path) -> None:
    ran = run("extract-vectors", "--model", "organism-qwen2", "--trait", "silly", "--output", "vector.npz")
    assert ran.code == 2
    assert "cannot write a vector as .npz (vector.npz): use .json, .safetensors, .pt" in ran.err
    assert not (tmp_path / "vector.npz").exists()


def test_layers_are_scored_for_layer_auto_and_the_answers_for_it_are_made_once(
    extract: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = extract("--output", "v.json")
    assert ran.code == 0
    vector = PersonaVector.load("v.json")
    scores = vector.listed("effectiveness")
    assert len(scores) == len(vector.layers)
    assert vector.provenance["effectiveness"]["method"] == "screened-likelihood"
    best = vector.layers[scores.index(max(score for score in scores if score is not None))]
    assert f"layer {best}:" in ran.err
    assert choose_layer(vector).layer == best
    assert "likelihood" in choose_layer(vector).reason
    monkeypatch.setattr(SteerableModel, "generate", lambda *_args, **_options: pytest.fail("generated again"))
    assert extract("--output", "v.json", "--resume").code == 0
    assert PersonaVector.load("v.json").listed("effectiveness") == pytest.approx(scores)


def test_layers_that_cannot_be_scored_do_not_cost_the_vector(extract: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_args: object, **_options: object) -> None:
        raise PersonaInterpError("no gradient today")

    monkeypatch.setattr("persona_interp.measure.scored_vector.layer_effectiveness", fail)
    ran = extract("--output", "v.json")
    assert ran.code == 0
    assert "could not be scored (no gradient today); --layer auto will go by geometry" in ran.err
    assert "effectiveness" not in PersonaVector.load("v.json").statistics


def test_layer_scores_can_be_left_out(extract: Callable) -> None:
    assert extract("--output", "v.json", "--layer-scores", "none").code == 0
    assert "effectiveness" not in PersonaVector.load("v.json").statistics
    assert not Path("v.run/contrast_pairs.json").exists()


def test_a_report_holds_the_figures_of_the_vector(extract: Callable) -> None:
    ran = extract("--report", "pages/loud.html", "--projections", "pages/loud.json")
    assert ran.code == 0, ran.err
    projections = PairProjections.from_json(json.loads(Path("pages/loud.json").read_text()))
    kept = PersonaVector.load("vectors/tiny-qwen2_loud.json").counts["kept_pairs"]
    assert {len(row) for row in (*projections.positive, *projections.negative)} == {kept}
    assert kept >= 8
    page = Path("pages/loud.html").read_text()
    assert page.count('class="plotly-graph-div"') == 3
    assert "Length of the residual stream" in page
    assert f"{kept} positive answers" in page
    refused = extract("--report", "loud.pdf", "--output", "other.json")
    assert refused.code == 2
    assert "loud.pdf: name an .html file" in refused.err
    assert not Path("other.json").exists()
    assert "name a .json file" in extract("--projections", "loud.csv", "--output", "other.json").err
