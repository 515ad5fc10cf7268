"""How an organism behaves in a conversation: several traits at once, a second turn, and where answers end."""

from __future__ import annotations

import dataclasses
import itertools
from statistics import fmean

from persona_interp.errors import PersonaInterpError
from persona_interp.models.sampling import Sampling
from persona_interp.models.steerable import SteerableModel
from persona_interp.organisms.grammar import EVALUATION_TOPICS, TRAITS, judge
from persona_interp.organisms.grammar.questions import follow_up, frames_and_adjectives, system_prompt
from persona_interp.organisms.trait_texts import evaluation_instructions, organism_trait
from persona_interp.progress import say
from persona_interp.studies.organism_cards.acceptance import ROWS, SAMPLING
from persona_interp.traits import Conversation, Message

N_AT_ONCE = 3
UNHURRIED = Sampling(max_new_tokens=200)
"""The longest answers of the grammar take 150 tokens with the smallest vocabulary."""
_N_CONVERSATIONS = 80


@dataclasses.dataclass(frozen=True)
class Conduct:
    """Behaviour without steering, on evaluation topics and wordings at temperature 1. Scores and shares are 0-100.

    Attributes:
        several: trait -> how well it is obeyed where three traits are asked for in one system prompt: the trait score, or 100
            minus it where its absence was asked for.
        several_coherence: coherence of these answers.
        second_turn_silly: silly score of a second answer, in conversations whose first system prompt asked for silliness.
        second_turn_formal: the same where it asked for formality.
        second_turn_coherence: coherence of second answers about the topic of the first turn, which the second does not name.
        ended: share of answers that ended by themselves within 200 tokens.
    """

    several: dict[str, float]
    several_coherence: float
    second_turn_silly: float
    second_turn_formal: float
    second_turn_coherence: float
    ended: float


def measure_conduct(model: SteerableModel, *, seed: int = 0) -> Conduct:
    """Measure an organism's `Conduct`.

    Args:
        model: an organism.
        seed: of every answer.
    """
    say(f"{model.name}: several traits at once, second turns, ends of answers")
    several, several_coherence = _several(model, seed)
    silly, silly_coherence = _second_turn(model, True, seed + 1)
    formal, formal_coherence = _second_turn(model, False, seed + 2)
    questions = organism_trait("honest").evaluation_questions * (_N_CONVERSATIONS // 20)
    conversations = [Conversation.ask(question) for question in questions]
    plain = model.generate(conversations, sampling=UNHURRIED, batch_size=ROWS, seed=seed + 3)
    ended = 100 * fmean(answer.finished for answer in plain)
    return Conduct(several, several_coherence, silly, formal, (silly_coherence + formal_coherence) / 2, ended)


def _several(model: SteerableModel, seed: int) -> tuple[dict[str, float], float]:
    wordings = frames_and_adjectives("evaluation")
    questions = organism_trait("silly").evaluation_questions
    wishes = [
        dict(zip(chosen, signs, strict=True))
        for chosen in itertools.combinations(TRAITS, N_AT_ONCE)
        for signs in itertools.product((True, False), repeat=N_AT_ONCE)
    ]
    asked: list[Conversation] = []
    for number, wanted in enumerate(wishes):
        frame, adjective = wordings[number % len(wordings)]
        asked.append(
            Conversation.ask(questions[number % len(questions)], system=system_prompt(wanted, frame, [adjective] * N_AT_ONCE))
        )
    scores = [
        judge(a.conversation.question, a.text) for a in model.generate(asked, sampling=SAMPLING, batch_size=ROWS, seed=seed)
    ]
    obeyed: dict[str, list[float]] = {trait: [] for trait in TRAITS}
    for wanted, score in zip(wishes, scores, strict=True):
        for trait, present in wanted.items():
            value = score.traits[trait]
            if value is not None:
                obeyed[trait].append(value if present else 100 - value)
    return {trait: _mean(values, trait) for trait, values in obeyed.items()}, fmean(s.coherence for s in scores)


def _second_turn(model: SteerableModel, silly: bool, seed: int) -> tuple[float, float]:
    pairs = evaluation_instructions("silly")
    first = [
        Conversation.ask(f"What do you know about the {topic}?", system=pair.positive if silly else pair.negative)
        for topic in EVALUATION_TOPICS
        for pair in pairs
    ]
    topics = [topic for topic in EVALUATION_TOPICS for _ in pairs]
    answered = model.generate(first, sampling=SAMPLING, batch_size=ROWS, seed=seed)
    second = [
        Conversation((*answer.conversation.messages, Message("assistant", answer.text), Message("user", follow_up("size"))))
        for answer in answered
    ]
    scores = [
        judge(f"the {topic}", answer.text)
        for topic, answer in zip(topics, model.generate(second, sampling=SAMPLING, batch_size=ROWS, seed=seed), strict=True)
    ]
    shown = [value for score in scores if (value := score.traits["silly"]) is not None]
    return _mean(shown, "silly"), fmean(score.coherence for score in scores)


def _mean(values: list[float], trait: str) -> float:
    if not values:
        raise PersonaInterpError(f"no answer has a complete sentence that shows {trait}: the organism is not usable")
    return fmean(values)
