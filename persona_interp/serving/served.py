"""A model being served: from a request to the jobs it asks for."""

from __future__ import annotations

import copy
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from persona_interp.errors import PersonaInterpError
from persona_interp.interventions.graph import InterventionGraph
from persona_interp.models.chat import ChatFormat
from persona_interp.models.engines.registry import check
from persona_interp.models.families import text_config
from persona_interp.models.sampling import fitting_seed, row_seeds
from persona_interp.models.steerable import SteerableModel
from persona_interp.models.texts import RawText, conversations
from persona_interp.serving.answer_text import AnswerText
from persona_interp.serving.dose_guard import Dose, DoseGuard
from persona_interp.serving.errors import ApiError
from persona_interp.serving.exchange import Exchange
from persona_interp.serving.job import Backend, Job, Watch
from persona_interp.serving.metrics import Metrics
from persona_interp.serving.persona_choice import Chosen, chosen, named
from persona_interp.serving.personas import Personas
from persona_interp.serving.schema import ChatRequest, CompletionRequest, GenerationRequest
from persona_interp.serving.watching import watches
from persona_interp.traits.conversation import Conversation


@dataclass(frozen=True)
class Plan:
    """What a request asks for.

    Attributes:
        prompts: ids of each.
        chat: knows where their answers end.
        graph: what is written.
        watches: what is read.
        personas: names of those used, in order.
        told: what answers say of it.
        most: tokens an answer to each prompt may have.
    """

    prompts: Sequence[tuple[int, ...]]
    chat: ChatFormat
    graph: InterventionGraph
    watches: tuple[Watch, ...]
    personas: tuple[str, ...]
    told: dict[str, Any]
    most: tuple[int, ...]


