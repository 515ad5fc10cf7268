"""Conversations as token ids: which tokens are the prompt, which are the answer.

The rules, in the order they are applied:

1. The prompt is what the tokenizer's chat template renders with its generation prompt. A base model without a template
   (GPT-2) gets the plain layout of `PLAIN_TEMPLATE`: ``User: ...`` and ``Assistant:`` lines under the system text.
2. A template that refuses a system role, or drops it without a word, gets the system text at the head of the first user turn.
3. An answer is put behind the prompt exactly as given, where generation would have put it, and the text that ends a turn
   follows it. Templates that trim or rewrite an answer therefore cannot move its span.
4. The whole text is tokenised once. The answer begins with the first token that reaches beyond the prompt's last character, so
   a token that straddles the seam belongs to the answer.
5. Text of a user or of an answer that only looks like a special token (``<|im_end|>``) stays text (a SentencePiece tokenizer
   puts a space before it).
6. Answers are answers, without a train of thought before them, since that is what judges read and vectors average. Templates
   that can switch thinking off (Qwen 3) are told to, and what a template itself puts in front of an answer (an empty thought,
   the final channel of gpt_oss) is part of the prompt. A thought that the generation prompt opens (R1) is closed there.
7. Under the plain layout no token ends an answer: what is generated ends before the next ``User:`` or ``Assistant:`` line.
   Answers that are given stay as they are.

The template decides about a beginning-of-sequence token, as in `tokenizer.apply_chat_template`; nothing is added to it. Templates
that write today's date (Llama 3.2, gpt_oss) are given `DATE` instead: the same question must be the same prompt tomorrow.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from persona_interp.characters import check_characters
from persona_interp.errors import InvalidInputError, UnsupportedError
from persona_interp.models.chat_template import ChatTemplate, any_of
from persona_interp.models.next_turn import first_id_behind, next_turn, settled
from persona_interp.models.thoughts import begins_with_thought
from persona_interp.progress import say
from persona_interp.traits.conversation import Conversation

TEXT_ENDS = ("<|endoftext|>", "<|end_of_text|>", "<|eom_id|>", "<eos>")
"""Added tokens behind which a model has nothing more to say, whether or not its files say that they end answers.

