"""The tokenizer inside a GGUF file, with as much of a Hugging Face tokenizer's face as `ChatFormat` and the judges look at."""

from __future__ import annotations

import ctypes
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from persona_interp.characters import check_characters
from persona_interp.errors import UnsupportedError
from persona_interp.models.engines.llama_cpp.library import llama_cpp
from persona_interp.models.gguf_file import stated_ends

_CONTROL, _USER_DEFINED = 8, 16  # llama.cpp's attributes of tokens
_SENTENCEPIECE = 1
_LONGEST_PIECE = 4096


@dataclass(frozen=True)
class AddedToken:
    """A token that texts cannot spell: `special` ones are left out when an answer is decoded."""

    content: str
    special: bool


class LlamaTokenizer:
    """Tokenises by llama.cpp itself, so that ids are those the model is given everywhere else that runs llama.cpp.

    Args:
        vocab: llama.cpp's handle; it must outlive this object.
        metadata: of the GGUF file.
        name: of the model, for messages.

    Attributes:
        is_fast: True: character spans of tokens are known.
        chat_template: the file's, those by name where it has several and none is the default; None if it has none.
        end_ids: at which the file says that a text, a turn or a message ends.
        bos_token_id: None where the file names none; llama.cpp then makes one up, which nothing here uses.
    """

    is_fast = True

    def __init__(self, vocab: Any, metadata: Mapping[str, Any], name: str) -> None:
        self._library, self._vocab, self.name_or_path = llama_cpp(), vocab, name
        self._n_tokens = int(self._library.llama_vocab_n_tokens(vocab))
        self._texts: list[str] = list(metadata["tokenizer.ggml.tokens"])
        self._pieces: dict[int, bytes] = {}
        self._sentencepiece = self._library.llama_vocab_type(vocab) == _SENTENCEPIECE
        self.chat_template: str | Mapping[str, str] | None = _chat_template(metadata)
        self.bos_token_id = self._id(metadata, "tokenizer.ggml.bos_token_id")
        self.eos_token_id = self._id(metadata, "tokenizer.ggml.eos_token_id")
        self.pad_token_id = self._id(metadata, "tokenizer.ggml.padding_token_id")
        self.end_ids = stated_ends(metadata)

    def __len__(self) -> int:
        return self._n_tokens

    @property
    def bos_token(self) -> str | None:
        """Its text."""
        return None if self.bos_token_id is None else self._texts[self.bos_token_id]

    @property
    def eos_token(self) -> str | None:
        """Its text."""
        return None if self.eos_token_id is None else self._texts[self.eos_token_id]

    @cached_property
    def added_tokens_decoder(self) -> dict[int, AddedToken]:
        """Control tokens (special) and those a user defined, by id."""
        found: dict[int, AddedToken] = {}
        for index in range(self._n_tokens):
            attributes = self._library.llama_vocab_get_attr(self._vocab, index)
            if attributes & (_CONTROL | _USER_DEFINED):
                found[index] = AddedToken(self._texts[index], bool(attributes & _CONTROL))
        return found

    @property
    def all_special_ids(self) -> list[int]:
        """Ids of control tokens."""
        return [index for index, token in self.added_tokens_decoder.items() if token.special]

    def get_vocab(self) -> dict[str, int]:
        """Raw token text (spaces and bytes in their stand-ins) to id."""
        return {text: index for index, text in enumerate(self._texts)}

    def get_chat_template(self) -> str:
        """The file's own template.

        Raises:
            UnsupportedError: it has none, or several of which none is the default.
        """
        if not isinstance(self.chat_template, str):
            raise UnsupportedError(f"{self.name_or_path} has no chat template of its own: give texts instead of conversations")
        return self.chat_template

    def apply_chat_template(
        self, messages: Sequence[Mapping[str, str]], *, tokenize: bool = False, chat_template: str | None = None, **settings: Any
    ) -> str:
        """The text of a conversation, rendered as Hugging Face tokenizers do; `settings` are variables of the template."""
        from transformers.utils.chat_template_utils import render_jinja_template

        if tokenize:
            raise UnsupportedError("a GGUF tokenizer renders text only: call it with tokenize=False, then tokenise the text")
        names = {"bos_token": self.bos_token, "eos_token": self.eos_token}
        known = {name: text for name, text in names.items() if text is not None}
        template = chat_template or self.get_chat_template()
        rendered: Any = render_jinja_template([[dict(m) for m in messages]], chat_template=template, **{**known, **settings})
        return rendered[0][0]

    def __call__(
        self,
        text: str,
        *,
        add_special_tokens: bool = True,
        return_offsets_mapping: bool = False,
        split_special_tokens: bool = False,
    ) -> dict[str, list[Any]]:
        """Ids, and with `return_offsets_mapping` the characters each token spans.

        Raises:
            InvalidInputError: half of a character in `text`.
            UnsupportedError: spans are asked for, but the tokenizer rewrites this text, so that tokens do not spell it.
        """
        raw = check_characters(text, "the text").encode()
        ids = self._tokenise(raw, add_special=add_special_tokens, parse_special=not split_special_tokens)
        encoding: dict[str, list[Any]] = {"input_ids": ids}
        if return_offsets_mapping:
            encoding["offset_mapping"] = self._spans(text, raw, ids)
        return encoding

    def decode(self, ids: Iterable[int], *, skip_special_tokens: bool = False, clean_up_tokenization_spaces: bool = False) -> str:
        """The text of `ids`; bytes that are no UTF-8 become U+FFFD. Spaces are never cleaned up."""
        special = set(self.all_special_ids) if skip_special_tokens else set[int]()
        text = b"".join(self._piece(index) for index in map(int, ids) if index not in special).decode("utf-8", "replace")
        return text.removeprefix(" ") if self._sentencepiece else text

    def _tokenise(self, raw: bytes, *, add_special: bool, parse_special: bool) -> list[int]:
        room = len(raw) + 8
        while True:
            ids = (self._library.llama_token * room)()
            count = self._library.llama_tokenize(self._vocab, raw, len(raw), ids, room, add_special, parse_special)
            if count >= 0:
                return list(ids[:count])
            room = -count

    def _piece(self, index: int) -> bytes:
        if index not in self._pieces:
            buffer = ctypes.create_string_buffer(_LONGEST_PIECE)
            length = self._library.llama_token_to_piece(self._vocab, index, buffer, _LONGEST_PIECE, 0, True)
            self._pieces[index] = buffer.raw[: max(0, length)]
        return self._pieces[index]

    def _spans(self, text: str, raw: bytes, ids: Sequence[int]) -> list[tuple[int, int]]:
        starts = [0]  # of each character, in bytes
        for character in text:
            starts.append(starts[-1] + len(character.encode()))
        spans: list[tuple[int, int]] = []
        at = 0
        for place, index in enumerate(ids):
            end = self._end_of(self._piece(index), raw, at)
            if end is None:
                if place == 0 and index == self.bos_token_id:
                    spans.append((0, 0))  # put in front by the tokenizer itself
                    continue
                raise UnsupportedError(
                    f"the tokenizer of {self.name_or_path} rewrites {text[:40]!r}, so where its tokens lie is not known: "
                    "use a text without unusual characters"
                )
            # a character that several tokens share belongs to each of them
            spans.append((bisect_right(starts, at) - 1 if end > at else bisect_left(starts, at), bisect_left(starts, end)))
            at = end
        return spans

    def _end_of(self, piece: bytes, raw: bytes, at: int) -> int | None:
        """Where a token ends that begins at byte `at`; SentencePiece puts spaces in front that are not in the text."""
        if raw.startswith(piece, at):
            return at + len(piece)
        bare = piece.removeprefix(b" ")
        return at + len(bare) if self._sentencepiece and raw.startswith(bare, at) else None

    def _id(self, metadata: Mapping[str, Any], key: str) -> int | None:
        value = metadata.get(key)
        return int(value) if isinstance(value, int) and 0 <= value < self._n_tokens else None


def _chat_template(metadata: Mapping[str, Any]) -> str | Mapping[str, str] | None:
    """The template of a file that has one, or names one its default; else its templates by name."""
    prefix = "tokenizer.chat_template"
    named = {key.removeprefix(f"{prefix}."): value for key, value in metadata.items() if key.startswith(f"{prefix}.")}
    return metadata.get(prefix) or named.get("default") or named or None
