"""What the verbs of a model return."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from jaxtyping import Float
from torch import Tensor

from persona_interp.interventions.compile.readout import Captured
from persona_interp.interventions.graph import Capture, InterventionGraph
from persona_interp.models.chat import ChatFormat, TokenisedAnswer
from persona_interp.models.engines.protocol import Answered
from persona_interp.profiling import count_tokens
from persona_interp.traits.conversation import Conversation


@dataclass(frozen=True, repr=False)
class Generation:
    """One answer; ``str()`` of it is its text.

    Attributes:
        conversation: what was asked.
        prompt_ids: the ids the model was given.
        answer_ids: the ids it generated. If it ended by itself the last of them says so: the end id, or under the plain layout
            the first id of the next turn.
        text: the answer without that id.
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

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        end = "" if self.finished else ", cut off"
        return f"Generation({self.text!r}, {len(self.answer_ids)} tokens{end})"

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
        end = chat.end_of(ids)
        answer = tuple(ids if end is None else ids[: end + 1])
        # a token that the next turn begins in the middle of is the answer's last, but the text ends where the turn begins
        text = chat.decode(answer) if end is None or ids[end] in chat.end_ids else chat.spoken(ids)
        count_tokens(written=len(answer))
        return cls(conversation, prompt_ids, answer, text, finished=end is not None, captured=captured)


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


def drawn_answers(
    asked: Sequence[tuple[Conversation, tuple[int, ...]]],
    answered: Sequence[Answered],
    chat: ChatFormat,
    graph: InterventionGraph,
    capture: Callable[[Sequence[TokenisedAnswer], InterventionGraph], Sequence[Captured]],
) -> list[Generation]:
    """The answers of a batch.

    Those that ended before a next turn are read again without it: by the time it is known for one, its first tokens were read.

    Args:
        asked: the conversation of each row, and the ids the model was given.
        answered: what the engine made of them.
        chat: of the model.
        graph: what was generated under, its rows those of the batch.
        capture: reads given texts, see `SteerableModel.capture`.
    """
    answers = [
        Generation.drawn(conversation, prompt_ids, each.ids, chat, each.captured)
        for (conversation, prompt_ids), each in zip(asked, answered, strict=True)
    ]
    chat.note_thoughts(answer.text for answer in answers)
    cut = [place for place, each in enumerate(answers) if each.finished and each.answer_ids[-1] not in chat.end_ids]
    if not cut or not any(read.positions in ("all", "answer") for read in graph.captures):
        return answers
    rows = [TokenisedAnswer((*each.prompt_ids, *each.answer_ids), len(each.prompt_ids)) for each in map(answers.__getitem__, cut)]
    for place, captured in zip(cut, capture(rows, graph.for_rows(cut)), strict=True):
        answers[place] = replace(answers[place], captured=captured)
    return answers
