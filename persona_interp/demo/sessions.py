"""What one visitor has: vectors, jobs under way, a folder for files. Nothing of it is seen by another."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from persona_interp.demo.jobs import Job
from persona_interp.demo.limits import MAX_SESSIONS, MAX_VECTORS
from persona_interp.errors import UnknownNameError
from persona_interp.models.identity import ModelIdentity
from persona_interp.vectors.basis import same_basis
from persona_interp.vectors.persona_vector import PersonaVector


class Session:
    """One visitor's things.

    Args:
        folder: for files to download; removed with the session.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._vectors: OrderedDict[str, PersonaVector] = OrderedDict()
        self._jobs: dict[str, Job[Any]] = {}
        self._lock = threading.Lock()

    # -- vectors ---------------------------------------------------------------------------------------------------

    def keep(self, label: str, vector: PersonaVector, *, replace: bool = False) -> str:
        """Hold `vector` under `label`, or under that with a number where it is taken and not to be replaced; the label used.

        The oldest goes where there are too many.
        """
        with self._lock:
            chosen, number = label, 2
            while not replace and chosen in self._vectors:
                chosen, number = f"{label} ({number})", number + 1
            self._vectors[chosen] = vector
            self._vectors.move_to_end(chosen)
            while len(self._vectors) > MAX_VECTORS:
                self._vectors.popitem(last=False)
            return chosen

    def vector(self, label: str) -> PersonaVector:
        """The vector under `label`.

        Raises:
            UnknownNameError: there is none.
        """
        with self._lock:
            if label not in self._vectors:
                raise UnknownNameError(f"there is no vector {label!r} in this session: choose one from the list")
            return self._vectors[label]

    def labels(self, model: ModelIdentity | None = None) -> list[str]:
        """Labels of all vectors, or of those in the basis of `model`, the newest first."""
        with self._lock:
            held = reversed(self._vectors.items())
            return [label for label, vector in held if model is None or same_basis(vector.model, model)]

    # -- jobs ------------------------------------------------------------------------------------------------------

    def start(self, place: str, work: Callable[[Job[Any]], None]) -> Job[Any]:
        """Begin a job; the one before it in the same place is stopped."""
        job = Job(work)
        with self._lock:
            before = self._jobs.get(place)
            self._jobs[place] = job
        if before is not None:
            before.stop()
        return job.start()

    def stop(self, place: str) -> bool:
        """Stop the job in a place; whether there was one running."""
        with self._lock:
            job = self._jobs.get(place)
        if job is None or not job.running:
            return False
        job.stop()
        return True

    def close(self) -> None:
        """Stop all jobs and remove the files."""
        with self._lock:
            jobs = list(self._jobs.values())
            self._jobs.clear()
            self._vectors.clear()
        for job in jobs:
            job.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


class Sessions:
    """Every visitor's session, by the name the browser goes by. The one not used for longest goes where there are too many."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="persona-interp-demo-"))
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, name: str | None) -> Session:
        """The session of that name, begun if it is new."""
        key = name or "nameless"
        gone: Session | None = None
        with self._lock:
            if key not in self._sessions:
                self._sessions[key] = Session(Path(tempfile.mkdtemp(dir=self.folder)))
            self._sessions.move_to_end(key)
            session = self._sessions[key]
            if len(self._sessions) > MAX_SESSIONS:
                gone = self._sessions.popitem(last=False)[1]
        if gone is not None:
            gone.close()
        return session

    def drop(self, name: str | None) -> None:
        """End a session."""
        with self._lock:
            session = self._sessions.pop(name or "nameless", None)
        if session is not None:
            session.close()

    def close(self) -> None:
        """End all of them and remove their files."""
        with self._lock:
            sessions = list(self._sessions.values())
            self._sessions.clear()
        for session in sessions:
            session.close()
        shutil.rmtree(self.folder, ignore_errors=True)
