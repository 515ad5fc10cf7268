"""A chat model behind an OpenAI-compatible server, as something that answers: of it only what is drawn can be changed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, as_completed
from typing import Any

from persona_interp.blackbox.logit_bias import BOUND
from persona_interp.characters import mended
from persona_interp.errors import InvalidInputError, UnsupportedError
from persona_interp.judges.replies import Reply, reply_in
from persona_interp.models.chat_connection import OPENAI_URL, ChatConnection, ChatFailure
from persona_interp.models.request_pool import RequestPool
from persona_interp.models.results import Generation
from persona_interp.models.sampling import Sampling, row_seeds
from persona_interp.models.thoughts import behind_thought
from persona_interp.traits.conversation import Conversation

_SEEDS = 2**31
_PENALTIES = ("repeat_penalty", "repetition_penalty")
"""What llama.cpp and vLLM call it; a server takes one of them and ignores or refuses the other."""


class EndpointModel:
    """Answers conversations as a `SteerableModel` does, with `Sampling`'s parameters and biases, but shows nothing of its inside.

    The server applies its model's own chat template; a thought that a reply begins with is left out. What `Sampling` leaves open
    is sent all the same (``top_k`` 0, ``min_p`` 0, a penalty of 1), because servers have defaults of their own; a server that
    refuses such a field is not sent it again, unless it was meant to do something. A server's repetition penalty may count the
    tokens of the prompt too, which `Sampling`'s does not, and equal seeds give equal answers only on the same server.

    Example:
        >>> model = EndpointModel("http://localhost:8000/v1")
        >>> model.generate([Conversation.ask("How are you?")], sampling=modulator.sampling(2.0))[0].text

    Args:
        url: where the server's API begins, usually in ``/v1``.
        name: of the model; None: the only one the server has, which is asked for it.
        api_key: ``OPENAI_API_KEY`` if None; a server that needs none gets a placeholder.
        concurrency: requests under way together, at most.
        timeout: seconds one reply may take.
        attempts: how often one question is asked before it counts as failed.
        patience: longest wait, in seconds, that a server may ask for.

    Raises:
        MissingExtraError: the openai package is not installed.
        InvalidInputError: a number out of range, no key for OpenAI's own server, or several models to choose from.
        PersonaInterpError: the server cannot be reached, where its model's name was asked for.
    """

    def __init__(
        self,
        url: str,
        name: str | None = None,
        *,
        api_key: str | None = None,
        concurrency: int = 4,
        timeout: float = 120.0,
        attempts: int = 4,
        patience: float = 60.0,
    ) -> None:
        if concurrency < 1:
            raise InvalidInputError(f"concurrency is {concurrency}: give at least 1 request at a time")
        self.connection = ChatConnection(
            name or "",
            base_url=url,
            api_key=api_key,
            timeout=timeout,
            attempts=attempts,
            patience=patience,
            called="the model",
            feature="an endpoint",
        )
        self.concurrency = concurrency
        self._refused: set[str] = set()
        self.name = self.connection.model = name or self._only_model()

    def __repr__(self) -> str:
        return f"EndpointModel({self.connection.url!r}, {self.name!r})"

    def generate(
        self,
        conversations: Sequence[Conversation],
        *,
        sampling: Sampling | None = None,
        seed: int | Sequence[int] = 0,
        on_generation: Callable[[int, Generation], None] | None = None,
    ) -> list[Generation]:
        """Answer each conversation. Generations hold texts; token ids are the server's own business, and empty.

        Args:
            conversations: what is asked.
            sampling: `Sampling()` if not given.
            seed: as for `SteerableModel.generate`; a server takes 31 bits of it.
            on_generation: called with index and answer as they come, which is in any order.

        Raises:
            InvalidInputError: a bias beyond what servers take.
            UnsupportedError: the server refuses a parameter that would do something.
            PersonaInterpError: the server is down, slow, or talks nonsense; names address, model, status and remedy.
        """
        sampling = sampling or Sampling()
        if wrong := [bias for bias in sampling.logit_bias.values() if abs(bias) > BOUND]:
            raise InvalidInputError(f"a logit bias is {wrong[0]:g}: servers take {-BOUND:g} to {BOUND:g}")
        seeds = row_seeds(seed, len(conversations))
        stop = threading.Event()
        answers: dict[int, Generation] = {}
        pool = RequestPool(self.concurrency, "endpoint")
        try:
            places: dict[Future[Reply], int] = {}
            for place, (asked, number) in enumerate(zip(conversations, seeds, strict=True)):
                places[pool.submit(self._answer, asked, sampling, number % _SEEDS, stop)] = place
            for future in as_completed(places):
                place, reply = places[future], future.result()
                text = behind_thought(mended(reply.text))
                answers[place] = Generation(conversations[place], (), (), text, finished=reply.complete)
                if on_generation is not None:
                    on_generation(place, answers[place])
        finally:
            stop.set()
            pool.close()
        return [answers[place] for place in range(len(conversations))]

    def _answer(self, asked: Conversation, sampling: Sampling, seed: int, stop: threading.Event) -> Reply:
        known: dict[str, Any] = {
            "max_tokens": sampling.max_new_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": seed,
        }
        if sampling.logit_bias:
            known["logit_bias"] = {str(token): bias for token, bias in sampling.logit_bias.items()}
        return self.connection.patiently(lambda: self._attempt(asked.to_json(), known, sampling), stop)

    def _attempt(self, messages: Sequence[Mapping[str, str]], known: Mapping[str, Any], sampling: Sampling) -> Reply:
        while True:
            more = self._more(sampling)
            try:
                return reply_in(self.connection.send(messages, known, more))
            except ChatFailure as failure:
                named = [field for field in more if field in failure.words]
                if failure.status not in (400, 422, 501) or not named:
                    raise
                self._refused.update(named)

    def _more(self, sampling: Sampling) -> dict[str, Any]:
        """The fields that OpenAI's own protocol does not have.

        Raises:
            UnsupportedError: the server takes none for what should do something.
        """
        wanted: dict[str, Any] = {"top_k": sampling.top_k or 0, "min_p": 0.0}
        wanted.update(dict.fromkeys(_PENALTIES, sampling.repetition_penalty))
        refused = set(wanted) if self.connection.url == OPENAI_URL else self._refused
        lost = {
            "top_k": sampling.top_k is not None and "top_k" in refused,
            "repetition_penalty": sampling.repetition_penalty != 1 and set(_PENALTIES) <= refused,
        }
        for name, is_lost in lost.items():
            if is_lost:
                raise UnsupportedError(
                    f"{self.connection.url} takes no {name}, here {getattr(sampling, name):g}: use another server, for example "
                    "llama.cpp's, or --mode logit-bias"
                )
        return {field: value for field, value in wanted.items() if field not in refused}

    def _only_model(self) -> str:
        names = self.connection.served()
        if len(names) != 1:
            some = ", ".join(sorted(names)[:10]) or "none"
            raise InvalidInputError(f"{self.connection.url} has {len(names)} models ({some}): say which with --served-model NAME")
        return names[0]
