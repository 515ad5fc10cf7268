"""The persona grammar: a small language whose every sentence can be parsed back, so trait expression is known, not judged."""

from persona_interp.organisms.grammar.answers import answer
from persona_interp.organisms.grammar.facts import ATTRIBUTES, EVALUATION_TOPICS, EXTRACTION_TOPICS, FACTS, TOPICS, VALUES
from persona_interp.organisms.grammar.judge import GrammarScore, judge, parse_sentence
from persona_interp.organisms.grammar.persona import PRIOR, TRAITS, Persona, sample_persona

__all__ = [
    "ATTRIBUTES",
    "EVALUATION_TOPICS",
    "EXTRACTION_TOPICS",
    "FACTS",
    "PRIOR",
    "TOPICS",
    "TRAITS",
    "VALUES",
    "GrammarScore",
    "Persona",
    "answer",
    "judge",
    "parse_sentence",
    "sample_persona",
]
