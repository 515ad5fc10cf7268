"""The engine that runs GGUF models through llama.cpp. `SteerableModel` asks nothing else of it than of nnsight."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn

import torch
from jaxtyping import Float
from torch import Tensor

from persona_interp.errors import UnsupportedError
from persona_interp.interventions.compile.readout import Readouts
from persona_interp.interventions.graph import InterventionGraph
from persona_interp.models.batching import PaddedBatch
from persona_interp.models.continuations import Walker
from persona_interp.models.engines.llama_cpp.activations import CapturedRows, Stretch, Tap
from persona_interp.models.engines.llama_cpp.batch_plan import Row, neighbours, phases, portions
from persona_interp.models.engines.llama_cpp.control_vectors import SteeredRows, check_expressible, control_vectors
from persona_interp.models.engines.llama_cpp.session import TOKENS_PER_CALL, LlamaContext, LlamaWeights
from persona_interp.models.engines.llama_cpp.walk import LlamaWalk
from persona_interp.models.engines.protocol import Restart
from persona_interp.models.row_sampler import RowSampler
from persona_interp.models.turns import Turns
from persona_interp.models.unembedding import answer_log_probs
from persona_interp.shapes import Residual, TokenIds

_PROBE_IDS = ((0, 1, 0),)


class LlamaEngine:
    """Runs batches of one GGUF model, one at a time; calls from several threads wait for each other.

    Args:
        weights: the loaded model.
        d_model: width of its residual stream.
        n_threads: to compute with.
        exact_cache: keys and values in float32 instead of float16.
        name: how errors call the model.
    """

    restarts = slices_logits = False

    def __init__(self, weights: LlamaWeights, *, d_model: int, n_threads: int, exact_cache: bool, name: str) -> None:
        self._weights, self._d_model, self._n_threads = weights, d_model, n_threads
        self._exact_cache, self._name, self._n_layers = exact_cache, name, weights.n_layers
        self._tap = Tap(d_model)
        self._contexts: dict[bool, LlamaContext] = {}
        self._lock = Turns()
        self._steers = False

    def close(self) -> None:
        """Free all contexts."""
        with self._lock:
            while self._contexts:
                self._contexts.popitem()[1].close()

    def forward(
        self, batch: PaddedBatch, graph: InterventionGraph, readouts: Readouts, *, n_logits: int, start: Restart | None = None
    ) -> Float[Tensor, "batch kept vocab"] | None:
        """One pass over whole rows; see `Engine.forward`.

        Raises:
            UnsupportedError: a graph that control vectors cannot express.
        """
        groups = self._groups(batch, graph)
        captured = CapturedRows(graph.captures, self._n_layers, len(batch.ids), self._d_model)
        kept: Tensor | None = None
        for group, rows in groups:
            for some in portions(rows):
                with self._context(len(some), max(len(row.ids) for row in some), reads=bool(graph.captures)) as context:
                    found = self._run(context, some, group, captured, n_logits)
                if n_logits:
                    kept = found.new_zeros(len(batch.ids), n_logits, found.shape[1]) if kept is None else kept
                    for row, logits in zip(some, found.split([min(n_logits, len(row.ids)) for row in some]), strict=True):
                        kept[row.place, n_logits - len(logits) :] = logits
        readouts.take(captured.values())
        return kept

    def generate(
        self,
        batch: PaddedBatch,
        graph: InterventionGraph,
        readouts: Readouts,
        *,
        sampler: RowSampler,
        max_new_tokens: int,
        end_ids: Collection[int],
    ) -> TokenIds:
        """Answer ids; see `Engine.generate`.

        Raises:
            UnsupportedError: a graph that control vectors cannot express.
        """
        groups = self._groups(batch, graph)
        captured = CapturedRows(graph.captures, self._n_layers, len(batch.ids), self._d_model)
        readouts.follow(captured.values)
        answers = torch.full((len(batch.ids), max_new_tokens), min(end_ids, default=0))
        for group, rows in groups:
            own = sampler if len(groups) == 1 else sampler.for_rows(group.rows)
            longest = max(len(row.ids) for row in rows) + max_new_tokens
            with self._context(len(rows), longest, reads=bool(graph.captures)) as context:
                logits = self._run(context, rows, group, captured, 1)
                self._answer(context, rows, group, captured, answers, logits, own, frozenset(end_ids))
        readouts.take(captured.values())
        return answers

    def residuals(self, batch: PaddedBatch, layers: Sequence[int]) -> dict[int, Residual]:
        """Never asked for, since forwards do not begin in the middle."""
        self._refuse("restart a forward in the middle")

    def log_probs(
        self, batch: PaddedBatch, graph: InterventionGraph, answers: Sequence[Sequence[int]], *, start: Restart | None = None
    ) -> list[Float[Tensor, " n_answer"]]:
        """Log probabilities of the answers' tokens; see `Engine.log_probs`.

        Raises:
            UnsupportedError: a graph that control vectors cannot express.
        """
        logits = self.forward(batch, graph, Readouts((), self._n_layers), n_logits=max(1, *map(len, answers)))
        if logits is None:
            raise RuntimeError("llama.cpp returned no logits")
        return [answer_log_probs(logits[row], answer) for row, answer in enumerate(answers)]

    def gradient(
        self, batch: PaddedBatch, layers: Sequence[int], answers: Sequence[Sequence[int]], weights: Sequence[Tensor]
    ) -> Float[Tensor, "batch layer d_model"]:
        """Not to be had from llama.cpp.

        Raises:
            UnsupportedError: always.
        """
        self._refuse("take gradients: use method 'likelihood' instead")

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

    def unembed(self, resid: Float[Tensor, "row d_model"]) -> Float[Tensor, "row vocab"]:
        """Not to be had from llama.cpp.

        Raises:
            UnsupportedError: always.
        """
        self._refuse("unembed residuals given from outside: use method 'likelihood', or for biases reading 'shift'")

    def _refuse(self, what: str) -> NoReturn:
        raise UnsupportedError(f"{self._name} runs in llama.cpp, which cannot {what}")

    def _groups(self, batch: PaddedBatch, graph: InterventionGraph) -> list[tuple[SteeredRows, list[Row]]]:
        check_expressible(graph, self._name)
        if graph.writes:
            self._check_steers()
        rows: list[Row] = []
        for place, (ids, real, end) in enumerate(zip(batch.ids, batch.spans.real, batch.spans.prompt_end.tolist(), strict=True)):
            rows.append(Row(place, ids[real].tolist(), int(real[:end].sum())))
        groups = control_vectors(graph, len(rows), self._n_layers, self._d_model)
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
        self, context: LlamaContext, rows: Sequence[Row], group: SteeredRows, captured: CapturedRows, n_logits: int
    ) -> Float[Tensor, "kept vocab"]:
        """Pass whole rows through the model, phase by phase; the logits of each one's last `n_logits` tokens, row by row."""
        logits: list[list[Tensor]] = [[] for _ in rows]
        for vector, span in phases(group):
            context.steer(vector)
            spans = [span(row) for row in rows]
            for stream, found in self._feed(context, rows, spans, captured, n_logits):
                logits[stream].append(found)
        return torch.cat([part for parts in logits for part in parts]) if any(logits) else torch.zeros(0, 0, dtype=torch.float32)

    def _feed(
        self,
        context: LlamaContext,
        rows: Sequence[Row],
        spans: Sequence[tuple[int, int]],
        captured: CapturedRows,
        n_logits: int,
    ) -> Iterator[tuple[int, Tensor]]:
        """Run one stretch of every row, neighbours together, the shorter ones padded behind; their logits by stream."""
        for streams in neighbours(spans):
            width = max(spans[stream][1] - spans[stream][0] for stream in streams)
            for begin in range(0, width, TOKENS_PER_CALL // len(streams)):
                size = min(width - begin, TOKENS_PER_CALL // len(streams))
                yield from self._piece(context, rows, spans, captured, n_logits, streams, begin, size)
            for stream in streams:
                if spans[stream][1] - spans[stream][0] < width:
                    context.drop(stream, spans[stream][1])

    def _piece(
        self,
        context: LlamaContext,
        rows: Sequence[Row],
        spans: Sequence[tuple[int, int]],
        captured: CapturedRows,
        n_logits: int,
        streams: range,
        begin: int,
        size: int,
    ) -> Iterator[tuple[int, Tensor]]:
        tokens: list[list[int]] = []
        keep: list[list[bool]] = []
        stretches: list[Stretch] = []
        for stream in streams:
            row, (first, end) = rows[stream], spans[stream]
            ids = row.ids[first + begin : min(end, first + begin + size)]
            wanted_from = len(row.ids) - n_logits - first - begin
            keep.append([wanted_from <= place < len(ids) for place in range(size)])
            tokens.append(ids + [0] * (size - len(ids)))
            stretches.append(Stretch(row.place, first + begin, len(ids), row.n_prompt))
        places = [spans[stream][0] + begin for stream in streams]
        layers = captured.layers(stretches)
        if not layers:
            logits = context.call(streams, tokens, places, keep)
        else:
            stop = None if n_logits else captured.deepest  # not the last one of this call: later tokens look back at this deep
            logits, resid = context.reading_call(streams, tokens, places, keep, layers=layers, stop_after=stop)
            for number, stretch in enumerate(stretches):
                own = {layer: seen[number * size : (number + 1) * size] for layer, seen in resid.items()}
                captured.take(stretch, own)
        if n_logits:
            counts = [sum(flags) for flags in keep]
            yield from zip(streams, logits.split(counts), strict=True)

    def _answer(
        self,
        context: LlamaContext,
        rows: Sequence[Row],
        group: SteeredRows,
        captured: CapturedRows,
        answers: TokenIds,
        logits: Float[Tensor, "row vocab"],
        sampler: RowSampler,
        end_ids: frozenset[int],
    ) -> None:
        """Draw tokens until every row has ended, and write them into `answers`."""
        alive = [True] * len(rows)
        streams = range(len(rows))
        keep = [[True]] * len(rows)
        for step in range(answers.shape[1]):
            drawn = sampler(torch.zeros(len(rows), 1, dtype=torch.long), logits).argmax(dim=-1).tolist()
            for stream, (row, token) in enumerate(zip(rows, drawn, strict=True)):
                if alive[stream]:
                    answers[row.place, step] = token
                    alive[stream] = token not in end_ids
            if not any(alive) or step == answers.shape[1] - 1:
                return
            if step == 0:
                context.steer(group.vectors.answer)
            places = [len(row.ids) + step for row in rows]
            # rows that have ended go on beside the others: neighbouring streams run in one piece
            tokens = [[token] for token in drawn]
            going = [Stretch(row.place, place, 1, row.n_prompt) for row, place in zip(rows, places, strict=True)]
            layers = captured.layers(stretch for stretch, lives in zip(going, alive, strict=True) if lives)
            if not layers:
                logits = context.call(streams, tokens, places, keep)
                continue
            logits, resid = context.reading_call(streams, tokens, places, keep, layers=layers, stop_after=None)
            for stream, stretch in enumerate(going):
                if alive[stream]:
                    captured.take(stretch, {layer: seen[stream : stream + 1] for layer, seen in resid.items()})

    def _check_steers(self) -> None:
        """Raise where the architecture ignores control vectors, as some in llama.cpp do without a word. Asked once.

        Raises:
            UnsupportedError: a vector changed no logit.
        """
        if self._steers:
            return
        n_blocks = max(1, self._n_layers - 1)
        push = torch.randn(n_blocks, self._d_model, generator=torch.Generator().manual_seed(0), dtype=torch.float32)
        found: list[Tensor] = []
        for vector in (None, push):
            with self._context(1, len(_PROBE_IDS[0]), reads=False) as context:
                context.steer(vector)
                found.append(context.call(range(1), _PROBE_IDS, [0], [[False, False, True]]))
        if torch.equal(*found):
            raise UnsupportedError(
                f"llama.cpp ignores control vectors for the architecture of {self._name}: a random vector changed no logit. "
                "Steer its PyTorch model instead"
            )
        self._steers = True
