"""The folder an evaluation works in: answers and scores under keys of their content, kept as soon as they are made."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from persona_interp.interventions.graph import InterventionGraph
from persona_interp.jsonl_store import JsonlStore, content_key
from persona_interp.judges.cached import CachedJudge
from persona_interp.locks import folder_lock
from persona_interp.measure.arms import Arm, Asked, Positions
from persona_interp.models.results import Generation
from persona_interp.models.sampling import Sampling
from persona_interp.models.steerable import SteerableModel
from persona_interp.progress import say
from persona_interp.traits.conversation import Conversation
from persona_interp.traits.judging import Judge, Judgement
from persona_interp.traits.trait import Trait

ANSWERS, JUDGEMENTS = "answers.jsonl", "judgements.jsonl"
FORMAT_VERSION = 1


class KeptWork:
    """Answers and scores that are on disk, and the making of those that are not.

    A key holds all that an answer or a score depends on, so work done with other settings is never mistaken for this one's, and
    what two evaluations share is made once.

    Args:
        folder: made if it is not there; None: a temporary one, which is kept only if work in it is cut short.

    Raises:
        InUseError: another process works in the folder.
    """

    def __init__(self, folder: str | Path | None) -> None:
        self._temporary = folder is None
        self.folder = Path(tempfile.mkdtemp(prefix="persona-interp-evaluate-") if folder is None else folder)
        with ExitStack() as held:
            if not self._temporary:
                held.enter_context(folder_lock(self.folder))
            self._answers = JsonlStore(self.folder / ANSWERS)
            self._held = held.pop_all()
        self.n_generated = 0
        self.n_judged = 0

    def __enter__(self) -> KeptWork:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        del kind, trace
        self._held.close()
        worth_keeping = error is not None and len(self._answers) > 0
        if worth_keeping and (self._temporary or isinstance(error, KeyboardInterrupt)):
            what = "interrupted" if isinstance(error, KeyboardInterrupt) else "stopped by an error"
            say(
                f"{what}: {len(self._answers)} answers are kept in {self.folder}. Evaluate with that folder "
                f"(folder={str(self.folder)!r}) to go on; none of them is made again"
            )
        if self._temporary and not worth_keeping:
            shutil.rmtree(self.folder, ignore_errors=True)

    def answers(
        self,
        model: SteerableModel,
        arms: Sequence[Arm],
        asked: Asked,
        *,
        positions: Positions,
        sampling: Sampling,
        batch_size: int | None,
    ) -> list[list[str]]:
        """The answers of each arm, in the order of ``asked.rows``; what is missing runs as one batched generation.

        Raises:
            InvalidInputError: as `SteerableModel.generate`.
            PersonaInterpError: the disk is full; what was made is kept.
        """
        shared = [FORMAT_VERSION, model.identity.fingerprint, str(model.dtype), sampling.to_json()]
        waiting: dict[str, tuple[Arm, Conversation, int]] = {}
        keys: list[list[str]] = []
        for arm in arms:
            write, rows = arm.write_key(positions), list(zip(arm.conversations(asked), asked.seeds, strict=True))
            keys.append([content_key(*shared, conversation.to_json(), seed, write) for conversation, seed in rows])
            for key, (conversation, seed) in zip(keys[-1], rows, strict=True):
                if key not in self._answers:
                    waiting.setdefault(key, (arm, conversation, seed))
        self._generate(model, waiting, positions, sampling, batch_size)
        return [[str(self._answers.get(key)["text"]) for key in row] for row in keys]

    def _generate(
        self,
        model: SteerableModel,
        waiting: dict[str, tuple[Arm, Conversation, int]],
        positions: Positions,
        sampling: Sampling,
        batch_size: int | None,
    ) -> None:
        if not waiting:
            return
        order = list(waiting.items())
        graph = InterventionGraph()
        for arm in dict.fromkeys(arm for arm, _, _ in waiting.values()):
            graph += arm.graph([row for row, (_, (own, _, _)) in enumerate(order) if own is arm], positions)

        def keep(row: int, answer: Generation) -> None:
            key, (arm, conversation, _) = order[row]
            described = {"arm": arm.name, "coefficient": arm.coefficient, "messages": conversation.to_json()}
            self._answers.put(key, {**described, "text": answer.text, "finished": answer.finished})
            self.n_generated += 1

        model.generate(
            [conversation for _, (_, conversation, _) in order],
            graph=graph,
            sampling=sampling,
            seed=[seed for _, (_, _, seed) in order],
            batch_size=batch_size,
            on_generation=keep,
        )

    def judgements(self, judge: Judge, trait: Trait, exchanges: Sequence[tuple[str, str]]) -> list[Judgement]:
        """What `judge` says of each (question, answer); see `CachedJudge`.

        Raises:
            InvalidInputError: the judge gave another number of judgements than it was asked for.
        """
        cached = CachedJudge(judge, self.folder / JUDGEMENTS)
        try:
            return cached.judge(trait, exchanges)
        finally:
            self.n_judged += cached.n_asked
