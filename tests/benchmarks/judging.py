"""The rubric judge on a real model: a score of one answer, and of several together, against one forward of their rubrics."""

from __future__ import annotations

import sys
from pathlib import Path

from measuring import Ratio, compare

sys.path.insert(0, str(Path(__file__).parent.parent))  # where the real model is

from real import smollm2

from persona_interp.judges.logprob import COHERENCE_RUBRIC, LogprobJudge
from persona_interp.traits.catalogue import load_trait
from persona_interp.traits.conversation import Conversation
from persona_interp.traits.rubric import fill_rubric
from persona_interp.traits.specimens import specimens

BAR = 1.3
N_TOGETHER = 4


def measure(rounds: int) -> dict[str, Ratio]:
    model = smollm2()
    trait = load_trait("silly")
    asked = [(text.question, text.answer) for text in specimens(trait)[1]][:N_TOGETHER]
    judge = LogprobJudge(model)

    def forwards(n: int) -> None:
        for question, answer in asked[:n]:
            for rubric in (trait.rubric_for(question, answer), fill_rubric(COHERENCE_RUBRIC, question, answer)):
                model.next_token_logits([model.chat.prompt_ids(Conversation.ask(rubric))])

    found = compare(lambda: forwards(1), {"one answer": lambda: judge.judge(trait, asked[:1])}, rounds)
    together = {f"{N_TOGETHER} answers together": lambda: judge.judge(trait, asked)}
    return found | compare(lambda: forwards(N_TOGETHER), together, rounds)
