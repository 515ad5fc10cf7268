"""The probability that a model's next words open with a given whole number, whatever pieces its tokenizer cuts numbers into.

A tokenizer may have one token for ``85`` (GPT-2, Llama 3), or write it digit by digit (Qwen, Mistral). So the numbers 0 to 100
form a tree whose edges are tokens; the probability of 85 is that of every path spelling it, times the probability that no
further digit follows. One first token that is white space alone is walked through.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from persona_interp.models.steerable import SteerableModel

NUMBERS = frozenset(str(number) for number in range(101))
_ENDINGS = frozenset(number[start:] for number in NUMBERS for start in range(len(number)))
_TOKEN = re.compile(r"(?P<space>[▁ĠĊĉ\s]*)(?P<digits>[0-9]*)(?P<tail>.*)", re.DOTALL)

DEPTH = 4
"""Tokens of the longest path: white space and three digits."""


@dataclass(frozen=True)
class _Piece:
    """A token that can stand in a number: what digits it adds, whether it may only open one, whether something ends it."""

    index: int
    digits: str
    opens: bool
    ends: bool


@dataclass(frozen=True)
class _Node:
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
        self._likely = self._single_digits()

    def _single_digits(self) -> list[tuple[int, ...]]:
        """Paths of the single digits and of 10, for tokenizers in which every other number begins with one of them; else none."""
        plain = {piece.digits: piece.index for piece in self._pieces if piece.digits and not (piece.opens or piece.ends)}
        if any(len(digits) > 1 for digits in plain) or len(plain) < 10:
            return []
        return [*((plain[str(digit)],) for digit in range(10)), (plain["1"], plain["0"])]

    def probabilities(
        self, prompts: Sequence[Sequence[int]], model: SteerableModel, *, batch_size: int | None = None
    ) -> list[dict[int, float]]:
        """For each prompt, number -> probability that the continuation opens with exactly it; improbable ones may be absent.

        Raises:
            PersonaInterpError: as `SteerableModel.walk`.
        """
        found: list[dict[int, float]] = [{} for _ in prompts]
        nodes: dict[tuple[int, tuple[int, ...]], _Node] = {}

        def grow(row: int, path: tuple[int, ...], logits: Float[Tensor, " vocab"]) -> list[int]:
            if not path:  # the first time, or anew
                found[row], nodes[row, path] = defaultdict(float), _Node("", 1.0)
            # double precision: masses are products, and their ratio is the score
            children = self._visit(nodes[row, path], bool(path), torch.softmax(logits.double(), dim=-1), found[row])
            nodes.update({(row, (*path, token)): node for token, node in children.items()})
            return list(children)

        model.walk(prompts, grow, depth=DEPTH, likely=self._likely, batch_size=batch_size)
        return [dict(numbers) for numbers in found]

    def _visit(self, node: _Node, begun: bool, p: Float[Tensor, " vocab"], found: dict[int, float]) -> dict[int, _Node]:
        if node.number:
            found[int(node.number)] += node.mass * max(0.0, 1.0 - float(p[self._going_on].sum()))
        children: dict[int, _Node] = {}
        for piece, probability in zip(self._pieces, p[self._indices].tolist(), strict=True):
            number = node.number + piece.digits
            if (node.number and (piece.opens or not piece.digits)) or (piece.digits and number not in NUMBERS):
                continue
            mass = node.mass * probability
            if mass <= self.tolerance:
                continue
            if piece.ends:
                found[int(number)] += mass
            elif piece.digits or not begun:
                children[piece.index] = _Node(number, mass)
        return children
