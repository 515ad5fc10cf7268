"""What the controls say becomes steerings, and a command and a program that do the same."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import Any

import pytest
import torch

from persona_interp.cli.entry import main
from persona_interp.demo.reproduced import reproduced
from persona_interp.demo.site import Site
from persona_interp.demo.wanted import Dial, Manner, Picked, Wanted, picked
from persona_interp.errors import InvalidInputError
from persona_interp.models.sampling import Sampling
from persona_interp.models.steerable import SteerableModel
from persona_interp.traits.conversation import Conversation

ASKED = Conversation.ask("What do you know about the bicycle?", "Be brief.")
SAMPLING = Sampling(max_new_tokens=24)
Pick = Callable[..., Picked]


@pytest.fixture
def pick(site: Site, model: SteerableModel, random_vector: Any, done: Callable[..., Any]) -> Pick:
    """`pick(Dial(...), ...)`: of two random vectors, `one` and `two`."""
    session = site.sessions.of("me")
    session.keep("one", random_vector(model, 0), model.name)
    session.keep("two", random_vector(model, 1, "other"), model.name)

    def make(*dials: Dial, manner: Manner | None = None, second: float | None = None) -> Picked:
        wanted = Wanted(model.name, dials, manner or Manner(), second)
        return done(lambda job: picked(site, session, job, model, wanted))

    return make


def test_a_dose_is_a_share_of_the_residual_norm(pick: Pick) -> None:
    (push,) = pick(Dial("vector:one", -0.4, 3)).pushes
    assert push.perturbation_ratio == pytest.approx(0.4)
    assert push.coefficient < 0
    assert pick(Dial("vector:one", 0.0, 3)).pushes[0].key is None


def test_a_second_dose_is_another_answer_and_further_vectors_are_added_to_both(pick: Pick) -> None:
    found = pick(Dial("vector:one", 0.4, 3), Dial("vector:two", 0.2, 5), second=-0.2)
    first, second = found.pushes
    assert [part.layers for part in first.parts] == [(3,), (5,)]
    assert first.parts[1].coefficient == second.parts[1].coefficient
    assert second.parts[0].coefficient == pytest.approx(-first.parts[0].coefficient / 2)
    assert len(first.graph((1,)).writes) == 2


@pytest.mark.parametrize("dose", [1.5, float("nan"), "0.3", None])
def test_a_dose_that_is_none_is_refused(pick: Pick, dose: Any) -> None:
    with pytest.raises(InvalidInputError, match="dose"):
        pick(Dial("vector:one", dose, 3))


def test_operations_that_take_a_share_take_no_negative_dose_and_get_their_value(pick: Pick) -> None:
    manner = Manner.checked("clamp", 2.5, "response")
    (push,) = pick(Dial("vector:one", 0.5, 3), manner=manner).pushes
    (write,) = push.graph().writes
    assert (write.operation.kind, write.coefficient, write.positions) == ("clamp", 0.5, "response")
    assert write.operation.scalars() == {"projection": 2.5}
    with pytest.raises(InvalidInputError, match="clamp takes a share from 0 to 1"):
        pick(Dial("vector:one", -0.5, 3), manner=manner)
    for wrong in (("push", 0.0, "all"), ("add", float("inf"), "all"), ("add", 0.0, "nowhere")):
        with pytest.raises(InvalidInputError):
            Manner.checked(*wrong)


@pytest.mark.parametrize(
    ("dials", "manner", "second"),
    [
        ([Dial("vector:one", 0.4, 3)], Manner(), -0.25),
        ([Dial("vector:one", 0.4, 3), Dial("vector:two", -0.2, 5)], Manner(positions="response"), None),
        ([Dial("vector:one", 0.5, 4)], Manner("clamp", 3.0), 0.0),
    ],
)
def test_the_command_and_the_program_give_the_answers_of_the_page(
    site: Site, model: SteerableModel, pick: Pick, capsys: pytest.CaptureFixture[str], dials: Any, manner: Manner, second: Any
) -> None:
    found = pick(*dials, manner=manner, second=second)
    conversations = [ASKED] * (1 + len(found.pushes))
    graph = sum((push.graph((row,)) for row, push in enumerate(found.pushes, 1)), start=found.pushes[0].graph(()))
    expected = model.generate(conversations, graph=graph, sampling=SAMPLING, seed=[7] * len(conversations))
    shown = reproduced(site, found, ASKED, SAMPLING, 7)
    exec(shown.python, {})  # noqa: S102  (what the page shows, run as it stands)
    told = [line.partition(": ")[2] for line in capsys.readouterr().out.splitlines()]
    assert told == [answer.text for answer in expected]
    for line in shown.command.splitlines():
        program, *arguments = shlex.split(line)
        assert program == "persona-interp"
        assert main(arguments) in (0, None)
    printed = _letters(capsys.readouterr().out)
    assert all(_letters(answer.text) in printed for answer in expected)


def test_paths_are_shown_to_nobody_who_is_elsewhere(site: Site, pick: Pick) -> None:
    site.shows_paths = False
    shown = reproduced(site, pick(Dial("vector:one", 0.4, 3)), ASKED, SAMPLING, 7)
    assert "/" not in shown.command
    assert "/" not in shown.python


def test_a_vector_without_norms_gets_those_of_the_model(
    site: Site, model: SteerableModel, random_vector: Any, done: Callable[..., Any]
) -> None:
    from dataclasses import replace

    session = site.sessions.of("me")
    bare = replace(random_vector(model), statistics={}, trait="nameless")
    session.keep("bare", bare, model.name)
    held = done(lambda job: site.vector(job, session, model, "vector:bare"))
    assert torch.isfinite(held.vector.norm_ratios).all()


def _letters(text: str) -> str:
    return "".join(sign for sign in text if sign.isalnum())
