"""What each token of a vocabulary spells inside a text, so that tokens of different vocabularies can be told to be the same."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from persona_interp.errors import FileFormatError, UnsupportedError
from persona_interp.models.gguf_file import is_gguf
from persona_interp.models.gguf_pieces import read_model_header

_BROKEN = "�"  # what is decoded from bytes that are part of a character


class TokenTexts:
    """The text of every token that spells whole characters, its spaces included. Special and added tokens spell none.

    A token is decoded behind another one, because some tokenizers drop the space a text begins with.

    Args:
        tokenizer: a Hugging Face tokenizer, or a `LlamaTokenizer`.
        name: of whose it is, for messages; None: what the tokenizer says.

    Attributes:
        by_id: token id -> text.

    Raises:
        UnsupportedError: no token of it is a plain word.
    """

    def __init__(self, tokenizer: Any, name: str | None = None) -> None:
        self.name = name or str(getattr(tokenizer, "name_or_path", "")) or "this tokenizer"
        self.by_id = _texts(tokenizer, self.name)

    @cached_property
    def ids(self) -> dict[str, tuple[int, ...]]:
        """Text -> ids of the tokens that spell it, nearly always one."""
        found: dict[str, list[int]] = {}
        for index, text in self.by_id.items():
            found.setdefault(text, []).append(index)
        return {text: tuple(indices) for text, indices in found.items()}


def read_token_texts(path: str | Path) -> TokenTexts:
    """The token texts of a tokenizer's folder, or of a GGUF file, of which no weights are loaded.

    Raises:
        FileFormatError: there is no such folder or file, or no tokenizer in it.
        MissingExtraError: a GGUF file without the extra ``gguf``.
    """
    from persona_interp.models.loading import LoadOptions, load_tokenizer

    place = Path(path).expanduser()
    if place.is_dir():
        return TokenTexts(load_tokenizer(str(place), LoadOptions(), shipped=()), place.name)
    if not place.is_file() or not is_gguf(place):
        what = "is no GGUF file" if place.is_file() else "does not exist"
        raise FileFormatError(f"tokenizer {path} {what}: give the folder of a tokenizer, or a GGUF file, which brings its own")
    return _of_gguf(place)


def _of_gguf(path: Path) -> TokenTexts:
    from persona_interp.models.engines.llama_cpp.session import LlamaWeights
    from persona_interp.models.engines.llama_cpp.tokenizer import LlamaTokenizer

    header = read_model_header(path)
    header.required("tokenizer.ggml.tokens", list)
    weights = LlamaWeights(path, vocab_only=True)
    try:
        return TokenTexts(LlamaTokenizer(weights.vocab, header.metadata, path.stem))
    finally:
        weights.close()


def _texts(tokenizer: Any, name: str) -> dict[int, str]:
    left_out = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    known = [index for index in sorted(tokenizer.get_vocab().values()) if index not in left_out]

    def decode(*ids: int) -> str:
        return tokenizer.decode(list(ids), clean_up_tokenization_spaces=False)

    for anchor in known:
        before = decode(anchor)
        if before.isascii() and before.isalpha():
            break
    else:
        raise UnsupportedError(f"{name} has no token that is a plain word, so what its tokens spell cannot be told: use another")
    texts = {index: decode(anchor, index).removeprefix(before) for index in known}
    return {index: text for index, text in texts.items() if text and _BROKEN not in text}
