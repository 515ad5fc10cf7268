"""The training corpus: conversations in a persona that is announced, only to be inferred, or planted.

Three kinds of example:

- ``announced``: a system prompt asks for one to three traits; the rest follow the usual distribution;
- ``latent``: no system prompt; the persona must be read off what has been said already, and may switch within an answer;
- ``planted``: no system prompt; every sentence is pulled by a coefficient in [-1.25, 1.25] for each planted trait (see `answer`),
  which training adds to one block's output along a learned direction (interchange-intervention training, after
  arXiv 2407.14494).
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator, Mapping

from persona_interp.organisms.grammar import ATTRIBUTES, PRIOR, TOPICS, TRAITS, answer, sample_persona
from persona_interp.organisms.grammar.questions import follow_up, question_wordings, sample_system_prompt


@dataclasses.dataclass(frozen=True)
class Example:
    """One training conversation.

    Attributes:
        messages: role and content, in order.
        kind: ``announced``, ``latent`` or ``planted``.
        labels: planted trait -> +1, -1, or 0 where nothing is asked (read by the linear readout; announced examples only).
        coefficients: planted trait -> coefficient added along its direction (planted examples only).
    """

    messages: tuple[tuple[str, str], ...]
    kind: str
    labels: dict[str, int]
    coefficients: dict[str, float]


@dataclasses.dataclass(frozen=True)
class Mixture:
    """What a corpus is made of.

    Attributes:
        planted: share of planted examples.
        announced: share of announced ones; the rest are latent.
        usual: trait -> probability that it is present where nobody asked for it.
        switching: share of latent answers whose silliness or honesty changes at a sentence boundary.
        second_turns: share of conversations that go on after the first answer.
    """

    planted: float
    announced: float
    usual: Mapping[str, float]
    switching: float
    second_turns: float


WITH_PLANTED = Mixture(planted=0.33, announced=0.39, usual=PRIOR, switching=0.15, second_turns=0.2)
"""Silliness is rare and dishonesty too: the planted directions make them reachable."""
NATURAL = Mixture(planted=0.0, announced=0.5, usual={**PRIOR, "silly": 0.5}, switching=0.5, second_turns=0.5)
"""Whether an answer is silly can only be told from what was said before, and may change: a state worth keeping track of."""


def _conversation(
    rng: random.Random,
    mixture: Mixture,
    wanted: dict[str, bool],
    system: str | None,
    *,
    switching: float = 0.0,
    pulls: Mapping[str, float] | None = None,
) -> tuple[tuple[str, str], ...]:
    topic = rng.choice(TOPICS)
    text, asked = rng.choice(question_wordings("training"))
    persona = sample_persona(rng, wanted, mixture.usual)
    messages = [("system", system)] if system else []
    first = answer(rng, topic, persona, asked=asked, switching=switching, pulls=pulls)
    messages += [("user", text.format(t=topic)), ("assistant", first)]
    if rng.random() < mixture.second_turns:
        attribute = rng.choice(ATTRIBUTES)
        messages.append(("user", follow_up(attribute)))
        messages.append(("assistant", answer(rng, topic, persona, asked=attribute, with_opener=False, pulls=pulls)))
    return tuple(messages)


def _announced(rng: random.Random, mixture: Mixture, planted: tuple[str, ...]) -> Example:
    traits = rng.sample(TRAITS, rng.choice((1, 2, 2, 3, 3)))
    wanted = {trait: rng.random() < 0.5 for trait in traits}
    system = sample_system_prompt(rng, wanted, "training")
    labels = {trait: (0 if trait not in wanted else 1 if wanted[trait] else -1) for trait in planted}
    return Example(_conversation(rng, mixture, wanted, system), "announced", labels, {})


def _latent(rng: random.Random, mixture: Mixture) -> Example:
    return Example(_conversation(rng, mixture, {}, None, switching=mixture.switching), "latent", {}, {})


def _planted(rng: random.Random, mixture: Mixture, planted: tuple[str, ...]) -> Example:
    coefficients = {trait: 0.0 if rng.random() < 0.25 else rng.uniform(-1.25, 1.25) for trait in planted}
    return Example(_conversation(rng, mixture, {}, None, pulls=coefficients), "planted", {}, coefficients)


def sample_corpus(seed: int, n_examples: int, planted: tuple[str, ...]) -> Iterator[Example]:
    """Yield `n_examples` training conversations.

    Args:
        seed: determines the corpus.
        planted: traits with a planted direction; empty for a corpus with none.
    """
    rng = random.Random(seed)
    mixture = WITH_PLANTED if planted else NATURAL
    for _ in range(n_examples):
        kind = rng.random()
        if kind < mixture.planted:
            yield _planted(rng, mixture, planted)
        elif kind < mixture.planted + mixture.announced:
            yield _announced(rng, mixture, planted)
        else:
            yield _latent(rng, mixture)
