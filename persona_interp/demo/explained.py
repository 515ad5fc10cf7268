"""A few sentences to each picture: what a visitor is looking at."""

from __future__ import annotations

from html import escape

TOKENS = (
    "Each answer is cut into the pieces the model writes (tokens). The number under a token says how far the model's "
    "inner state, its residual stream, points along the vector while it reads that token; the colour says the same. "
    "Vermilion words are where the model is most in the trait's direction, blue ones least. What steering adds is "
    "taken off first, so that what you see is how the rest of the model follows."
)
LAYERS = (
    "A model works in layers, one after the other; the vector can be added after any of them, and some take it better"
    " than others. The darker a cell, the better steering works there (★: best). Cells without a colour were not "
    "tried. Press a cell to steer at that layer."
)
DOSE = (
    "The dose says how large what is added is against what is there: 0.3 adds a vector a third as long as the model's"
    " inner state at that layer. Negative doses turn the trait round. The green band is where answers stayed coherent"
    " when they were tried."
)
DRIFT = (
    "Each point is one answer of the conversation: how far it points along the vector on average, the steered answers"
    " and those of the same conversation without steering. A steered line that climbs says that the persona grows "
    "from turn to turn."
)
PARTS = (
    "Each panel goes through the layers of the model. The length of the vector against that of the residual stream "
    "says how large a dose of coefficient 1 would be; the separation (AUROC) how well answers with and without the "
    "trait are told apart there, 0.5 being chance; where layers were scored, how well steering works at each."
)
CARRIED = (
    "Two models do not share a basis, so a vector of one means nothing in the other. Both read the same texts, a map "
    "is fitted from what they make of them, and the vector is sent through it. Support says how much of the vector "
    "such texts can be expected to carry; doubts are what speaks against the result."
)


def what(words: str, title: str = "What am I looking at?") -> str:
    """The words behind a line that opens them."""
    return f'<details class="pi-what"><summary>{escape(title)}</summary><p>{escape(words)}</p></details>'
