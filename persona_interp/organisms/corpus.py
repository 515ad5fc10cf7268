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

from persona_interp.organisms.grammar import ATTRIBUTES, TOPICS, TRAITS, answer, sample_persona
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


def _conversation(
    rng: random.Random,
    wanted: dict[str, bool],
    system: str | None,
    *,
    switches: bool = False,
    pulls: Mapping[str, float] | None = None,
) -> tuple[tuple[str, str], ...]:
    topic = rng.choice(TOPICS)
    text, asked = rng.choice(question_wordings("training"))
    persona = sample_persona(rng, wanted)
    messages = [("system", system)] if system else []
    first = answer(rng, topic, persona, asked=asked, switches=switches, pulls=pulls)
    messages += [("user", text.format(t=topic)), ("assistant", first)]
    if rng.random() < 0.2:
        attribute = rng.choice(ATTRIBUTES)
        messages.append(("user", follow_up(attribute)))
        messages.append(("assistant", answer(rng, topic, persona, asked=attribute, with_opener=False, pulls=pulls)))
    return tuple(messages)


def _announced(rng: random.Random, planted: tuple[str, ...]) -> Example:
    traits = rng.sample(TRAITS, rng.choice((1, 2, 2, 3, 3)))
    wanted = {trait: rng.random() < 0.5 for trait in traits}
    system = sample_system_prompt(rng, wanted, "training")
    labels = {trait: (0 if trait not in wanted else 1 if wanted[trait] else -1) for trait in planted}
    return Example(_conversation(rng, wanted, system), "announced", labels, {})


def _latent(rng: random.Random) -> Example:
    return Example(_conversation(rng, {}, None, switches=True), "latent", {}, {})


def _planted(rng: random.Random, planted: tuple[str, ...]) -> Example:
    coefficients = {trait: 0.0 if rng.random() < 0.25 else rng.uniform(-1.25, 1.25) for trait in planted}
    return Example(_conversation(rng, {}, None, pulls=coefficients), "planted", {}, coefficients)


def sample_corpus(seed: int, n_examples: int, planted: tuple[str, ...]) -> Iterator[Example]:
    """Yield `n_examples` training conversations.

    Args:
        seed: determines the corpus.
        planted: traits with a planted direction; empty for a corpus with none.
    """
    rng = random.Random(seed)
    up_to_planted, up_to_announced = (0.33, 0.72) if planted else (0.0, 0.5)
    for _ in range(n_examples):
        kind = rng.random()
        if kind < up_to_planted:
            yield _planted(rng, planted)
        elif kind < up_to_announced:
            yield _announced(rng, planted)
        else:
            yield _latent(rng)