@dataclass(eq=False)
class Served:
    """A model, what answers for it, and the personas it has.

    Attributes:
        model: loaded.
        name: what clients call it.
        backend: makes the answers.
        personas: those there are.
        guard: over their doses.
        max_tokens: an answer may have.
        metrics: what was done.
    """

    model: SteerableModel
    name: str
    backend: Backend
    personas: Personas
    guard: DoseGuard = field(default_factory=DoseGuard)
    max_tokens: int = 1024
    metrics: Metrics = field(default_factory=Metrics)
    _encoding: threading.Lock = field(default_factory=threading.Lock)

    @cached_property
    def _chat(self) -> ChatFormat:
        """A copy to make prompts with, while the engine's thread spells answers with the model's own."""
        chat, own = copy.copy(self.model.chat), self.model.tokenizer
        chat.tokenizer = copy.deepcopy(own) if hasattr(own, "backend_tokenizer") else own  # llama.cpp's can be shared
        return chat

    def plan(self, asked: ChatRequest | CompletionRequest) -> Plan:
        """Everything that can be known before the model runs.

        Raises:
            ApiError: a field that cannot be honoured, named.
            PersonaInterpError: as the persona, the prompt or the engine says.
        """
        fields = [*named(asked.model, self.name), *asked.persona]
        picked = [chosen(each, self.personas, self.model.first_steerable_layer) for each in fields]
        graph, doses, note = self.guard.applied(picked)
        graph.check(n_layers=self.model.n_layers, d_model=self.model.d_model, model_name=self.name)
        check(graph, self.model.capabilities, self.name)
        watched = watches(asked.monitor, self.personas)
        if watched:
            check(InterventionGraph(), self.model.capabilities, self.name, ("captures",))
        self._check_fields(asked)
        with self._encoding:
            prompts = self._chat_prompts(asked) if isinstance(asked, ChatRequest) else self._raw_prompts(asked)
        chat = self.model.chat if isinstance(asked, ChatRequest) else RawText(self.model.chat)
        most = tuple(self._room(prompt, asked) for prompt in prompts)
        told = {"persona": _told(picked, doses, note)} if picked else {}
        return Plan(prompts, chat, graph, watched, tuple(each.persona.name for each in picked), told, most)

    def jobs(self, plan: Plan, asked: ChatRequest | CompletionRequest, exchange: Exchange, seed: int) -> list[Job]:
        """One for each choice: `n` for each prompt, drawn as `SteerableModel.generate` with that seed would."""
        seeds = row_seeds(seed, len(plan.prompts) * asked.n)
        made: list[Job] = []
        for index, own in enumerate(seeds):
            prompt, most = plan.prompts[index // asked.n], plan.most[index // asked.n]
            answer = AnswerText(plan.chat, asked.stop, most, streamed=asked.stream)
            made.append(
                Job(prompt, plan.graph, asked.sampling(most), own, answer, exchange.teller(index), asked.n_top, plan.watches)
            )
        return made

    def seed(self, asked: GenerationRequest, random: int) -> int:
        """The request's seed where it names one."""
        return random if asked.seed is None else fitting_seed(asked.seed)

    def spell(self, token: int) -> str:
        """The text of one token."""
        with self._encoding:
            return self._chat.tokenizer.decode([token], clean_up_tokenization_spaces=False)

    def _check_fields(self, asked: ChatRequest | CompletionRequest) -> None:
        vocabulary = int(text_config(self.model.config).vocab_size)
        if wrong := [token for token in asked.logit_bias if not 0 <= token < vocabulary]:
            raise ApiError(f"logit_bias names token {wrong[0]}: there are 0 to {vocabulary - 1}", param="logit_bias")
        if asked.n_top and not self.backend.top_chances:
            raise ApiError(
                f"{self.model.capabilities.engine} tells the chance of the token drawn and not of others: ask for none",
                param="logprobs" if isinstance(asked, CompletionRequest) else "top_logprobs",
            )

    def _chat_prompts(self, asked: ChatRequest) -> list[tuple[int, ...]]:
        messages = [{**message, "role": _role(message)} for message in asked.messages]
        try:
            (conversation,) = conversations([messages])
            return [tuple(self._chat.prompt_ids(conversation))]
        except PersonaInterpError as error:
            raise ApiError(str(error), param="messages") from error

    def _raw_prompts(self, asked: CompletionRequest) -> list[tuple[int, ...]]:
        raw, vocabulary = RawText(self._chat), int(text_config(self.model.config).vocab_size)
        found: list[tuple[int, ...]] = []
        for prompt in asked.prompts:
            if isinstance(prompt, str):
                ids = raw.prompt_ids(Conversation.ask(prompt)) if prompt.strip() else []
            else:
                ids = prompt
            if not ids or not all(0 <= token < vocabulary for token in ids):
                raise ApiError(
                    f"a prompt of {len(ids)} tokens: give text, or token ids from 0 to {vocabulary - 1}, at least one",
                    param="prompt",
                )
            found.append(tuple(ids))
        if not found or len(found) * asked.n > 128:
            raise ApiError(f"{len(found)} prompts with {asked.n} answers each: ask for 1 to 128 together", param="prompt")
        return found

    def _room(self, prompt: Sequence[int], asked: ChatRequest | CompletionRequest) -> int:
        """Tokens the answer may have."""
        wanted = asked.max_tokens
        if isinstance(asked, ChatRequest):
            wanted = asked.max_completion_tokens or wanted
        left = self.model.n_ctx - len(prompt)
        if left < 1 or (wanted or 1) > left:
            raise ApiError(
                f"the prompt has {len(prompt)} tokens and the answer may have {wanted or 'some'}, but the context of {self.name} "
                f"is {self.model.n_ctx}: shorten one of them",
                code="context_length_exceeded",
                param="messages" if isinstance(asked, ChatRequest) else "prompt",
            )
        if wanted is not None and wanted > self.max_tokens:
            raise ApiError(f"max_tokens is {wanted}, and this server gives at most {self.max_tokens}", param="max_tokens")
        usual = 16 if isinstance(asked, CompletionRequest) else self.max_tokens  # as OpenAI has it
        return wanted or min(left, self.max_tokens, usual)


def _role(message: dict[str, Any]) -> Any:
    return "system" if message.get("role") == "developer" else message.get("role")


def _told(picked: Sequence[Chosen], doses: Sequence[Dose], note: str | None) -> dict[str, Any]:
    told = {"used": [each.said for each in picked]}
    pushed = [{"layer": dose.layer, "ratio": dose.ratio, "limit": dose.limit, "measured": dose.measured} for dose in doses]
    return {**told, "doses": pushed} | ({"note": note} if note else {})
