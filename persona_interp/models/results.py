"""What the verbs of a model return."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor

from persona_interp.interventions.graph import Capture
from persona_interp.models.chat import ChatFormat
from persona_interp.profiling import count_tokens
from persona_interp.traits.conversation import Conversation


@dataclass(frozen=True)
class Generation:
    """One answer.

    Attributes:
        conversation: what was asked.
        prompt_ids: the ids the model was given.
        answer_ids: the ids it generated; the end id is the last of them if it ended by itself.
        text: the answer without the end id.
        finished: whether it ended by itself before the length limit.
        captured: what each `Capture` of the graph read, ``[layer d_model]`` or ``[layer pos d_model]``. Absent for a capture that
            found no position to read: in an answer of one token, that token never passed through the model.
    """

    conversation: Conversation
    prompt_ids: tuple[int, ...]
    answer_ids: tuple[int, ...]
    text: str
    finished: bool
    captured: Mapping[Capture, Tensor] = field(default_factory=dict, compare=False)

    @classmethod
    def drawn(
        cls,
        conversation: Conversation,
        prompt_ids: tuple[int, ...],
        ids: Sequence[int],
        chat: ChatFormat,
        captured: Mapping[Capture, Tensor],
    ) -> Generation:
        """The answer in `ids`, of which everything behind the first end id is padding."""
        end = next((place for place, token in enumerate(ids) if token in chat.end_ids), None)
        answer = tuple(ids if end is None else ids[: end + 1])
        count_tokens(written=len(answer))
        return cls(conversation, prompt_ids, answer, chat.decode(answer), finished=end is not None, captured=captured)


@dataclass(frozen=True, eq=False)
class AnswerLikelihood:
    """How likely a model finds an answer, token by token.

    Attributes:
        token_log_probs: ``[n_answer]`` float32, natural logarithm, of each answer token given all before it.
    """

    token_log_probs: Float[Tensor, " n_answer"]

    @property
    def total(self) -> float:
        """Log probability of the whole answer; 0 for an empty one."""
        return float(self.token_log_probs.double().sum())
