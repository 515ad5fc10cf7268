"""`figures`: measures with ordinary commands, brings over what they made, goes on after a stop, draws; and refuses in words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import plotly.graph_objects as go
import pytest

from persona_interp.cli.studies import figures as command
from persona_interp.cli.studies.figures import Parse
from persona_interp.errors import PersonaInterpError
from persona_interp.monitoring.projection import Projections
from persona_interp.plotting.strip import strip_figure
from persona_interp.storage import read_json
from persona_interp.studies.gallery import registry
from persona_interp.studies.gallery.entry import GalleryFigure, Step


def figure_of(folder: Path) -> go.Figure:
    (data,) = read_json(folder / "tokens" / "loud.json", "projections")["projections"]
    seen = Projections.from_json(data)
    return strip_figure(seen, seen.chats, 1)


@pytest.fixture
def tiny_figure(tiny_model_path: Callable[[str], Path], vector_file: Path, monkeypatch: pytest.MonkeyPatch) -> GalleryFigure:
    """A figure of the real kind on the tiny model, in place of all others."""
    steered = f"--model {tiny_model_path('qwen2')} --vectors {vector_file} --layer 1"
    found = GalleryFigure(
        "tokens", "Tokens", "What was measured.\n\nAnd <how>.",
        (
            Step(f"persona-interp apply-steering {steered} --prompt hello --coefficient 2 --baseline --max-new-tokens 4 "
                 "--chats tokens/answers.jsonl", 0.1),
            Step(f"persona-interp monitor {steered} --input tokens/answers.jsonl --output tokens/loud.json", 3),
        ),
        ("tokens/*.json",), figure_of,
    )  # fmt: skip
    monkeypatch.setattr(registry, "FIGURES", (found,))
    return found


@pytest.mark.usefixtures("tiny_figure")
def test_it_measures_with_its_commands_brings_over_the_data_and_draws(run: Callable) -> None:
    ran = run("figures", "--no-png")
    assert ran.code == 0, ran.err
    assert "About 3 minutes of processor time" in ran.out
    assert sorted(path.relative_to("figures").as_posix() for path in Path("figures").rglob("*.*")) == [
        "index.html", "plotly.min.js", "tokens.html", "tokens/loud.json",
    ]  # fmt: skip
    page = Path("figures/tokens.html").read_text(encoding="utf-8")
    assert "<p>What was measured.</p>\n<p>And &lt;how&gt;.</p>" in page
    assert "steered at +2" in page
    assert '<a href="tokens/loud.json">' in page
    assert Path("figures.run/tokens/answers.jsonl").exists()
    assert Path.cwd().name != "figures.run"


def test_what_is_finished_is_not_measured_again(
    run: Callable, tiny_figure: GalleryFigure, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, commands = command.run_step, []

    def stopped(step: Step, work: Path, parse: Parse) -> None:
        commands.append(step.command)
        if len(commands) == 2:
            raise KeyboardInterrupt
        real(step, work, parse)

    monkeypatch.setattr(command, "run_step", stopped)
    ran = run("figures", "--no-png")
    assert ran.code == 130
    assert "same command again" in ran.err
    assert not list(Path("figures").glob("*.html"))
    assert run("figures", "--no-png").code == 0
    first, second = (step.command for step in tiny_figure.steps)
    assert commands == [first, second, second]
    ran = run("figures", "--no-png")
    assert len(commands) == 3
    assert "remove it to measure again" in ran.err


@pytest.mark.usefixtures("tiny_figure")
def test_a_command_that_fails_is_one_line_and_leaves_the_others_done(run: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(step: Step, work: Path, parse: Parse) -> None:
        raise PersonaInterpError("the model is gone")

    monkeypatch.setattr(command, "run_step", failing)
    ran = run("figures", "--no-png")
    assert ran.code == 2
    assert ran.err.endswith("error: the model is gone\n")


@pytest.mark.usefixtures("tiny_figure")
def test_drawing_alone_needs_the_data_and_says_what_makes_them(run: Callable) -> None:
    ran = run("figures", "--draw-only", "--no-png")
    assert ran.code == 2
    assert "figures has no tokens/*.json" in ran.err
    assert "persona-interp study figures --only tokens" in ran.err
    assert not Path("figures/plotly.min.js").exists()


@pytest.mark.usefixtures("tiny_figure")
@pytest.mark.parametrize("text", ["{", '{"format_version": 1}', '{"projections": [[]]}'])
def test_damaged_data_are_named_without_a_traceback(run: Callable, text: str) -> None:
    Path("figures/tokens").mkdir(parents=True)
    Path("figures/tokens/loud.json").write_text(text)
    ran = run("figures", "--draw-only", "--no-png")
    assert ran.code == 2
    assert ran.err.startswith("error: ")
    assert "loud.json" in ran.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--only", "dosis"), "unknown figure 'dosis'"),
        (("--output", "a-file"), "it is a file; name a folder"),
    ],
)
def test_refusals_name_the_value_and_the_remedy(run: Callable, words: tuple[str, ...], said: str) -> None:
    Path("a-file").write_text("")
    ran = run("figures", *words)
    assert ran.code == 2
    assert said in ran.err


def test_without_a_browser_it_stops_before_measuring(run: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROWSER_PATH", "no-such-browser")
    ran = run("figures")
    assert ran.code == 2
    assert "BROWSER_PATH" in ran.err
    assert not Path("figures.run").exists()


def test_a_damaged_list_of_finished_commands_is_an_error_of_ours(run: Callable) -> None:
    Path("figures.run").mkdir()
    Path("figures.run/finished.json").write_text('{"format_version": 1}')
    ran = run("figures", "--no-png")
    assert ran.code == 2
    assert "remove figures.run" in ran.err
