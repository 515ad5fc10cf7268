"""What runs a model. A `SteerableModel` is a tokenizer and an `Engine`, and asks this much of it and no more."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from persona_interp.errors import UnsupportedError
from persona_interp.interventions.compile.readout import Captured
from persona_interp.interventions.graph import InterventionGraph
from persona_interp.models.chat import TokenisedAnswer
from persona_interp.models.continuations import Walker
from persona_interp.models.engines.capabilities import Capabilities
from persona_interp.models.sampling import Sampling


@dataclass(frozen=True)
class Step:
    """One token of some rows of a batch, just drawn.

    Attributes:
        rows: their places in the batch.
        draw: gives the tokens; asked at most once, and only where somebody wants to know.
        captured: gives what the captures have read of a row so far: of all but this token, which has not passed yet.
    """

    rows: Sequence[int]
    draw: Callable[[], Sequence[int]]
    captured: Callable[[int], Captured]

    @cached_property
    def tokens(self) -> Sequence[int]:
        """One a row."""
        return self.draw()


OnStep: TypeAlias = Callable[[Step], Sequence[bool]]
"""Told each step. Answers which of its rows are over though no end id says so; nothing where none is. What it raises ends the
generation and reaches the caller."""


@dataclass(frozen=True)
class Answered:
    """What became of one prompt.

    Attributes:
        ids: the answer, up to its first end id; one that a step callback called over may go on behind that.
        captured: what was read meanwhile. The last token never passes through the model, so it is not read.
    """

    ids: Sequence[int]
    captured: Captured = field(default_factory=dict)


@dataclass(frozen=True)
class ModelConfig:
    """The shape of a model under the names of a Hugging Face config, for engines whose models come without one."""

    model_type: str
    name_or_path: str
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    max_position_embeddings: int
    vocab_size: int
    organism: str | None = None
    called: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())

    def get_text_config(self, decoder: bool = True) -> ModelConfig:
        """Itself: there are no other senses in it."""
        return self


class Engine(ABC):
    """Runs token ids through one model while the writes of a graph are applied and its captures read.

    Rows are lists of ids of any lengths; how they are padded, batched further or drawn from is the engine's own business. What
    comes back is plain values on the CPU. A row's results depend on nothing but the row, up to the rounding of the dtype: not on
    its neighbours, nor on pads, which are never steered or read. Nothing stays attached, also after an error.

    Graphs have been checked against `capabilities` (by `engines.registry.check`) and the model's shape, and rows fit into the
    context. An engine need not have the methods of what it says it cannot do. A new one is asked to pass the contract in
    ``tests/models/engines``; `register_engine` makes it known.

    Attributes:
        name: how errors call the model.
        capabilities: what it can do.
        config: of Hugging Face, or a `ModelConfig`.
        n_layers: blocks.
        n_ctx: tokens a text may have, prompt and answer together.
        file_fingerprint: of the file the weights came from, where several forms of them belong together by it.
        packs_rows: it batches rows itself, as their lengths and its memory allow, and runs best with many at a time.
    """

    name: str
    capabilities: Capabilities
    config: Any
    n_layers: int
    n_ctx: int
    file_fingerprint: str | None = None
    packs_rows: bool = False

    @property
    @abstractmethod
    def dtype(self) -> torch.dtype:
        """Of the weights."""

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where token ids go."""

    @property
    def runs_here(self) -> bool:
        """Whether `device` is what computes, and its memory the one that matters."""
        return True

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Of the weights: equal for equal ones."""

    @abstractmethod
    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        graph: InterventionGraph,
        sampling: Sampling,
        seeds: Sequence[int],
        *,
        end_ids: frozenset[int],
        on_step: OnStep | None = None,
    ) -> list[Answered]:
        """Answer each prompt; the draws of a row depend on its seed alone, number s of them on s and the seed."""

    def next_logits(self, prompts: Sequence[Sequence[int]], graph: InterventionGraph) -> Float[Tensor, "batch vocab"]:
        """The logits of the token behind each prompt, float32."""
        raise self._cannot("give the logits of a next token")

    def capture(self, rows: Sequence[TokenisedAnswer], graph: InterventionGraph) -> list[Captured]:
        """What the captures of `graph` read of given texts, without their last answer tokens (`TokenisedAnswer.fed`)."""
        raise self._cannot("read residuals of texts")

    def log_probs(
        self, rows: Sequence[TokenisedAnswer], graphs: Sequence[InterventionGraph]
    ) -> list[list[Float[Tensor, " n_answer"]]]:
        """For each graph the log probability of every answer token of each row, float32.

        Logits are made where answers are, and where they are many not all at once.
        """
        raise self._cannot("give log probabilities")

    def gradient(
        self, rows: Sequence[TokenisedAnswer], layers: Sequence[int], weights: Sequence[Float[Tensor, " _"]]
    ) -> Float[Tensor, "batch layer d_model"]:
        """How the log probabilities of each row's answer, times `weights` and added up, change with what is added at each layer.

        Added to every token of the row, at 0; float32.
        """
        raise self._cannot("take gradients")

    def unembed(self, resid: Float[Tensor, "row d_model"]) -> Float[Tensor, "row vocab"]:
        """What the final norm and the unembedding make of residuals, float32."""
        raise self._cannot("unembed residuals")

    def walks(self, longest: int) -> bool:
        """Whether continuations of prompts of up to `longest` tokens, pads included, can be walked over kept keys and values."""
        return False

    def walking(self, shared: Sequence[int], likely: Sequence[tuple[int, ...]], longest: int) -> AbstractContextManager[Walker]:
        """What walks the continuations of prompts, unsteered, while the block lasts; asked for only where `walks` says so.

        Args:
            shared: tokens all prompts begin with, run once.
            likely: paths that will probably be asked for behind every prompt, each behind those it grows on.
            longest: tokens of the longest prompt, these included.
        """
        raise self._cannot("walk continuations over a cache")

    def _cannot(self, what: str) -> UnsupportedError:
        """What an engine says that lacks a method, should it be asked all the same."""
        return UnsupportedError(f"{self.name} cannot {what}: its engine has no such method; see its capabilities")

    def close(self) -> None:  # noqa: B027  (most hold nothing)
        """Free what is held outside Python. Twice does no harm."""
