"""The probability that a model's next words open with a given whole number, whatever pieces its tokenizer cuts numbers into.

A tokenizer may have one token for ``85`` (GPT-2, Llama 3), or write it digit by digit (Qwen, Mistral). So the numbers 0 to 100
form a tree whose edges are tokens; the probability of 85 is that of every path spelling it, times the probability that no
further digit follows. One first token that is white space alone is walked through.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

NUMBERS = frozenset(str(number) for number in range(101))
_ENDINGS = frozenset(number[start:] for number in NUMBERS for start in range(len(number)))
_TOKEN = re.compile(r"(?P<space>[▁ĠĊĉ\s]*)(?P<digits>[0-9]*)(?P<tail>.*)", re.DOTALL)

NextLogits = Callable[[Sequence[Sequence[int]]], Float[Tensor, "batch vocab"]]


@dataclass(frozen=True)
class _Piece:
    """A token that can stand in a number: what digits it adds, whether it may only open one, whether something ends it."""

    index: int
    digits: str
    opens: bool
    ends: bool


@dataclass(frozen=True)
class _Node:
    row: int
    path: tuple[int, ...]
    number: str
    mass: float


class NumberTree:
    """Scores the whole numbers 0 to 100 under a model's next-token distributions.

    Args:
        tokenizer: the model's; its raw tokens are read once.
        tolerance: branches less probable than this are left out of everything, which bounds the forwards. 0 is exact.
    """

    def __init__(self, tokenizer: Any, *, tolerance: float = 1e-3) -> None:
        self.tolerance = tolerance
        self._pieces: list[_Piece] = []
        going_on: list[int] = []
        special = {index for index, token in getattr(tokenizer, "added_tokens_decoder", {}).items() if token.special}
        for token, index in tokenizer.get_vocab().items():
            match = _TOKEN.fullmatch(token)
            if index in special or match is None or not (match["digits"] or (match["space"] and not match["tail"])):
                continue
            if match["digits"] and not match["space"]:
                going_on.append(index)
            if not match["digits"] or match["digits"] in _ENDINGS:
                self._pieces.append(_Piece(index, match["digits"], opens=bool(match["space"]), ends=bool(match["tail"])))
        self._indices = torch.tensor([piece.index for piece in self._pieces], dtype=torch.long)
        self._going_on = torch.tensor(going_on, dtype=torch.long)

    def probabilities(
        self, prompts: Sequence[Sequence[int]], next_logits: NextLogits, *, batch_size: int = 8
    ) -> list[dict[int, float]]:
        """For each prompt, number -> probability that the continuation opens with exactly it; improbable ones may be absent."""
        found: list[dict[int, float]] = [defaultdict(float) for _ in prompts]
        level = [_Node(row, (), "", 1.0) for row in range(len(prompts))]
        while level:
            deeper: list[_Node] = []
            for start in range(0, len(level), batch_size):
                nodes = level[start : start + batch_size]
                logits = next_logits([[*prompts[node.row], *node.path] for node in nodes])
                # double precision: masses are products, and their ratio is the score
                for node, p in zip(nodes, torch.softmax(logits.double().cpu(), dim=-1), strict=True):
                    deeper.extend(self._visit(node, p, found[node.row]))
            level = deeper
        return [dict(numbers) for numbers in found]

    def _visit(self, node: _Node, p: Float[Tensor, " vocab"], found: dict[int, float]) -> list[_Node]:
        if node.number:
            found[int(node.number)] += node.mass * max(0.0, 1.0 - float(p[self._going_on].sum()))
        children: list[_Node] = []
        for piece, probability in zip(self._pieces, p[self._indices].tolist(), strict=True):
            number = node.number + piece.digits
            if (node.number and (piece.opens or not piece.digits)) or (piece.digits and number not in NUMBERS):
                continue
            mass = node.mass * probability
            if mass <= self.tolerance:
                continue
            if piece.ends:
                found[int(number)] += mass
            elif piece.digits or not node.path:
                children.append(_Node(node.row, (*node.path, piece.index), number, mass))
        return children
