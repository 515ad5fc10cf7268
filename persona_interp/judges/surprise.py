"""How unlikely a model finds an answer to a question, in nats a token."""

from __future__ import annotations

from collections.abc import Sequence

from persona_interp.models.chat import TokenisedAnswer
from persona_interp.models.steerable import SteerableModel
from persona_interp.traits.conversation import Conversation


def answer_row(model: SteerableModel, question: str, answer: str, system: str | None = None) -> TokenisedAnswer:
    """The row of an answer without its end of turn, so that answers cut off by a limit compare with finished ones."""
    row = model.chat.tokenise(Conversation.ask(question, system=system), answer)
    ended = bool(row.answer_ids) and row.answer_ids[-1] in model.chat.end_ids
    return TokenisedAnswer(row.ids[:-1], row.n_prompt) if ended else row


def surprises(model: SteerableModel, exchanges: Sequence[tuple[str, str]]) -> list[float | None]:
    """Mean of minus log p over the tokens of each answer under the model, unsteered; None for an answer without tokens.

    Its exponential is the perplexity.
    """
    rows = [answer_row(model, question, answer) for question, answer in exchanges]
    filled = [place for place, row in enumerate(rows) if row.answer_ids]
    found: list[float | None] = [None] * len(rows)
    if filled:
        for place, likelihood in zip(filled, model.log_likelihood([rows[place] for place in filled]), strict=True):
            found[place] = -float(likelihood.token_log_probs.double().mean())
    return found
