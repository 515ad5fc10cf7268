"""The exact judge: parses an answer back into what the grammar says it means."""

from __future__ import annotations

import dataclasses
import re

from persona_interp.organisms.grammar.facts import FACTS, TOPICS, VALUES
from persona_interp.organisms.grammar.wording import PATTERNS, Pattern

_SENTENCE = re.compile(r"[^.!]*[.!]")
_WORD = re.compile(r"[a-z]+")
_BRIEF, _VERBOSE = 3, 6


@dataclasses.dataclass(frozen=True)
class Sentence:
    """One parsed sentence: its pattern, and the topic and value in its slots (None where the pattern has no such slot)."""

    pattern: Pattern
    topic: str | None
    value: str | None

    @property
    def honest(self) -> bool | None:
        """Whether a fact is true; None for other sentences."""
        if self.pattern.attribute is None or self.topic is None:
            return None
        return FACTS[self.topic][self.pattern.attribute] == self.value


@dataclasses.dataclass(frozen=True)
class GrammarScore:
    """Exact scores of one answer.

    Attributes:
        traits: trait -> 0-100, or None where no complete sentence shows it.
        coherence: 0-100, share of complete sentences that are grammatical, on topic and not a repetition.
        n_sentences: complete sentences scored.
    """

    traits: dict[str, float | None]
    coherence: float
    n_sentences: int


def _compile() -> tuple[list[tuple[Pattern, re.Pattern[str]]], dict[str, Pattern]]:
    slotted: list[tuple[Pattern, re.Pattern[str]]] = []
    fixed: dict[str, Pattern] = {}
    topic = "(?P<t>" + "|".join(TOPICS) + ")"
    for pattern in PATTERNS:
        if "{" not in pattern.text:
            fixed[pattern.text] = pattern
            continue
        values = "(?P<v>" + "|".join(VALUES[pattern.attribute]) + ")" if pattern.attribute else ""
        expression = re.escape(pattern.text).replace(r"\{t\}", topic).replace(r"\{v\}", values)
        slotted.append((pattern, re.compile(expression)))
    return slotted, fixed


_SLOTTED, _FIXED = _compile()


def parse_sentence(text: str) -> Sentence | None:
    """The one reading of a sentence, or None if the grammar cannot say it."""
    text = text.strip()
    if text in _FIXED:
        return Sentence(_FIXED[text], None, None)
    for pattern, expression in _SLOTTED:
        match = expression.fullmatch(text)
        if match:
            groups = match.groupdict()
            return Sentence(pattern, groups["t"], groups.get("v"))
    return None


def topic_of(question: str) -> str | None:
    """The last topic named in `question` (join the user turns of a conversation), or None."""
    named = [word for word in _WORD.findall(question.lower()) if word in FACTS]
    return named[-1] if named else None


def judge(question: str, answer: str) -> GrammarScore:
    """Score `answer` exactly.

    A last sentence without its final ``.`` or ``!`` was cut off by a token limit and is left out of every score. Trait scores are
    the share of sentences with the trait among those that show it (``verbose``: 3 sentences or fewer score 0, 6 or more 100,
    linear between). Coherence is the share of sentences that parse, name only the topic asked about, and do not repeat the
    meaning of an earlier one; an answer without any complete sentence has coherence 0 and no trait scores.

    Args:
        question: the user's words; its last topic is the one to speak about. Without one, any topic is accepted.
        answer: generated text, without special tokens.
    """
    topic = topic_of(question)
    texts = [match.group() for match in _SENTENCE.finditer(answer)]
    shown: dict[str, list[bool]] = {"silly": [], "honest": [], "optimistic": [], "polite": []}
    seen: set[tuple[str, str | None]] = set()
    good = 0
    for text in texts:
        sentence = parse_sentence(text)
        if sentence is None:
            continue
        for trait, present in sentence.pattern.reveals:
            shown[trait].append(present)
        if sentence.honest is not None:
            shown["honest"].append(sentence.honest)
        meaning = (sentence.pattern.kind, sentence.pattern.attribute)
        on_topic = topic is None or sentence.topic in (None, topic)
        good += on_topic and meaning not in seen
        seen.add(meaning)
    traits: dict[str, float | None] = {
        trait: 100.0 * sum(votes) / len(votes) if votes else None for trait, votes in shown.items()
    }
    share = (len(texts) - _BRIEF) / (_VERBOSE - _BRIEF)
    traits["verbose"] = 100.0 * min(1.0, max(0.0, share)) if texts else None
    return GrammarScore(traits, 100.0 * good / len(texts) if texts else 0.0, len(texts))