``</s>`` is not among them: where it ends a text it is the tokenizer's eos, and in Gemma it closes a tag of HTML.
"""
_PRIVATE_USE = range(0xE000, 0xF8FF)


@dataclass(frozen=True)
class TokenisedAnswer:
    """One row: the ids of a prompt and of the answer behind it.

    Attributes:
        ids: prompt ids, then answer ids; the end-of-turn id is the last of them where the answer ended.
        n_prompt: how many of `ids` are the prompt.

    Raises:
        InvalidInputError: `n_prompt` does not lie within `ids`.
    """

    ids: tuple[int, ...]
    n_prompt: int

    def __post_init__(self) -> None:
        if not 0 <= self.n_prompt <= len(self.ids):
            raise InvalidInputError(f"n_prompt is {self.n_prompt}, but there are {len(self.ids)} ids: give 0 to {len(self.ids)}")

    @property
    def prompt_ids(self) -> tuple[int, ...]:
        """The first `n_prompt` ids."""
        return self.ids[: self.n_prompt]

    @property
    def answer_ids(self) -> tuple[int, ...]:
        """The ids behind the prompt."""
        return self.ids[self.n_prompt :]

    @property
    def fed(self) -> tuple[int, ...]:
        """The ids that pass through the model: all but the last of the answer, as while generating."""
        return self.ids[:-1] if self.answer_ids else self.ids


class ChatFormat:
    """Turns conversations into the exact ids a model was trained on, and ids back into text.

    Example:
        >>> chat = ChatFormat(tokenizer)
        >>> row = chat.tokenise(Conversation.ask("Hi?", system="Be silly."), "Hello!")
        >>> tokenizer.decode(row.answer_ids)
        'Hello!<|im_end|>'

    Args:
        tokenizer: a Hugging Face tokenizer. A fast one gives exact spans; a slow one (no offsets) is served by the longest
            common prefix of prompt and whole text, which can leave prompt tokens next to the seam to the answer.
        generation_config: the model's, whose ``eos_token_id`` (one or several) also end an answer.

    Raises:
        UnsupportedError: another library's tokenizer, such as mistral-common's.
        FileFormatError: a chat template that cannot be rendered, or several without a default.

    Attributes:
        plain: True where the tokenizer has no chat template and `PLAIN_TEMPLATE` is used.
        folds_system: True where system texts go to the head of the first user turn.
        end_ids: ids that end an answer: the tokenizer's eos, the template's end of turn, those of `generation_config`, and the
            added tokens whose names say that a text ends (`TEXT_ENDS`).
    """

    def __init__(self, tokenizer: Any, generation_config: Any = None) -> None:
        self.tokenizer = tokenizer
        added = getattr(tokenizer, "added_tokens_decoder", {})
        if not isinstance(added, Mapping):
            raise UnsupportedError(
                f"a {type(tokenizer).__name__} is no Hugging Face tokenizer, whose spans and special tokens are needed: load it "
                "with AutoTokenizer.from_pretrained(..., mistral_format=False)"
            )
        self._special: dict[str, int] = {token.content: index for index, token in added.items() if token.special}
        self._added: dict[str, int] = {token.content: index for index, token in added.items() if not token.content.isspace()}
        self._special_text = any_of(self._special)
        self._template = ChatTemplate(tokenizer, self._added)
        self.plain = self._template.plain
        self.folds_system = not self._template.takes_system
        self.end_ids = self._collect_end_ids(generation_config)
        self._noted_thoughts = False

    def prompt_text(self, conversation: Conversation) -> str:
        """The rendered prompt, up to where an answer begins."""
        text, _ = self._unmark(*self._marked_prompt(conversation))
        return text

    def prompt_ids(self, conversation: Conversation) -> list[int]:
        """The ids to generate from.

        Raises:
            InvalidInputError: the template refuses the conversation, for example two user turns in a row.
        """
        text, literal = self._unmark(*self._marked_prompt(conversation))
        return self._encode(text, literal)[0]

    def tokenise(self, conversation: Conversation, answer: str) -> TokenisedAnswer:
        """The ids of prompt, answer and end of turn, from one tokenisation of the whole text.

        An empty answer leaves the end-of-turn id alone. `answer` is used as it is, leading whitespace included; whitespace that
        the template puts before answers (the space behind ``Assistant:``) is added where the answer does not bring its own.

        Raises:
            InvalidInputError: as `prompt_ids`, or half of a character in `answer`.
            UnsupportedError: a slow tokenizer met text that looks like a special token.
        """
        check_characters(answer, "the answer")
        prompt, mark = self._marked_prompt(conversation, answer)
        seam = len(prompt.replace(mark, ""))
        separator = self._template.separator if answer[:1].strip() else ""
        whole = prompt + separator + self._mark(answer, mark) + self._template.ending
        text, literal = self._unmark(whole, mark)
        ids, ends = self._encode(text, literal)
        if ends is not None:
            n_prompt = next((index for index, end in enumerate(ends) if end > seam), len(ids))
        else:
            n_prompt = _common_prefix(self._encode(text[:seam], set())[0], ids)
        return TokenisedAnswer(ids=tuple(ids), n_prompt=n_prompt)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of an answer: special and end ids left out, and whitespace `tokenise` would add before it too."""
        kept = list(ids)
        while kept and kept[-1] in self.end_ids:
            kept.pop()
        text = self.tokenizer.decode(kept, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        bare = text.removeprefix(self._template.separator)
        return bare if bare[:1].strip() else text

    def spoken(self, ids: Sequence[int], *, whole: bool = True) -> str:
        """What a generated answer says: `decode`, under the plain layout up to where the next turn begins.

        Args:
            ids: those generated, up to the end id.
            whole: False: more may follow, and an end that may yet become the next turn is held back.
        """
        text = self.decode(ids)
        if not self.plain:
            return text
        cut = next_turn(text)
        if cut is None:
            cut = len(text) if whole else settled(text)
        return text[:cut]

    def end_of(self, ids: Sequence[int]) -> int | None:
        """The place of the id that ends a generated answer: an end id, or the first that is all the next turn's; else None."""
        end = next((place for place, token in enumerate(ids) if token in self.end_ids), None)
        said = ids if end is None else ids[:end]
        if not self.plain or (cut := next_turn(self.decode(said))) is None:
            return end
        return first_id_behind(said, cut, self.decode)

    def completes_turn(self, ids: Sequence[int]) -> bool:
        """Whether the newest of these ids completes what begins the next turn: the answer was over before."""
        if not self.plain or ":" not in self.tokenizer.decode(ids[-1:]):
            return False
        return next_turn(self.decode(ids)) is not None

    def note_thoughts(self, answers: Iterable[str]) -> None:
        """Say it, once, where generated answers begin with a thought that the template neither opened nor closed."""
        if not self._noted_thoughts and any(map(begins_with_thought, answers)):
            self._noted_thoughts = True
            name = getattr(self.tokenizer, "name_or_path", "") or "this model"
            say(
                f"note: answers of {name} begin with a train of thought, "
                "which judges and vectors then read too: give its tokenizer a chat template that puts an empty one in front"
            )

    def _collect_end_ids(self, generation_config: Any) -> frozenset[int]:
        ends: set[int] = set()
        configured = getattr(generation_config, "eos_token_id", None)
        for value in (getattr(self.tokenizer, "eos_token_id", None), configured):
            if value is not None:
                ends.update([value] if isinstance(value, int) else value)
        match = any_of(self._added).search(self._template.ending)
        if match:
            ends.add(self._added[match.group()])
        return frozenset(ends | {self._added[name] for name in TEXT_ENDS if name in self._added})

    def _messages(self, conversation: Conversation) -> list[dict[str, str]]:
        messages = conversation.to_json()
        if self.folds_system and conversation.system is not None:
            messages = messages[1:]
            first = next(message for message in messages if message["role"] == "user")
            first["content"] = f"{conversation.system}\n\n{first['content']}"
        return messages

    def _marked_prompt(self, conversation: Conversation, answer: str = "") -> tuple[str, str]:
        """The rendered prompt with a mark before everything that only looks like a special token, and that mark."""
        messages = self._messages(conversation)
        contents = "".join(message["content"] for message in messages) + answer
        mark = next(chr(code) for code in _PRIVATE_USE if chr(code) not in contents)
        marked = [{**message, "content": self._mark(message["content"], mark)} for message in messages]
        return self._template.prompt(marked), mark

    # -- special tokens and text that looks like them -----------------------------------------------------------------

    def _mark(self, text: str, mark: str) -> str:
        return self._special_text.sub(lambda match: mark + match.group(), text)

    @staticmethod
    def _unmark(marked: str, mark: str) -> tuple[str, set[int]]:
        """The text without marks, and the characters at which marked stretches begin."""
        starts = {match.start() - index for index, match in enumerate(re.finditer(re.escape(mark), marked))}
        return marked.replace(mark, ""), starts

    def _encode(self, text: str, literal: set[int]) -> tuple[list[int], list[int] | None]:
        """Ids, and the character each token ends at (None from a slow tokenizer). Tokens found at `literal` become text."""
        if not getattr(self.tokenizer, "is_fast", False):
            if literal:
                raise UnsupportedError(
                    "a prompt or answer contains text that looks like a special token, which a slow tokenizer cannot keep as "
                    "text: load the tokenizer as a fast one, or take that text out"
                )
            return list(self.tokenizer(text, add_special_tokens=False)["input_ids"]), None
        encoded = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        specials = set(self._special.values())
        ids: list[int] = []
        ends: list[int] = []
        for index, (start, end) in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True):
            if index in specials and any(start <= place < end for place in literal):
                pieces = self._encode_as_text(text[start:end])
                ids.extend(pieces["input_ids"])
                ends.extend(start + piece_end for _, piece_end in pieces["offset_mapping"])
            else:
                ids.append(index)
                ends.append(end)
        return ids, ends

    def _encode_as_text(self, text: str) -> Mapping[str, Any]:
        return self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, split_special_tokens=True)


def _common_prefix(first: Sequence[int], second: Sequence[int]) -> int:
    length = 0
    for left, right in zip(first, second, strict=False):
        if left != right:
            break
        length += 1
    return length
