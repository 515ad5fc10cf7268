"""The folder of an extraction: rollouts and judgements as JSON lines, written as they come, so that nothing is made twice.

``settings.json`` says what the rollouts depend on, ``rollouts.jsonl`` holds them, ``judgements.jsonl`` the scores of one or
several judges, ``residuals/`` what was read from them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from persona_interp.jsonl_store import JsonlFile, check_settings, damaged
from persona_interp.storage import read_json, write_json
from persona_interp.traits.judging import Judgement
from persona_interp.vectors.rollouts.rollout import Rollout, RolloutKey, Slot

FORMAT_VERSION = 1


class RolloutLog:
    """Rollouts on disk. In memory are their keys only. Reading needs no lock; who adds to it holds the folder (`Run`).

    More questions can be asked behind those that were: a rollout goes by the number of its question.

    Args:
        folder: made if it is not there.
        settings: what the rollouts depend on (JSON values); a folder made with others is refused.

    Raises:
        InvalidInputError: the folder holds rollouts made with other settings; names them and the remedy.
        FileFormatError: a file of it is damaged.
        PersonaInterpError: the folder cannot be written.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.folder = folder
        wanted = _with_all_questions(folder / "settings.json", {"format_version": FORMAT_VERSION, **settings})
        check_settings(folder / "settings.json", wanted, holds="rollouts made", beside=self.rollouts_path)
        self._keys: set[RolloutKey] = set()
        self._rollouts = JsonlFile(self.rollouts_path, lambda number, value: self._keys.add(self._rollout(number, value).key))
        self._judgements = JsonlFile(folder / "judgements.jsonl")

    @property
    def rollouts_path(self) -> Path:
        """Where the rollouts are."""
        return self.folder / "rollouts.jsonl"

    def __contains__(self, key: RolloutKey) -> bool:
        return key in self._keys

    def __len__(self) -> int:
        return len(self._keys)

    def append(self, rollout: Rollout) -> None:
        """Write one rollout now; one that is already there is left as it is.

        Raises:
            PersonaInterpError: the disk is full. What was written is kept.
        """
        if rollout.key not in self._keys:
            self._rollouts.append([rollout.to_json()], unless=lambda _line: rollout.key in self._keys)

    def scan(self) -> Iterator[Rollout]:
        """The rollouts, read one at a time, each key once."""
        seen: set[RolloutKey] = set()
        for number, value in self._rollouts.lines():
            rollout = self._rollout(number, value)
            if rollout.key not in seen:
                seen.add(rollout.key)
                yield rollout

    def judgements(self, judge: str) -> dict[RolloutKey, Judgement]:
        """The scores given so far by the judge that goes by this label."""
        found: dict[RolloutKey, Judgement] = {}
        for number, value in self._judgements.lines():
            try:
                if value["judge"] == judge:
                    slot = Slot(*(int(value[name]) for name in Slot._fields))
                    found[RolloutKey(value["sign"], slot)] = Judgement(value["trait"], value["coherence"])
            except (KeyError, TypeError, ValueError) as error:
                raise damaged(self._judgements.path, number, str(error)) from error
        return found

    def judges(self) -> tuple[str, ...]:
        """The labels of the judges that gave scores, in the order they began."""
        return tuple(dict.fromkeys(str(value.get("judge")) for _, value in self._judgements.lines()))

    def append_judgements(self, judge: str, judged: Sequence[tuple[RolloutKey, Judgement]]) -> None:
        """Write scores now."""
        self._judgements.append(
            {
                "judge": judge,
                "sign": key.sign,
                **key.slot._asdict(),
                "trait": judgement.trait,
                "coherence": judgement.coherence,
            }
            for key, judgement in judged
        )

    def _rollout(self, number: int, value: Mapping[str, Any]) -> Rollout:
        return Rollout.from_json(value, source=f"{self.rollouts_path}, line {number}")


def _with_all_questions(path: Path, wanted: dict[str, Any]) -> dict[str, Any]:
    """`wanted`, with the longer of its questions and those recorded at `path` where one list begins as the other: so recorded."""
    asked = wanted.get("questions")
    found = read_json(path, "settings") if path.exists() else {}
    there = found.get("questions")
    if not isinstance(asked, list) or not isinstance(there, list) or asked == there:
        return wanted
    n_shared = min(len(asked), len(there))
    if asked[:n_shared] != there[:n_shared]:
        return wanted
    longer = max(asked, there, key=len)
    if longer == asked and {**found, "questions": asked} == wanted:
        write_json(path, wanted)
    return {**wanted, "questions": longer}
