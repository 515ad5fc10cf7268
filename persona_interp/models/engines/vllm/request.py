"""What a request to vLLM carries so that it is steered and read: plain values in ``SamplingParams.extra_args``.

Over HTTP these are a request's ``vllm_xargs``. All of it lies under one key as JSON text, so that nothing else that reads extra
arguments meets it. A server that takes personas by name turns them into `PersonaRequest.extra_args` and a `cache_salt`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from persona_interp.errors import FileFormatError, InvalidInputError
from persona_interp.interventions.graph import InterventionGraph

EXTRA_KEY = "persona_interp"
"""Under which key of the extra arguments."""


@dataclass(frozen=True)
class PersonaRequest:
    """How one request is steered, read and drawn.

    Attributes:
        graph: fingerprint of a graph that was given to the workers before (`PersonaWorker.persona_keep`), or a graph as JSON;
            None: neither steered nor read. Writes that name rows are not for requests, which have none.
        n_prompt: how many of its tokens are the prompt, where a text that is read whole ends in an answer; None: those it came
            with.
        key: under which what is read of it is fetched; None: its captures are not read.
        sampling: a `Sampling` as JSON, by which it is drawn as on every other engine; None: as its ``SamplingParams`` say.
        seed: of those draws.
        logits: keep the logits of its last step, to be fetched under `key`.
    """

    graph: str | Mapping[str, Any] | None = None
    n_prompt: int | None = None
    key: str | None = None
    sampling: Mapping[str, Any] | None = None
    seed: int = 0
    logits: bool = False

    def extra_args(self) -> dict[str, str]:
        """The ``extra_args`` of its ``SamplingParams``, or its ``vllm_xargs``."""
        return {EXTRA_KEY: json.dumps({name: value for name, value in vars(self).items() if value not in (None, False)})}

    @classmethod
    def from_extra_args(cls, extra_args: Mapping[str, Any] | None) -> PersonaRequest | None:
        """The inverse of `extra_args`; None where there is nothing of ours.

        Raises:
            FileFormatError: it is not what `extra_args` makes.
        """
        text = (extra_args or {}).get(EXTRA_KEY)
        if text is None:
            return None
        try:
            return cls(**json.loads(text))
        except (TypeError, ValueError) as error:
            raise FileFormatError(f"extra argument {EXTRA_KEY!r} is {text!r:.80}, not a PersonaRequest: {error}") from error


def graph_of(request: PersonaRequest, kept: Mapping[str, InterventionGraph]) -> InterventionGraph:
    """The graph of a request.

    Args:
        request: as it came.
        kept: graphs that were given before, by fingerprint.

    Raises:
        InvalidInputError: a graph that was not given.
        FileFormatError: not a graph.
    """
    if request.graph is None:
        return InterventionGraph()
    if not isinstance(request.graph, str):
        return InterventionGraph.from_json(request.graph, source="the graph of a request")
    if request.graph not in kept:
        raise InvalidInputError(f"a request names graph {request.graph:.12}, which was not given: call persona_keep first")
    return kept[request.graph]


def cache_salt(graph: InterventionGraph, n_prompt: int) -> str | None:
    """What keeps the keys and values of a request apart from those of any other persona; None: it is not steered.

    vLLM's prefix cache shares blocks between requests whose tokens and salts begin alike. A graph that writes at all tokens alike
    leaves the same behind equal tokens. Where prompt and answer are steered differently, or by step, what a token leaves depends
    on where its prompt ends: an answer that comes back as part of a longer prompt is not the same as when it was drawn.
    """
    if not graph.writes:
        return None
    told = InterventionGraph(graph.writes).fingerprint()
    if any(write.positions != "all" or write.schedule is not None for write in graph.writes):
        told += f":{n_prompt}"
    return hashlib.sha256(told.encode()).hexdigest()
