"""`SteerableModel`: a language model with named layers and four verbs, each of which takes an `InterventionGraph`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from persona_interp.errors import InvalidInputError
from persona_interp.interventions.graph import Capture, InterventionGraph
from persona_interp.models.batching import run_in_batches
from persona_interp.models.bridge import transformer_lens_bridge
from persona_interp.models.chat import ChatFormat, TokenisedAnswer
from persona_interp.models.engines.nnsight.engine import NnsightEngine, restart_layers
from persona_interp.models.engines.protocol import Engine
from persona_interp.models.families import text_config
from persona_interp.models.identity import ModelIdentity
from persona_interp.models.next_tokens import NOTHING, NextTokens
from persona_interp.models.reading import read
from persona_interp.models.results import AnswerLikelihood, Generation, drawn_answers
from persona_interp.models.sampling import Sampling, row_seeds
from persona_interp.models.standing import standing
from persona_interp.models.streaming import AnswerStream, OnCaptured, OnText
from persona_interp.models.texts import Asked, RawText, Read, scored_rows
from persona_interp.models.texts import conversations as as_conversations
from persona_interp.models.texts import rows as as_rows
from persona_interp.profiling import count_tokens
from persona_interp.progress import track


class SteerableModel(NextTokens):
    """A causal language model whose residual stream can be read and written: a tokenizer, and an `Engine` that runs it.

    The model given is not changed: whatever a verb sets is put back, also after an error. Calls from several threads take turns.
    Rows are batched by length; results come back in order and, up to the rounding of the dtype, do not depend on each other.

    Example:
        >>> model = load_model("organism-qwen2")
        >>> print(model.generate("How are you?")[0])
        >>> with model.steer(vector, ratio=0.4):
        ...     print(model.generate("How are you?")[0])

    Args:
        engine: a loaded Hugging Face model, which nnsight then runs, or any `Engine`.
        tokenizer: its tokenizer; not changed.
        name: how results call it.
        revision: of the hub repository it came from.
        remote: of a Hugging Face model: handed through to nnsight, True runs on NDIF.
        chat: how conversations become ids; None: as the tokenizer and the model's generation settings say.

    Raises:
        UnsupportedError: the architecture is not known or does not fit its layout.
        InvalidInputError: `remote` for another engine.
    """

    def __init__(
        self,
        engine: nn.Module | Engine,
        tokenizer: Any,
        *,
        name: str,
        revision: str | None = None,
        remote: bool | str = False,
        chat: ChatFormat | None = None,
    ) -> None:
        if isinstance(engine, nn.Module):
            chat = chat or ChatFormat(tokenizer, getattr(engine, "generation_config", None))  # before nnsight wraps the model
            engine = NnsightEngine(engine, tokenizer, remote=remote, name=name, revision=revision)
        elif remote:
            raise InvalidInputError(
                f"remote={remote!r} is of Hugging Face models, which nnsight runs; {name} brings its own engine"
            )
        self.engine, self.tokenizer, self.name, self.revision = engine, tokenizer, name, revision
        self.hf_model: Any = getattr(engine, "hf_model", None)
        self.layout: Any = getattr(engine, "layout", None)
        self.config, self.n_layers, self.n_ctx = engine.config, engine.n_layers, engine.n_ctx
        self.d_model = int(text_config(self.config).hidden_size)
        self.chat = chat or ChatFormat(tokenizer)

    @cached_property
    def identity(self) -> ModelIdentity:
        """Name, shape and fingerprint, as results record them. The fingerprint is taken once."""
        engine = self.engine
        return ModelIdentity(self.name, self.revision, engine.fingerprint, self.n_layers, self.d_model, engine.file_fingerprint)

    def __repr__(self) -> str:
        return f"SteerableModel({self.name!r}, n_layers={self.n_layers}, d_model={self.d_model}, {self.dtype}, {self.device})"

    def bridge(self) -> Any:
        """A ``TransformerBridge`` of TransformerLens over the same weights; see `models.bridge` for what it shares.

        A new one each time, so hooks left on one are not on the next. Texts are tokenised as TransformerLens does it, which may
        put a token in front: give it ids where that matters, for example those of `chat`.

        Example:
            >>> with transformer_lens_hooks(model.bridge(), vector.graph(1.5, layers=[12])) as bridge:
            ...     logits, cache = bridge.run_with_cache("How are you?")

        Raises:
            MissingExtraError: the extra ``lens`` is not installed, or does not fit the installed transformers.
            UnsupportedError: TransformerLens has no adapter for the architecture, or the weights are not on this machine.
        """
        self._check(NOTHING, 0, "module")
        return transformer_lens_bridge(self.hf_model, self.tokenizer, name=self.name)

    def steer(
        self, what: Any, coefficient: float | None = None, layers: Any = None, **options: Any
    ) -> AbstractContextManager[SteerableModel]:
        """Steer its verbs, and code on `hf_model`, for a ``with`` block: by a vector (`PersonaVector.steer`) or a graph."""
        if isinstance(what, InterventionGraph):
            return standing(self, what)
        return what.steer(self, coefficient, layers, **options)

    def generate(
        self,
        texts: Asked | Sequence[Asked],
        *,
        raw: bool = False,
        graph: InterventionGraph | None = None,
        sampling: Sampling | None = None,
        seed: int | Sequence[int] = 0,
        batch_size: int | None = None,
        on_generation: Callable[[int, Generation], None] | None = None,
        on_text: OnText | None = None,
        on_captured: OnCaptured | None = None,
    ) -> list[Generation]:
        """Answer each text, steered by the writes of `graph`, while its captures read the steered stream.

        Args:
            texts: a message, a chat, or several; see `models.texts`.
            raw: go on with strings as they are, without template and turns: for base models.
            graph: row i means text i.
            sampling: `Sampling()` if not given.
            seed: an int: row i draws from a stream derived from it and i; a sequence: one seed a row. A row's answer does not
                depend on the rows beside it, at any temperature.
            batch_size: rows at a time; None lets the model choose. Halved when memory runs out.
            on_generation: called with index and answer as soon as its batch is done, batches of long prompts first.
            on_text: called with index and the answer so far after each of its tokens (not from a remote model). An error it
                raises ends the generation and reaches the caller; nothing stays attached.
            on_captured: likewise with what the captures of `graph` have read so far.

        Raises:
            InvalidInputError: a prompt that does not fit into the context together with the new tokens; also as
                `InterventionGraph.check`.
        """
        sampling, graph, chat = sampling or Sampling(), graph or NOTHING, RawText(self.chat) if raw else self.chat
        conversations = as_conversations(texts)
        seeds = row_seeds(seed, len(conversations))
        self._check(graph, len(conversations))
        prompts = [tuple(chat.prompt_ids(conversation)) for conversation in conversations]
        self._check_lengths([len(prompt) for prompt in prompts], sampling.max_new_tokens)
        answers: list[Generation | None] = [None] * len(prompts)
        with track(len(prompts) * sampling.max_new_tokens, f"{self.name}: generating tokens") as bar:

            def run(rows: list[int]) -> None:
                done = bar.done
                stream = AnswerStream(rows, chat, bar.advance, on_text, on_captured, sampling.max_new_tokens)
                asked, part = [(conversations[row], prompts[row]) for row in rows], graph.for_rows(rows)
                count_tokens(read=sum(len(prompts[row]) for row in rows))
                answered = self.engine.generate(
                    [prompts[row] for row in rows],
                    part,
                    sampling,
                    [seeds[row] for row in rows],
                    end_ids=chat.end_ids,
                    on_step=stream.step,
                )
                found = drawn_answers(asked, answered, chat, part, self.capture)
                for row, answer in zip(rows, found, strict=True):
                    self._all_finite(answer.captured)
                    answers[row] = answer
                bar.to(done + len(rows) * sampling.max_new_tokens)
                if on_generation is not None:
                    for row, answer in zip(rows, found, strict=True):
                        on_generation(row, answer)

            lengths = [len(prompt) + sampling.max_new_tokens for prompt in prompts]
            room = self._rooms.generating(lengths)
            run_in_batches(lengths, run, batch_size=batch_size, what="generating", room=room)
        return [answer for answer in answers if answer is not None]

    def capture(
        self, texts: Read | Sequence[Read], graph: InterventionGraph, *, batch_size: int | None = None
    ) -> list[dict[Capture, Tensor]]:
        """Run texts through the model and read what the captures of `graph` name; its writes are applied too.

        The last answer id is left out, as while generating: capturing a generated answer again gives the same values.

        Returns:
            For each row the value of each `Capture`, on the CPU: float32 ``[layer d_model]`` (means, ``prompt_last``), of norms
            ``[layer 1]``, else ``[layer pos d_model]`` in the model's dtype. One that finds no position to read is absent there.

        Raises:
            InvalidInputError: `graph` captures nothing, or a text is longer than the context; also as `InterventionGraph.check`.
        """
        if not graph.captures:
            raise InvalidInputError("capture() was given a graph without a Capture node: add one, for example Capture('answer')")
        tokenised = as_rows(self.chat, texts)
        self._check(graph, len(tokenised))
        lengths = [len(row.fed) for row in tokenised]
        self._check_lengths(lengths, 0)
        results: list[dict[Capture, Tensor]] = [{} for _ in tokenised]
        with track(len(lengths), f"{self.name}: reading texts") as bar:

            def run(rows: list[int]) -> None:
                texts = self._texts(tokenised, rows)
                for row, captured in zip(rows, self.engine.capture(texts, graph.for_rows(rows)), strict=True):
                    results[row] = self._all_finite(captured)
                bar.advance(len(rows))

            room = self._rooms.capturing(graph.captures, self.n_layers)
            run_in_batches(lengths, run, batch_size=batch_size, what="reading", room=room)
        return results

    def read(
        self,
        texts: Read | Sequence[Read],
        layers: int | Sequence[int] | None = None,
        positions: str = "response_avg",
        *,
        graph: InterventionGraph | None = None,
        batch_size: int | None = None,
    ) -> Float[Tensor, "text layer d_model"] | Float[Tensor, "text pos layer d_model"]:
        """The residual stream at texts, float32 on the CPU; see `models.reading` for the arguments and shapes."""
        return read(self, texts, layers, positions, graph=graph, batch_size=batch_size)

    def log_likelihood(
        self, texts: Read | Sequence[Read], *, graph: InterventionGraph | None = None, batch_size: int | None = None
    ) -> list[AnswerLikelihood]:
        """The log probability of every answer token given the prompt and the answer so far, under the writes of `graph`.

        Captures of `graph` are not read. An empty answer has no tokens. The first token of text without roles is not scored.

        Raises:
            InvalidInputError: a row without prompt ids, or longer than the context; also as `InterventionGraph.check`.
        """
        return self.log_likelihoods(scored_rows(self.chat, texts), [graph or NOTHING], batch_size=batch_size)[0]

    def log_likelihoods(
        self, tokenised: Sequence[TokenisedAnswer], graphs: Sequence[InterventionGraph], *, batch_size: int | None = None
    ) -> list[list[AnswerLikelihood]]:
        """`log_likelihood` under each of several graphs.

        Each forward begins at the first layer its graph writes to, from what one unsteered pass left there: the same numbers for
        about half the work when graphs are spread over all layers. Raises as `log_likelihood`.
        """
        graphs = [InterventionGraph(graph.writes) for graph in graphs]
        for graph in graphs:
            self._check(graph, len(tokenised), "likelihoods")
        lengths = self._check_answers(tokenised)
        results: list[list[AnswerLikelihood | None]] = [[None] * len(lengths) for _ in graphs]
        with track(len(lengths) * len(graphs), f"{self.name}: scoring texts") as bar:

            def run(rows: list[int]) -> None:
                under = self.engine.log_probs(self._texts(tokenised, rows), [graph.for_rows(rows) for graph in graphs])
                for found, log_probs in zip(results, under, strict=True):
                    for row, own in zip(rows, log_probs, strict=True):
                        found[row] = AnswerLikelihood(self._finite(own, f"log probabilities of row {row}'s answer tokens"))
                bar.advance(len(rows) * len(graphs))

            kept = len(restart_layers(graphs)) if self.capabilities.restarts else 0
            # an engine may run a prompt once for all rows that stand together, and keep what it left
            alike = [row.prompt_ids for row in tokenised] if len(graphs) == 1 else None
            room = self._rooms.scoring(kept, cached=alike is not None and len(set(alike)) < len(alike))
            run_in_batches(lengths, run, batch_size=batch_size, what="scoring", room=room, alike=alike)
        return [[likelihood for likelihood in found if likelihood is not None] for found in results]

    def likelihood_gradient(
        self,
        tokenised: Sequence[TokenisedAnswer],
        layers: Sequence[int] | None = None,
        *,
        weights: Sequence[Float[Tensor, " _"]] | None = None,
        batch_size: int | None = None,
    ) -> Float[Tensor, "row layer d_model"]:
        """How the log probabilities of each row's answer tokens, added up, change with what is added to the residual stream.

        The gradient with respect to a vector added at every token of the row, one layer at a time (all of them if `layers` is
        None), where nothing is added yet; times a direction it is the first-order effect of steering there. Float32 on the CPU.

        Args:
            tokenised: prompts with answers.
            layers: 0-based blocks.
            weights: what each answer token counts, row by row; 1 if None.
            batch_size: rows run together, chosen by the model if None.

        Raises:
            InvalidInputError: a layer the model does not have, an empty answer, weights of another shape, or as `log_likelihood`.
            UnsupportedError: no gradient reaches the residual stream (remote, some quantized weights).
        """
        self._check(NOTHING, len(tokenised), "gradients")
        chosen = list(range(self.n_layers)) if layers is None else list(layers)
        if not set(chosen) <= set(range(self.n_layers)) or not chosen or any(not row.answer_ids for row in tokenised):
            known = f"layers of 0 to {self.n_layers - 1} ({chosen} given)"
            raise InvalidInputError(f"a gradient needs {known} and rows with at least one answer token")
        lengths, counts = self._check_answers(tokenised), [len(row.answer_ids) for row in tokenised]
        each = [torch.ones(count) for count in counts] if weights is None else list(weights)
        if [len(row) for row in each] != counts:
            found = [len(row) for row in each]
            raise InvalidInputError(f"rows of {counts} answer tokens with weights for {found}: give one weight a token")
        results = torch.zeros(len(tokenised), len(chosen), self.d_model, dtype=torch.float32)
        with track(len(lengths), f"{self.name}: gradients of texts") as bar:

            def run(rows: list[int]) -> None:
                gradient = self.engine.gradient(self._texts(tokenised, rows), chosen, [each[row] for row in rows])
                results[rows] = self._finite(gradient, "values of likelihood gradients")
                bar.advance(len(rows))

            room = self._rooms.differentiating()
            run_in_batches(lengths, run, batch_size=batch_size, what="scoring", room=room)
        return results

    def _texts(self, tokenised: Sequence[TokenisedAnswer], rows: Sequence[int]) -> list[TokenisedAnswer]:
        """Some of the rows, counted as read."""
        count_tokens(read=sum(len(tokenised[row].fed) for row in rows))
        return [tokenised[row] for row in rows]

    def _check_answers(self, tokenised: Sequence[TokenisedAnswer]) -> list[int]:
        """The tokens of each row that pass through the model."""
        if any(row.n_prompt == 0 for row in tokenised):
            raise InvalidInputError("log_likelihood() needs a prompt id in every row: nothing predicts the very first token")
        lengths = [len(row.fed) for row in tokenised]
        self._check_lengths(lengths, 0)
        return lengths
