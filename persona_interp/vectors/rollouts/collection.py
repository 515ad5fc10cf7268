"""Filling the folder of an extraction: rollouts, their residuals and their scores, each made once and kept as it comes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

import torch
from jaxtyping import Float
from torch import Tensor

from persona_interp.errors import FileFormatError, InvalidInputError, PersonaInterpError
from persona_interp.interventions.graph import Capture, InterventionGraph
from persona_interp.models.chat import TokenisedAnswer
from persona_interp.models.results import Generation
from persona_interp.models.sampling import Sampling
from persona_interp.models.steerable import SteerableModel
from persona_interp.progress import track
from persona_interp.residuals.cache import ResidualCache, residual_key
from persona_interp.residuals.pooling import ANSWER_NORM, POOLINGS
from persona_interp.traits.conversation import Conversation
from persona_interp.traits.judging import Judge, Judgement
from persona_interp.traits.trait import Trait
from persona_interp.vectors.rollouts.rollout import Rollout, RolloutKey
from persona_interp.vectors.rollouts.rollout_log import RolloutLog

_POOLED = InterventionGraph(tuple(POOLINGS.values()))
READING = _POOLED + InterventionGraph((ANSWER_NORM,))
"""What is read from every rollout: all three poolings at every layer, so that another choice of positions costs nothing later,
and the norm of single positions."""

_NORM = "answer_norm"
"""The name in the cache of what `ANSWER_NORM` reads, ``[layer]``."""

_AT_ONCE = 128  # rollouts in memory together; bounds what is lost if the machine goes down while a judge is slow
_RESIDUALS_A_FILE = 32


def rollout_key(rollout: Rollout, model: str, dtype: torch.dtype) -> str:
    """Where the residuals of a rollout are in the cache.

    Args:
        rollout: answered by the model.
        model: its fingerprint.
        dtype: it computed in.
    """
    # by the graph of before the norm was read everywhere, so that what was read then is still found
    ids = (*rollout.prompt_ids, *rollout.answer_ids)
    return residual_key(model, dtype, ids, len(rollout.prompt_ids), _POOLED.fingerprint())


class Collection:
    """Everything one extraction makes with its model, kept in a log and a cache.

    Args:
        model: answers and is read.
        trait: what is asked of the judge.
        log: where rollouts and scores go.
        cache: where residuals go.
        batch_size: rows the model runs together; None lets it choose.
    """

    def __init__(
        self, model: SteerableModel, trait: Trait, log: RolloutLog, cache: ResidualCache, *, batch_size: int | None
    ) -> None:
        self.model = model
        self.trait = trait
        self.log = log
        self.cache = cache
        self.batch_size = batch_size
        self._unsaved: dict[str, dict[str, Tensor]] = {}

    def residual_key(self, rollout: Rollout) -> str:
        """Where the residuals of a rollout are in the cache."""
        return rollout_key(rollout, self.model.identity.fingerprint, self.model.dtype)

    # -- rollouts --------------------------------------------------------------------------------------------------

    def generate(
        self, keys: Sequence[RolloutKey], questions: Sequence[str], sampling: Sampling, seed: int, judge: Judge | None
    ) -> None:
        """Make the rollouts of `keys` that are not in the log, reading them meanwhile, and have them judged chunk by chunk."""
        missing = [key for key in keys if key not in self.log]
        with track(len(missing), f"{self.trait.name}: rollouts") as bar:
            while missing:
                chunk = missing[:_AT_ONCE]
                missing = missing[len(chunk) :]
                bar.part = len(chunk)
                made = self._generate_chunk(chunk, questions, sampling, seed)
                if judge is not None:
                    self._judge(made, judge)
                bar.advance(len(chunk))

    def _generate_chunk(
        self, keys: Sequence[RolloutKey], questions: Sequence[str], sampling: Sampling, seed: int
    ) -> list[Rollout]:
        conversations = [self._conversation(key, questions) for key in keys]
        made: list[Rollout] = []

        def keep(index: int, generation: Generation) -> None:
            rollout = Rollout(
                key=keys[index],
                conversation=generation.conversation,
                answer=generation.text,
                prompt_ids=generation.prompt_ids,
                answer_ids=generation.answer_ids,
                finished=generation.finished,
                model=self.model.identity.fingerprint,
            )
            self.log.append(rollout)
            self._keep_residuals(rollout, generation.captured)
            made.append(rollout)

        try:
            self.model.generate(
                conversations,
                graph=READING,
                sampling=sampling,
                seed=[key.seed(seed) for key in keys],
                batch_size=self.batch_size,
                on_generation=keep,
            )
        finally:
            self._save_residuals()
        return made

    def _conversation(self, key: RolloutKey, questions: Sequence[str]) -> Conversation:
        pair = self.trait.instructions[key.slot.instruction]
        return Conversation.ask(questions[key.slot.question], pair.positive if key.sign == "positive" else pair.negative)

    def take(self, rollouts: Iterable[Rollout]) -> list[RolloutKey]:
        """Put rollouts given by the user into the log, as ids of this model; returns their keys.

        Ids that this model made are used as they are. Texts are tokenised with its chat format.

        Raises:
            FileFormatError: two of them have the same sign, instruction, question and sample.
            InvalidInputError: one is longer than the model's context.
        """
        keys: dict[RolloutKey, None] = {}
        for number, rollout in enumerate(rollouts, start=1):
            if rollout.key in keys:
                raise FileFormatError(f"rollout {number} repeats {_name(rollout.key)}: leave one of them out")
            keys[rollout.key] = None
            if rollout.key not in self.log:
                self.log.append(self._with_ids(rollout))
        return list(keys)

    def _with_ids(self, rollout: Rollout) -> Rollout:
        fingerprint = self.model.identity.fingerprint
        if rollout.model != fingerprint or not rollout.answer_ids:
            row = self.model.chat.tokenise(rollout.conversation, rollout.answer)
            rollout = Rollout(
                rollout.key,
                rollout.conversation,
                rollout.answer,
                row.prompt_ids,
                row.answer_ids,
                True,
                fingerprint,
                rollout.judgement,
            )
        length = len(rollout.prompt_ids) + len(rollout.answer_ids) - 1
        if length > self.model.n_ctx:
            raise InvalidInputError(
                f"the rollout of {_name(rollout.key)} has {length} tokens, more than the {self.model.n_ctx} of "
                f"{self.model.name}: shorten it or leave it out"
            )
        return rollout

    # -- residuals -------------------------------------------------------------------------------------------------

    def read_missing(self) -> None:
        """Read the rollouts in the log whose residuals are not in the cache: those given as texts, and any lost to a crash."""
        unread = (rollout for rollout in self.log.scan() if rollout.readable and self.residual_key(rollout) not in self.cache)
        while chunk := list(islice(unread, _AT_ONCE)):
            self._read_chunk(chunk)

    def _read_chunk(self, rollouts: Sequence[Rollout]) -> None:
        rows = [TokenisedAnswer((*rollout.prompt_ids, *rollout.answer_ids), len(rollout.prompt_ids)) for rollout in rollouts]
        captured = self.model.capture(rows, READING, batch_size=self.batch_size)
        for rollout, found in zip(rollouts, captured, strict=True):
            self._keep_residuals(rollout, found)
        self._save_residuals()

    def _keep_residuals(self, rollout: Rollout, captured: Mapping[Capture, Tensor]) -> None:
        if not rollout.readable:
            return
        entry = {name: captured[capture].float() for name, capture in POOLINGS.items()}
        entry[_NORM] = captured[ANSWER_NORM][:, 0].float()
        self._unsaved[self.residual_key(rollout)] = entry
        if len(self._unsaved) >= _RESIDUALS_A_FILE:
            self._save_residuals()

    def _save_residuals(self) -> None:
        self.cache.put_many(self._unsaved)
        self._unsaved = {}

    def resid_norm(self, residual_keys: Iterable[str]) -> tuple[Float[Tensor, " layer"] | None, int]:
        """Mean over the texts of the mean norm of their single answer positions, per layer, and over how many texts.

        Folders of before hold that norm for the first texts only.
        """
        total, n = None, 0
        for key in residual_keys:
            if _NORM in self.cache.names(key):
                norm = self.cache.read(key, _NORM).double()
                total, n = norm if total is None else total + norm, n + 1
        return (None if total is None else (total / n).float()), n

    # -- scores ----------------------------------------------------------------------------------------------------

    def judge_missing(self, judge: Judge, wanted: Iterable[RolloutKey]) -> dict[RolloutKey, Judgement]:
        """Have the rollouts judged that this judge has not seen; returns the scores of all."""
        label, keys = self.judge_label(judge), set(wanted)
        known = self.log.judgements(label)
        unjudged = [key for key in keys if key not in known]
        if unjudged:
            with track(len(unjudged), f"{self.trait.name}: judging") as bar:
                rollouts = (rollout for rollout in self.log.scan() if rollout.key in keys and rollout.key not in known)
                while chunk := list(islice(rollouts, _AT_ONCE)):
                    self._judge(chunk, judge)
                    bar.advance(len(chunk))
            known = self.log.judgements(label)
        return {key: judgement for key, judgement in known.items() if key in keys}

    def judge_label(self, judge: Judge) -> str:
        """What scores are filed under: the judge's name and what it was asked to look for."""
        trait = json.dumps([self.trait.name, self.trait.description, self.trait.rubric])
        return f"{judge.name} {hashlib.sha256(trait.encode()).hexdigest()[:12]}"

    def _judge(self, rollouts: Sequence[Rollout], judge: Judge) -> None:
        judgements = judge.judge(self.trait, [(rollout.conversation.question, rollout.answer) for rollout in rollouts])
        if len(judgements) != len(rollouts):
            raise PersonaInterpError(
                f"judge {judge.name!r} gave {len(judgements)} scores for {len(rollouts)} answers: it must give one each"
            )
        keys = [rollout.key for rollout in rollouts]
        self.log.append_judgements(self.judge_label(judge), list(zip(keys, judgements, strict=True)))


def _name(key: RolloutKey) -> str:
    return f"the {key.sign} answer to question {key.slot.question}, instruction {key.slot.instruction}, sample {key.slot.sample}"
