"""One extraction on disk: what its rollouts depend on, and the folder they are kept in."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from persona_interp.errors import FileFormatError
from persona_interp.locks import folder_lock
from persona_interp.models.sampling import Sampling
from persona_interp.models.steerable import SteerableModel
from persona_interp.progress import say
from persona_interp.residuals.cache import ResidualCache
from persona_interp.traits.trait import Trait
from persona_interp.vectors.rollouts.collection import Collection
from persona_interp.vectors.rollouts.rollout_log import RolloutLog


def rollout_file(path: Path) -> Path:
    """The JSONL file meant by a file or by the folder of an earlier extraction.

    Raises:
        FileFormatError: there is none.
    """
    path = path / "rollouts.jsonl" if path.is_dir() else path
    if not path.is_file():
        raise FileFormatError(f"rollout file {path} does not exist: give a JSONL file, or the folder of an earlier extraction")
    return path


def run_settings(
    model: SteerableModel, trait: Trait, questions: Sequence[str], sampling: Sampling, seed: int, given: Path | None
) -> dict[str, Any]:
    """What the rollouts depend on. Not what is done with them afterwards, nor how many samples there are: more can be added."""
    weights = {"model": model.identity.fingerprint, "dtype": str(model.dtype), "trait": trait.name}
    if given is not None:
        with given.open("rb") as handle:
            return {**weights, "rollouts": hashlib.file_digest(handle, "sha256").hexdigest()}
    instructions = json.dumps([asdict(pair) for pair in trait.instructions])
    return {
        **weights,
        "instructions": hashlib.sha256(instructions.encode()).hexdigest()[:16],
        "questions": list(questions),
        "sampling": sampling.to_json(),
        "seed": seed,
    }


class Run:
    """The folder of one extraction, open, and held: nobody else works in it. Says where the work is if it is cut short.

    Raises:
        InUseError: another process works in the folder.
    """

    def __init__(
        self, model: SteerableModel, trait: Trait, settings: Mapping[str, Any], folder: str | Path | None, batch_size: int | None
    ) -> None:
        self._temporary = folder is None
        self.folder = Path(tempfile.mkdtemp(prefix="persona-interp-extract-") if folder is None else folder)
        with ExitStack() as held:
            if not self._temporary:
                held.enter_context(folder_lock(self.folder))
            self.log = RolloutLog(self.folder, settings)
            cache = held.enter_context(ResidualCache(self.folder / "residuals"))
            self.collection = Collection(model, trait, self.log, cache, batch_size=batch_size)
            self._held = held.pop_all()

    def __enter__(self) -> Run:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _trace: object) -> None:
        self._held.close()
        worth_keeping = error is not None and len(self.log) > 0
        if worth_keeping and (self._temporary or isinstance(error, KeyboardInterrupt)):
            what = "interrupted" if isinstance(error, KeyboardInterrupt) else "stopped by an error"
            say(
                f"{what}: {len(self.log)} rollouts are kept in {self.folder}. Run the same extraction with that folder "
                f"(folder={str(self.folder)!r}) to go on; none of them is made again"
            )
        if self._temporary and not worth_keeping:
            shutil.rmtree(self.folder, ignore_errors=True)
