"""(b) A whole extraction, files and statistics included, against the same rollouts alone."""

from __future__ import annotations

from measuring import Ratio, compare
from subjects import Subject

from persona_interp.models.sampling import Sampling
from persona_interp.traits import Conversation
from persona_interp.vectors.extract import extract
from persona_interp.vectors.rollouts.rollout import SIGNS, RolloutKey, Slot

BATCH = 32
BAR = 1.10
SAMPLING = Sampling(max_new_tokens=32)
QUESTIONS = 13


def measure(subject: Subject, rounds: int) -> dict[str, Ratio]:
    model, trait = subject.model, subject.trait
    questions = trait.extraction_questions[:QUESTIONS]
    slots = [Slot(pair, question, 0) for question in range(QUESTIONS) for pair in range(len(trait.instructions))]
    keys = [RolloutKey(sign, slot) for slot in slots for sign in SIGNS][: 4 * BATCH]

    def asked(key: RolloutKey) -> Conversation:
        pair = trait.instructions[key.slot.instruction]
        return Conversation.ask(questions[key.slot.question], pair.positive if key.sign == "positive" else pair.negative)

    def rollouts() -> None:
        every = [RolloutKey(sign, slot) for slot in slots for sign in SIGNS]
        for start in range(0, len(every), len(keys)):
            part = every[start : start + len(keys)]
            model.generate([asked(key) for key in part], sampling=SAMPLING, seed=[key.seed(0) for key in part], batch_size=BATCH)

    def whole() -> None:
        extract(model, trait, judge=None, samples=1, questions=questions, sampling=SAMPLING, batch_size=BATCH)

    return compare(rollouts, {"whole extraction": whole}, rounds, accelerator=model.device.type == "cuda")
