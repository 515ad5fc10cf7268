"""Character traits: what they are, the library of them, conversations, and what a judge is."""

from __future__ import annotations

from persona_interp.traits.catalogue import add_trait, load_trait, trait_names
from persona_interp.traits.conversation import Conversation, Message
from persona_interp.traits.judging import Judge, Judgement
from persona_interp.traits.trait import InstructionPair, Trait

__all__ = [
    "Conversation",
    "InstructionPair",
    "Judge",
    "Judgement",
    "Message",
    "Trait",
    "add_trait",
    "load_trait",
    "trait_names",
]
