"""Words of a text, and whether they are English: word lists that know English alone say nothing of another language."""

from __future__ import annotations

import re

_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
_SENTENCE = re.compile(r"[^.!?]*[^\W_][^.!?]*[.!?]*")
_COMMON_WORDS = (
    "the of and to is that it for you are with this be have from or by but what all were when we there can your which their if "
    "will how about then she they would has more these could my been who its now people than made may over did down only way "
    "find use water very just our out up do not on as at his her he i a an in was so some like me make because don't it's i'm "
    "you're that's isn't can't"
)
_COMMON = frozenset(_COMMON_WORDS.split())
"""The commonest words of English (about half of any English text), of our own choosing. Some also occur in other languages."""
_SHARE = 0.2
_FEWEST = 8
"""Words from which on the share of common ones says something."""


def word_list(text: str) -> list[str]:
    """The words in small letters: letters of any script, with apostrophes inside."""
    return [word.casefold().replace("’", "'") for word in _WORD.findall(text)]


def sentence_list(text: str) -> list[str]:
    """The sentences, as full stops, exclamation and question marks part them; those without a letter or digit are left out."""
    return [found.strip() for found in _SENTENCE.findall(text)]


def seems_english(text: str) -> bool:
    """Whether at least a fifth of the words are among the commonest of English; of fewer than eight words, whether all are Latin.

    A list of names or invented words fails as another language does: word lists know neither.
    """
    words = word_list(text)
    if len(words) < _FEWEST:
        return all(letter.isascii() or letter in "éèêëàâäçîïôöûüñœæ'" for word in words for letter in word)
    return sum(word in _COMMON for word in words) >= _SHARE * len(words)
