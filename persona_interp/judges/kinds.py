"""The kinds of judges by name; naming and describing them loads none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from persona_interp.errors import InvalidInputError
from persona_interp.registry import Registry
from persona_interp.traits.judging import Judge

NO_JUDGE = "none"
"""Says in commands what None says in Python: nothing is judged."""


@dataclass(frozen=True)
class JudgeKind:
    """How judges of one kind are made, and what is said of them.

    Attributes:
        make: of (the model that answered, what stands behind the colon of the spec).
        help: a few words on what scores; empty for a kind that only goes by a second name.
        form: how a spec of it is written.
        guard: whether the garbage guard stands before it where its caller leaves that open.
    """

    make: Callable[..., Judge]
    help: str
    form: str
    guard: bool


JUDGES: Registry[JudgeKind] = Registry(
    "judge",
    "persona_interp.judges",
    home="persona_interp.judges.built_in",
    first=("auto", "local", "logprob", "endpoint", "contrast", "perplexity", "measure"),
)
"""Kind -> how it is made. Entry points of the group ``persona_interp.judges`` add to it."""


def register_judge(kind: str, factory: Callable[..., Judge], *, guard: bool = True, help: str = "", form: str = "") -> None:
    """Let `load_judge`, and ``--judge`` of the commands and their help, know `kind`.

    Args:
        kind: what specs begin with.
        factory: of (the model that answered, what stands behind the colon).
        guard: whether `load_judge` puts the garbage guard before it where its caller leaves that open.
        help: a few words on what scores, for the help of commands; a kind without any is not listed there.
        form: how a spec of it is written, such as ``endpoint:MODEL``; empty: as `kind`.

    Raises:
        InvalidInputError: the kind is taken, or holds a colon or a plus sign.
    """
    if kind == NO_JUDGE:
        raise InvalidInputError(f"a judge cannot be called {NO_JUDGE!r}, which means that nothing is judged: choose another name")
    if ":" in kind or "+" in kind:
        sign = "a colon, which separates a judge from its argument" if ":" in kind else "a plus sign, which joins judges"
        raise InvalidInputError(f"judge name {kind!r} holds {sign}: choose another")
    JUDGES.register(kind, JudgeKind(factory, help, form or kind, guard), by=factory)


def without_argument(kind: str, make: Callable[[Any], Judge]) -> Callable[..., Judge]:
    """The factory of a judge that takes nothing behind a colon."""

    def factory(model: Any, argument: str) -> Judge:
        if argument:
            raise InvalidInputError(f"judge {kind!r} takes nothing behind a colon, got {argument!r}: leave it out")
        return make(model)

    return factory
