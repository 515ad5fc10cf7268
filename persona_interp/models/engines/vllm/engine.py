"""The engine that runs Hugging Face models in vLLM."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import torch
from jaxtyping import Float
from safetensors.torch import load
from torch import Tensor

from persona_interp.errors import PersonaInterpError
from persona_interp.interventions.compile.readout import Captured
from persona_interp.interventions.graph import InterventionGraph, Write
from persona_interp.models.chat import TokenisedAnswer
from persona_interp.models.engines.capabilities import VLLM
from persona_interp.models.engines.protocol import Answered, Engine, OnStep, Step
from persona_interp.models.engines.vllm.request import PersonaRequest, cache_salt
from persona_interp.models.engines.vllm.running import RunningRequests
from persona_interp.models.families import text_config
from persona_interp.models.sampling import Sampling
from persona_interp.models.turns import Turns

_GRAPHS = 4096
"""Graphs that the workers keep; when there are more, all are forgotten before the next call."""
_GREEDY = Sampling(1, 0)


@dataclass(frozen=True)
class _Asked:
    """One request as this engine makes it."""

    ids: Sequence[int]
    graph: InterventionGraph
    request: PersonaRequest
    params: dict[str, Any]


class VllmEngine(Engine):
    """Runs the rows of a call together, as vLLM schedules them; calls from several threads take turns.

    Args:
        llm: of `library.start`; it is shut down with the engine.
        config: of Hugging Face.
        name: how errors call the model.
        fingerprint: gives that of the weights; asked once.
        file_fingerprint: of the GGUF file they came from.

    Attributes:
        elsewhere: what the steps of a verb said of requests that are not its own; `RunningRequests` takes it.
    """

    capabilities = VLLM
    packs_rows = True

    def __init__(
        self, llm: Any, config: Any, *, name: str, fingerprint: Callable[[], str], file_fingerprint: str | None = None
    ) -> None:
        self.name, self.config, self.file_fingerprint = name, config, file_fingerprint
        self.n_layers = int(text_config(config).num_hidden_layers)
        # a text that is scored passes whole, last token and all, and vLLM draws one behind it
        self.n_ctx = int(llm.llm_engine.model_config.max_model_len) - 2
        self._llm: Any = llm
        self._fingerprint, self._found = fingerprint, ""
        self._keys, self._lock = count(), Turns()
        self._kept: dict[str, str] = {}
        self.elsewhere: list[Any] = []
        llm.collective_rpc("persona_follow")

    @property
    def dtype(self) -> torch.dtype:
        """See `Engine.dtype`."""
        return self._llm.llm_engine.model_config.dtype

    @property
    def device(self) -> torch.device:
        """VLLM takes ids from the CPU."""
        return torch.device("cpu")

    @property
    def runs_here(self) -> bool:
        """It keeps its own memory."""
        return False

    @property
    def fingerprint(self) -> str:
        """See `Engine.fingerprint`."""
        if not self._found:
            self._found = self._fingerprint()
        return self._found

    def close(self) -> None:
        """Shut vLLM and its processes down."""
        llm, self._llm = self._llm, None
        if llm is not None:
            llm.llm_engine.engine_core.shutdown()

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
        """See `Engine.generate`. Greedy or not, tokens are chosen by the arithmetic of every other engine."""
        drawing, params = sampling.to_json(), {"max_tokens": sampling.max_new_tokens, "stop_token_ids": sorted(end_ids)}
        asked = [
            self._asked(ids, graph.for_rows([row]), len(ids), params, sampling=drawing, seed=seed)
            for row, (ids, seed) in enumerate(zip(prompts, seeds, strict=True))
        ]
        with self._lock:
            answers = self._run(asked, on_step)
            captured = self._read(asked) if graph.captures else [{} for _ in asked]
        return [Answered(ids, read) for (ids, _), read in zip(answers, captured, strict=True)]

    def next_logits(self, prompts: Sequence[Sequence[int]], graph: InterventionGraph) -> Float[Tensor, "batch vocab"]:
        """See `Engine.next_logits`."""
        asked = [self._asked(ids, graph.for_rows([row]), len(ids), {}, logits=True) for row, ids in enumerate(prompts)]
        with self._lock:
            self._run(asked)
            found = self._fetch([str(each.request.key) for each in asked])
        return torch.stack([found[f"{each.request.key}/logits"] for each in asked])

    def capture(self, rows: Sequence[TokenisedAnswer], graph: InterventionGraph) -> list[Captured]:
        """See `Engine.capture`."""
        asked = [self._asked(text.fed, graph.for_rows([row]), text.n_prompt, {}) for row, text in enumerate(rows)]
        with self._lock:
            self._run(asked)
            return self._read(asked)

    def log_probs(
        self, rows: Sequence[TokenisedAnswer], graphs: Sequence[InterventionGraph]
    ) -> list[list[Float[Tensor, " n_answer"]]]:
        """See `Engine.log_probs`. All graphs run together, each a persona of its own."""
        scored = {"prompt_logprobs": 0, "flat_logprobs": False}
        asked = [
            self._asked(text.ids, InterventionGraph(graph.writes).for_rows([row]), text.n_prompt, scored)
            for graph in graphs
            for row, text in enumerate(rows)
        ]
        with self._lock:
            answers = self._run(asked)
        found = [
            torch.tensor([tokens[token].logprob for token, tokens in zip(text.answer_ids, scores[text.n_prompt :], strict=True)])
            for (_, scores), text in zip(answers, list(rows) * len(graphs), strict=True)
        ]
        return [found[start : start + len(rows)] for start in range(0, len(found), len(rows))] if rows else [[] for _ in graphs]

    def running_requests(self) -> RunningRequests:
        """Requests that come and go between steps, for servers."""
        return RunningRequests(self)

    def _asked(
        self, ids: Sequence[int], graph: InterventionGraph, n_prompt: int, params: Mapping[str, Any], **drawing: Any
    ) -> _Asked:
        """A request, its graph one for whoever it is given to."""
        own = InterventionGraph(tuple(replace(node, rows=None) if isinstance(node, Write) else node for node in graph.nodes))
        told = own.fingerprint() if own.nodes else None
        return _Asked(ids, own, PersonaRequest(told, n_prompt, f"r{next(self._keys)}", **drawing), dict(params))

    def _run(self, asked: Sequence[_Asked], on_step: OnStep | None = None) -> list[tuple[list[int], Any]]:
        """The tokens drawn for each request, and the log probabilities of its own where they were asked for."""
        self._keep([each.graph for each in asked])
        engine, place_of = self._engine(), {str(each.request.key): place for place, each in enumerate(asked)}
        answers: list[list[int]] = [[] for _ in asked]
        scores: list[Any] = [None for _ in asked]
        open_: set[str] = set()
        try:
            for key, place in place_of.items():
                engine.add_request(key, self._prompt(asked[place]), self._params(asked[place]))
                open_.add(key)
            while open_:
                told: list[int] = []
                for output in engine.step():
                    if output.request_id not in place_of:
                        self.elsewhere.append(output)
                        continue
                    place, ids = place_of[output.request_id], list(output.outputs[0].token_ids)
                    if output.prompt_logprobs is not None:
                        scores[place] = output.prompt_logprobs
                    if len(ids) > len(answers[place]):
                        told.append(place)
                    answers[place] = ids
                    if output.finished:
                        open_.discard(output.request_id)
                if told and on_step is not None:
                    over = on_step(Step(told, lambda at=told: [answers[p][-1] for p in at], lambda p: self._so_far(asked[p])))
                    done = [
                        str(asked[p].request.key) for p, ended in zip(told, over or [False] * len(told), strict=True) if ended
                    ]
                    engine.abort_request([key for key in done if key in open_])
                    open_ -= set(done)
        finally:
            if open_:
                engine.abort_request(sorted(open_))
                self._fetch(list(place_of))
        self._raise_failures()
        return list(zip(answers, scores, strict=True))

    def _prompt(self, asked: _Asked) -> Any:
        from vllm.inputs.engine import tokens_input  # pyright: ignore[reportMissingImports]

        return tokens_input(list(asked.ids), cache_salt=cache_salt(asked.graph, asked.request.n_prompt or len(asked.ids)))

    def _params(self, asked: _Asked) -> Any:
        from vllm.sampling_params import SamplingParams  # pyright: ignore[reportMissingImports]

        reads = bool(asked.graph.captures)
        settings: dict[str, Any] = {
            "max_tokens": 1,
            "temperature": 0,
            "ignore_eos": True,
            "detokenize": False,
            "extra_args": asked.request.extra_args(),
            "skip_reading_prefix_cache": True if reads else None,  # what is not computed cannot be read
            **asked.params,
        }
        return SamplingParams(**settings)

    def _keep(self, graphs: Sequence[InterventionGraph]) -> None:
        """Give graphs to the workers that they do not have yet."""
        if len(self._kept) > _GRAPHS:
            self._rpc("persona_drop", list(self._kept))
            self._kept = {}
        new = {graph.fingerprint(): graph for graph in graphs if graph.nodes}
        new = {key: json.dumps(graph.to_json()) for key, graph in new.items() if key not in self._kept}
        if new:
            self._rpc("persona_keep", new)
            self._kept |= dict.fromkeys(new, "")

    def _read(self, asked: Sequence[_Asked]) -> list[Captured]:
        found = self._fetch([str(each.request.key) for each in asked])
        return [_captured(each, found) for each in asked]

    def _so_far(self, asked: _Asked) -> Captured:
        return _captured(asked, self._fetch([str(asked.request.key)], forget=False)) if asked.graph.captures else {}

    def _fetch(self, keys: Sequence[str], *, forget: bool = True) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for values in self._rpc("persona_read", list(keys), forget):
            found |= load(values)
        return found

    def _raise_failures(self) -> None:
        failed = {key: why for found in self._rpc("persona_failures") for key, why in found.items()}
        if failed:
            raise PersonaInterpError(f"{self.name}: {failed[min(failed)]}")

    def _rpc(self, name: str, *args: Any) -> list[Any]:
        return self._engine().collective_rpc(name, args=args)

    def _engine(self) -> Any:
        if self._llm is None:
            raise PersonaInterpError(f"{self.name} was closed: load it again")
        return self._llm.llm_engine


def _captured(asked: _Asked, found: Mapping[str, Tensor]) -> Captured:
    named = ((capture, f"{asked.request.key}/{place}") for place, capture in enumerate(asked.graph.captures))
    return {capture: found[key] for capture, key in named if key in found}
