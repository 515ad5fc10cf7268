"""A judge behind any OpenAI-compatible server: OpenAI itself, vLLM, llama.cpp, Ollama, and many others.

The score is that of the persona-vectors paper (arXiv 2507.21509, section 2 and appendix B): the rubric as the user's turn, at
temperature 0; with the probabilities of the 20 likeliest tokens, sum(i * p_i) / sum(p_i) over the whole numbers 0 to 100, and
none where they hold less than a quarter. From a server without probabilities, the number it wrote.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, as_completed
from typing import Any

from persona_interp.errors import InvalidInputError, PersonaInterpError
from persona_interp.judges.determinants import rubric_settings
from persona_interp.judges.endpoint_client import ChatEndpoint
from persona_interp.judges.logprob import COHERENCE_RUBRIC
from persona_interp.judges.replies import Score, score_reply
from persona_interp.models.request_pool import RequestPool
from persona_interp.traits.judging import Judgement
from persona_interp.traits.rubric import check_rubric, fill_rubric
from persona_interp.traits.trait import Trait

_NO_NUMBERS = 8
"""Replies in a row, from the first, with neither a number nor a refusal, after which a model counts as no judge."""


_NO_THOUGHTS = (
    "Switch thinking off where the server starts (llama-server: --reasoning-budget 0; vLLM: a chat template with enable_thinking "
    "false), or use a model that does not think"
)


class EndpointJudge:
    """Scores answers with a model behind a server, several at a time.

    A refusal, and a reply without a number, is no score (None), never 0. A server that is down, slow, out of quota or talks
    nonsense is an error, raised after the judgements that did come; wrap it in a `CachedJudge` to keep those.

    Where a server's tokens are single digits (Qwen, Mistral), it tells only how the digits it wrote go on: the score is then the
    expected number among those that begin alike. `LogprobJudge`, which has the model itself, knows all of them.

    Example:
        >>> judge = CachedJudge(EndpointJudge("gpt-4.1-mini"), "scores.jsonl")
        >>> local = EndpointJudge("qwen2.5-7b-instruct", base_url="http://localhost:8000/v1")

    Args:
        model: the name the server knows it by.
        base_url: ``OPENAI_BASE_URL`` if None, else OpenAI's own.
        api_key: ``OPENAI_API_KEY`` if None; a server that needs none gets a placeholder.
        coherence_rubric: has ``{question}`` and ``{answer}``; None leaves coherence unscored and halves the cost.
        min_mass: numbers holding less probability than this, together, are no score.
        concurrency: requests under way together, at most.
        timeout: seconds one reply may take.
        attempts: how often one question is asked before it counts as failed, with exponential back-off between.
        patience: longest wait, in seconds, that a server may ask for in ``Retry-After``.

    Raises:
        MissingExtraError: the openai package is not installed.
        InvalidInputError: no key for OpenAI's own server; the coherence rubric lacks a placeholder; a number is out of range.
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        coherence_rubric: str | None = COHERENCE_RUBRIC,
        min_mass: float = 0.25,
        concurrency: int = 8,
        timeout: float = 60.0,
        attempts: int = 6,
        patience: float = 120.0,
    ) -> None:
        if coherence_rubric is not None:
            check_rubric(coherence_rubric, "the coherence rubric")
        if not 0 < min_mass <= 1:
            raise InvalidInputError(f"min_mass is {min_mass}: give a probability above 0, up to 1")
        if concurrency < 1:
            raise InvalidInputError(f"concurrency is {concurrency}: give at least 1 request at a time")
        self.endpoint = ChatEndpoint(
            model, base_url=base_url, api_key=api_key, timeout=timeout, attempts=attempts, patience=patience
        )
        self.name = f"endpoint:{model}"
        self.coherence_rubric = coherence_rubric
        self.min_mass = min_mass
        self.concurrency = concurrency
        self._has_scored = False

    def judge(self, trait: Trait, exchanges: Sequence[tuple[str, str]]) -> list[Judgement]:
        """Score (question, answer) pairs.

        Raises:
            PersonaInterpError: the server failed, or its model never gives a number; names URL, model, status and remedy.
        """
        found = dict(self.judge_as_they_come(trait, exchanges))
        return [found[place] for place in range(len(exchanges))]

    def judge_as_they_come(self, trait: Trait, exchanges: Sequence[tuple[str, str]]) -> Iterator[tuple[int, Judgement]]:
        """(place, judgement) as replies come. Raises as `judge`, after all judgements that were under way.

        Judgements without a number are held back until the model has shown that it can give one.
        """
        stop = threading.Event()
        held: list[tuple[int, Judgement]] = []
        pool = RequestPool(self.concurrency, "judge")
        places: dict[Future[tuple[Score, ...] | None], int] = {}
        failure: BaseException | None = None
        n_unusable = 0
        try:
            for place, exchange in enumerate(exchanges):
                places[pool.submit(self._scores, trait, exchange, stop)] = place
            for future in as_completed(places):
                if future.cancelled():
                    continue
                error = future.exception()
                if error is None:
                    scores = future.result()
                    if scores is None:
                        continue
                    unusable = [score for score in scores if score.value is None and not score.refused]
                    n_unusable += len(unusable)
                    self._has_scored = self._has_scored or any(score.value is not None for score in scores)
                    held.append((places[future], Judgement(scores[0].value, scores[1].value if len(scores) > 1 else None)))
                    if self._has_scored or not n_unusable:
                        yield from held
                        held.clear()
                    elif n_unusable >= _NO_NUMBERS:
                        error = self._no_judge(n_unusable, unusable[-1] if unusable else Score(None, False, ""))
                if error is not None and failure is None:
                    failure = error
                    stop.set()
                    for other in places:
                        other.cancel()
            if failure is not None:
                raise failure
            yield from held
        finally:
            stop.set()
            pool.close()

    def determinants(self, trait: Trait) -> dict[str, Any]:
        """What its scores depend on besides the texts."""
        where = {"judge": "endpoint", "url": self.endpoint.url, "model": self.endpoint.model}
        return {**where, **rubric_settings(trait, self.coherence_rubric, self.min_mass)}

    def _scores(self, trait: Trait, exchange: tuple[str, str], stop: threading.Event) -> tuple[Score, ...] | None:
        """The scores of one answer; None if another one has failed before anything was asked."""
        if stop.is_set():
            return None
        rubrics = [trait.rubric_for(*exchange)]
        if self.coherence_rubric is not None:
            rubrics.append(fill_rubric(self.coherence_rubric, *exchange))
        try:
            return tuple(self._score(rubric, stop) for rubric in rubrics)
        except PersonaInterpError:
            stop.set()
            raise

    def _score(self, rubric: str, stop: threading.Event) -> Score:
        """The score of one filled rubric; a reply cut short before its number is asked for again at greater length."""
        while True:
            reply = self.endpoint.ask(rubric, stop)
            score = score_reply(reply, self.min_mass)
            if score.cut and self.endpoint.lengthen(reply, score.cut):
                continue
            if score.cut == "thought":
                self.endpoint.say_once(
                    f"was cut short inside a thought after {reply.limit} tokens: such a reply is a missing score. {_NO_THOUGHTS}"
                )
            return score

    def _no_judge(self, n_replies: int, last: Score) -> PersonaInterpError:
        where = f"the judge at {self.endpoint.url}, model {self.endpoint.model!r}, replied {n_replies} times (status 200)"
        if last.cut == "thought":
            return PersonaInterpError(
                f"{where} and was still inside a thought when its tokens were used up, for example {last.text[:80]!r}. "
                f"{_NO_THOUGHTS}"
            )
        return PersonaInterpError(
            f"{where} without one number from 0 to 100, for example {last.text[:80]!r}: it does not follow the rubric. Use a "
            "model that does, or the judge contrast+perplexity, which needs none"
        )
