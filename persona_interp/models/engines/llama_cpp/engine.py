"""The engine that runs GGUF models through llama.cpp."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor

from persona_interp.errors import UnsupportedError
from persona_interp.interventions.compile.readout import Captured, Readouts
from persona_interp.interventions.graph import InterventionGraph
from persona_interp.interventions.positions import Spans
from persona_interp.models.chat import TokenisedAnswer
from persona_interp.models.continuations import Walker
from persona_interp.models.engines.capabilities import LLAMA_CPP
from persona_interp.models.engines.llama_cpp.activations import Tap
from persona_interp.models.engines.llama_cpp.batch_plan import Row, neighbours, phases, portions
from persona_interp.models.engines.llama_cpp.control_vectors import ControlVector, SteeredRows, control_vectors
from persona_interp.models.engines.llama_cpp.session import TOKENS_PER_CALL, LlamaContext, LlamaWeights
from persona_interp.models.engines.llama_cpp.walk import LlamaWalk
from persona_interp.models.engines.protocol import Answered, Engine, ModelConfig, OnStep
from persona_interp.models.row_sampler import RowSampler, telling
from persona_interp.models.sampling import Sampling
from persona_interp.models.turns import Turns
from persona_interp.models.unembedding import answer_log_probs

_PROBE_IDS = ((0, 1, 0),)


class LlamaEngine(Engine):
    """Runs batches of one GGUF model, one at a time; calls from several threads wait for each other.

    Args:
        weights: the loaded model, which is closed with the engine.
        config: its shape.
        dtype: of the widest matrix; keys and values are then float32 instead of float16 only if it is float32.
        fingerprints: of the weights and of the file.
        n_ctx: tokens a text may have.
        n_threads: to compute with.
    """

    capabilities = LLAMA_CPP

    def __init__(
        self,
        weights: LlamaWeights,
        config: ModelConfig,
        dtype: torch.dtype,
        fingerprints: tuple[str, str],
        *,
        n_ctx: int,
        n_threads: int,
    ) -> None:
        self.name, self.config, self.n_layers, self.n_ctx = config.name_or_path, config, weights.n_layers, n_ctx
        self._dtype, (self._fingerprint, self.file_fingerprint) = dtype, fingerprints
        self._weights, self._d_model, self._n_threads = weights, config.hidden_size, n_threads
        self._exact_cache = dtype == torch.float32
        self._tap = Tap(self._d_model)
        self._contexts: dict[bool, LlamaContext] = {}
        self._lock = Turns()
        self._steers = False

    @property
    def dtype(self) -> torch.dtype:
        """Of the widest matrix; quantized ones count as float16, in which llama.cpp then keeps keys and values."""
        return self._dtype

    @property
    def device(self) -> torch.device:
        """llama.cpp takes ids from the CPU."""
        return torch.device("cpu")

    @property
    def fingerprint(self) -> str:
        """See `Engine.fingerprint`."""
        return self._fingerprint

    def close(self) -> None:
        """Free the model and all contexts; every verb raises from then on."""
        self.close_contexts()
        self._weights.close()

    def close_contexts(self) -> None:
        """Free all contexts; the next call makes new ones."""
        with self._lock:
            while self._contexts:
                self._contexts.popitem()[1].close()

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
        """See `Engine.generate`."""
        groups = self._groups([Row(place, list(ids), len(ids)) for place, ids in enumerate(prompts)], graph)
        readouts = Readouts(graph.captures, self.n_layers, len(prompts))
        sampler = RowSampler(sampling, seeds, telling(on_step, readouts), min(end_ids, default=None), self.name, self.dtype)
        answers: list[list[int]] = [[] for _ in prompts]
        for group, rows in groups:
            own = sampler if len(groups) == 1 else sampler.for_rows(group.rows)
            longest = max(len(row.ids) for row in rows) + sampling.max_new_tokens
            with self._context(len(rows), longest, reads=bool(graph.captures)) as context:
                logits = torch.cat(self._run(context, rows, group, readouts, [1] * len(rows)))
                drawn = self._answer(context, rows, group.vectors.answer, readouts, logits, own, end_ids)
            for row, answer in zip(rows, drawn, strict=True):
                answers[row.place] = answer
        return [Answered(answer, readouts.result(row)) for row, answer in enumerate(answers)]

    def next_logits(self, prompts: Sequence[Sequence[int]], graph: InterventionGraph) -> Float[Tensor, "batch vocab"]:
        """See `Engine.next_logits`."""
        rows = [TokenisedAnswer(tuple(ids), len(ids)) for ids in prompts]
        found = dict(self._passed(rows, graph, [1] * len(rows)))
        return torch.cat([found[row] for row in range(len(rows))])

    def capture(self, rows: Sequence[TokenisedAnswer], graph: InterventionGraph) -> list[Captured]:
        """See `Engine.capture`."""
        readouts = Readouts(graph.captures, self.n_layers, len(rows))
        for _ in self._passed(rows, graph, [0] * len(rows), readouts):
            pass
        return [readouts.result(row) for row in range(len(rows))]

    def log_probs(
        self, rows: Sequence[TokenisedAnswer], graphs: Sequence[InterventionGraph]
    ) -> list[list[Float[Tensor, " n_answer"]]]:
        """See `Engine.log_probs`."""
        answers = [row.answer_ids for row in rows]
        found: list[list[Tensor]] = []
        for graph in graphs:
            scored = [torch.zeros(0, dtype=torch.float32)] * len(rows)
            for row, logits in self._passed(rows, graph, [len(answer) for answer in answers]):
                scored[row] = answer_log_probs(logits, answers[row])
            found.append(scored)
        return found

    def walks(self, longest: int) -> bool:
        """See `Engine.walks`: rows can branch off one another."""
        return True

    @contextmanager
    def walking(self, shared: Sequence[int], likely: Sequence[tuple[int, ...]], longest: int) -> Iterator[Walker]:
        """See `Engine.walking`."""
        with self._lock:
            walk = LlamaWalk(self._weights, shared, longest=longest, n_threads=self._n_threads, exact_cache=self._exact_cache)
            try:
                yield walk
            finally:
                walk.close()

    def _passed(
        self,
        texts: Sequence[TokenisedAnswer],
        graph: InterventionGraph,
        n_logits: Sequence[int],
        readouts: Readouts | None = None,
    ) -> Iterator[tuple[int, Float[Tensor, "kept vocab"]]]:
        """Pass whole rows through the model; each one's place, and the logits of its last `n_logits` tokens."""
        reads, readouts = readouts is not None, readouts or Readouts((), self.n_layers)
        for group, rows in self._groups([Row(place, list(row.fed), row.n_prompt) for place, row in enumerate(texts)], graph):
            for some in portions(rows):
                with self._context(len(some), max(len(row.ids) for row in some), reads=reads) as context:
                    found = self._run(context, some, group, readouts, [n_logits[row.place] for row in some])
                yield from ((row.place, logits) for row, logits in zip(some, found, strict=True))

    def _groups(self, rows: Sequence[Row], graph: InterventionGraph) -> list[tuple[SteeredRows, list[Row]]]:
        if graph.writes:
            self._check_steers()
        groups = control_vectors(graph, len(rows), self.n_layers, self._d_model)
        return [(group, [rows[row] for row in group.rows]) for group in groups]

    @contextmanager
    def _context(self, n_rows: int, n_tokens: int, *, reads: bool) -> Iterator[LlamaContext]:
        """A context large enough, to ourselves. It is kept for the next call, as new, unless something went wrong."""
        with self._lock:
            context = self._contexts.get(reads)
            if context is None or not context.fits(n_rows, n_tokens):
                if context is not None:
                    self._contexts.pop(reads).close()
                context = LlamaContext(
                    self._weights,
                    n_rows=n_rows,
                    n_tokens=n_tokens,
                    n_threads=self._n_threads,
                    tap=self._tap if reads else None,
                    exact_cache=self._exact_cache,
                )
                self._contexts[reads] = context
            good = False
            try:
                yield context
                context.forget()
                good = True
            finally:
                if not good:  # even forgetting can be interrupted
                    self._contexts.pop(reads, None)
                    context.close()

    def _run(
        self, context: LlamaContext, rows: Sequence[Row], group: SteeredRows, readouts: Readouts, n_logits: Sequence[int]
    ) -> list[Float[Tensor, "kept vocab"]]:
        """Pass whole rows through the model, phase by phase; the logits of each one's last `n_logits` tokens."""
        logits: list[list[Tensor]] = [[] for _ in rows]
        for vector, span in phases(group):
            context.steer(vector)
            spans = [span(row) for row in rows]
            for streams in neighbours(spans):
                width = max(spans[stream][1] - spans[stream][0] for stream in streams)
                at_once = TOKENS_PER_CALL // len(streams)
                for begin in range(0, width, at_once):  # the shorter ones are padded behind
                    own = [(rows[stream], spans[stream][0] + begin, spans[stream][1]) for stream in streams]
                    found = self._piece(context, streams, own, min(width - begin, at_once), readouts, n_logits)
                    for stream, part in zip(streams, found, strict=False):
                        logits[stream].append(part)
                for stream in streams:
                    if spans[stream][1] - spans[stream][0] < width:
                        context.drop(stream, spans[stream][1])
        return [torch.cat(parts) if parts else torch.zeros(0, 0, dtype=torch.float32) for parts in logits]

    def _piece(
        self,
        context: LlamaContext,
        streams: range,
        rows: Sequence[tuple[Row, int, int]],
        size: int,
        readouts: Readouts,
        n_logits: Sequence[int],
    ) -> Sequence[Float[Tensor, "kept vocab"]]:
        """One call: `size` tokens of each of `rows` (row, place of the first, place behind the last); logits where wanted."""
        tokens: list[list[int]] = []
        keep: list[list[bool]] = []
        for stream, (row, first, end) in zip(streams, rows, strict=True):
            ids = row.ids[first : min(end, first + size)]
            wanted_from = len(row.ids) - n_logits[stream] - first
            keep.append([wanted_from <= place < len(ids) for place in range(size)])
            tokens.append(ids + [0] * (size - len(ids)))
        places = [first for _, first, _ in rows]
        counts = torch.tensor([min(end - first, size) for _, first, end in rows])
        ends = torch.tensor([row.n_prompt - first for row, first, _ in rows])
        spans = Spans(torch.arange(size).unsqueeze(0) < counts.unsqueeze(1), ends)
        logits_wanted = any(n_logits)
        # not the last layer of this call alone: later tokens look back at this deep
        stop = None if logits_wanted else readouts.deepest
        batch_rows = [row.place for row, _, _ in rows]
        logits = self._read(context, streams, (tokens, places, keep), readouts, spans, batch_rows, stop)
        return logits.split([sum(flags) for flags in keep]) if logits_wanted else ()

    def _read(
        self,
        context: LlamaContext,
        streams: range,
        call: tuple[list[list[int]], list[int], list[list[bool]]],
        readouts: Readouts,
        spans: Spans,
        rows: Sequence[int],
        stop_after: int | None,
    ) -> Float[Tensor, "kept vocab"]:
        """One call of the model, of which `readouts` take what they read in it."""
        readouts.begin_prefill(spans, rows)
        layers = readouts.open_layers
        if not layers:
            return context.call(streams, *call)
        logits, resid = context.reading_call(streams, *call, layers=layers, stop_after=stop_after)
        for layer in sorted(layers):
            readouts.read(layer, resid[layer].view(len(streams), -1, self._d_model))
        readouts.end()
        return logits

    def _answer(
        self,
        context: LlamaContext,
        rows: Sequence[Row],
        vector: ControlVector | None,
        readouts: Readouts,
        logits: Float[Tensor, "row vocab"],
        sampler: RowSampler,
        end_ids: frozenset[int],
    ) -> list[list[int]]:
        """Draw tokens until every row has ended."""
        answers: list[list[int]] = [[] for _ in rows]
        alive = [True] * len(rows)
        batch_rows, keep = [row.place for row in rows], [[True]] * len(rows)
        for step in range(sampler.most):
            drawn = sampler(torch.zeros(len(rows), 1, dtype=torch.long), logits).argmax(dim=-1).tolist()
            for stream, token in enumerate(drawn):
                if alive[stream]:
                    answers[stream].append(token)
                    alive[stream] = token not in end_ids
            if not any(alive) or step == sampler.most - 1:
                break
            if step == 0:
                context.steer(vector)
            # rows that have ended go on beside the others, unread: neighbouring streams run in one piece
            call = ([[token] for token in drawn], [len(row.ids) + step for row in rows], keep)
            spans = Spans(torch.tensor(alive).unsqueeze(1), torch.zeros(len(rows), dtype=torch.long))
            logits = self._read(context, range(len(rows)), call, readouts, spans, batch_rows, None)
        return answers

    def _check_steers(self) -> None:
        """Raise where the architecture ignores control vectors, as some in llama.cpp do without a word. Asked once.

        Raises:
            UnsupportedError: a vector changed no logit.
        """
        if self._steers:
            return
        n_blocks = max(1, self.n_layers - 1)
        push = torch.randn(n_blocks, self._d_model, generator=torch.Generator().manual_seed(0), dtype=torch.float32)
        found: list[Tensor] = []
        for vector in (None, push):
            with self._context(1, len(_PROBE_IDS[0]), reads=False) as context:
                context.steer(vector)
                found.append(context.call(range(1), _PROBE_IDS, [0], [[False, False, True]]))
        if torch.equal(*found):
            raise UnsupportedError(
                f"llama.cpp ignores control vectors for the architecture of {self.name}: a random vector changed no logit. "
                "Steer its PyTorch model instead"
            )
        self._steers = True
