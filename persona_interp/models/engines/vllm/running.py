"""Requests that come and go between the steps of vLLM, each with its own graph, sampling and seed: what a server needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from persona_interp.interventions.compile.readout import Captured
from persona_interp.interventions.graph import InterventionGraph
from persona_interp.models.sampling import Sampling

if TYPE_CHECKING:
    from persona_interp.models.engines.vllm.engine import VllmEngine


@dataclass(frozen=True)
class Drawn:
    """What a step drew for one request.

    Attributes:
        key: of the request.
        tokens: new ones.
        chances: for each, token -> log probability, its own and those of the likeliest; empty where they were not asked for.
        finished: whether vLLM has ended it.
    """

    key: str
    tokens: Sequence[int]
    chances: Sequence[dict[int, float]]
    finished: bool


class RunningRequests:
    """The requests under way in one engine, beside whatever its verbs run. Not for several threads at once.

    Args:
        engine: takes turns with its verbs.
    """

    def __init__(self, engine: VllmEngine) -> None:
        self._engine = engine
        self._open: dict[str, Any] = {}
        self._told: dict[str, int] = {}

    def admit(
        self,
        ids: Sequence[int],
        graph: InterventionGraph,
        sampling: Sampling,
        seed: int,
        *,
        end_ids: frozenset[int],
        n_top: int | None = None,
    ) -> str:
        """Begin to answer a prompt; the key of the request.

        Args:
            ids: of the prompt.
            graph: writes and captures, for this request alone.
            sampling: how it is drawn.
            seed: of its draws.
            end_ids: ids that end it.
            n_top: likeliest tokens to be told of each; None: no chances.
        """
        params: dict[str, Any] = {"max_tokens": sampling.max_new_tokens, "stop_token_ids": sorted(end_ids)}
        if n_top is not None:
            params |= {"logprobs": n_top, "flat_logprobs": False}
        own = self._engine
        with own._lock:
            asked = own._asked(ids, graph, len(ids), params, sampling=sampling.to_json(), seed=seed)
            key = str(asked.request.key)
            own._keep([asked.graph])
            own._engine().add_request(key, own._prompt(asked), own._params(asked))
            self._open[key], self._told[key] = asked, 0
        return key

    def step(self) -> list[Drawn]:
        """Run all that is under way for one step."""
        own = self._engine
        with own._lock:
            outputs, own.elsewhere = own.elsewhere, []  # steps of a verb run what is under way here, too
            outputs += own._engine().step()
        found: list[Drawn] = []
        for output in outputs:
            if output.request_id not in self._open:
                continue
            answer, first = output.outputs[0], self._told[output.request_id]
            tokens = list(answer.token_ids)[first:]
            self._told[output.request_id] = first + len(tokens)
            scores = list(answer.logprobs)[first:] if answer.logprobs is not None else []
            chances = [{int(token): float(each.logprob) for token, each in place.items()} for place in scores]
            found.append(Drawn(output.request_id, tokens, chances, bool(output.finished)))
        return found

    def end(self, key: str) -> Captured:
        """Let go of a request, finished or not; what its captures have read.

        Raises:
            PersonaInterpError: a worker could not do what its graph says.
        """
        own = self._engine
        with own._lock:
            asked = self._open.pop(key)
            del self._told[key]
            own._engine().abort_request([key])  # of one that has finished nothing is known any more
            (read,) = own._read([asked]) if asked.graph.captures else [{}]
            own._raise_failures()
        return read
