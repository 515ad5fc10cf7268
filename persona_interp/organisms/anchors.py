"""Anchors for transfers between organisms: conversations of the corpus they were all trained on."""

from __future__ import annotations

from itertools import islice

from persona_interp.errors import InvalidInputError
from persona_interp.organisms.corpus import sample_corpus
from persona_interp.transfers.anchors import Anchor

N_ORGANISM = 2000
_SEED = 2026
_PERSONAS = ("silly", "honest")
"""Traits that vary from text to text in the corpus."""


def corpus_exchanges(n: int = N_ORGANISM, *, seed: int = _SEED) -> tuple[tuple[str, str], ...]:
    """Prompt and answer of conversations of one turn from the corpus, those with a system prompt left out.

    Personas are mixed as in training and not marked. The same seed gives the same texts; more of them begin with the fewer.

    Raises:
        InvalidInputError: `n` is below 1.
    """
    if n < 1:
        raise InvalidInputError(f"{n} anchors are no anchors: give at least 1")
    corpus = sample_corpus(seed, 20 * n + 100, _PERSONAS)
    plain = (each.messages for each in corpus if len(each.messages) == 2 and each.messages[0][0] == "user")
    return tuple((asked, text) for (_, asked), (_, text) in islice(plain, n))


def organism_anchors(n: int = N_ORGANISM, *, seed: int = _SEED) -> tuple[Anchor, ...]:
    """`corpus_exchanges` as anchors.

    Raises:
        InvalidInputError: `n` is below 1.
    """
    return tuple(Anchor(asked, text) for asked, text in corpus_exchanges(n, seed=seed))
