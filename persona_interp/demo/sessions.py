"""What one visitor has: vectors, jobs under way, a folder for files. Nothing of it is seen by another."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from persona_interp.demo.jobs import Job
from persona_interp.demo.limits import MAX_SESSIONS, MAX_UNDONE, MAX_VECTORS
from persona_interp.demo.talk import Talk
from persona_interp.errors import InvalidInputError, UnknownNameError
from persona_interp.traits.trait import Trait
from persona_interp.vectors.persona_vector import PersonaVector


@dataclass(frozen=True)
class Held:
    """A vector, the model of the page it is for, and its trait where that is known."""

    vector: PersonaVector
    model: str
    trait: Trait | None


class Session:
    """One visitor's things.

    Attributes:
        talk: the conversation of the chat.
        refines: model and trait of the vector that is or was refined last.
        steered: what Steer showed, each with the values of its controls, the newest last.

    Args:
        folder: for files to download; removed with the session.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.talk = Talk()
        self.refines: tuple[str, str] | None = None
        self.steered: deque[tuple[tuple[Any, ...], Any]] = deque(maxlen=MAX_UNDONE)
        self._vectors: OrderedDict[str, Held] = OrderedDict()
        self._jobs: dict[str, Job[Any]] = {}
        self._lock = threading.Lock()

    # -- vectors ---------------------------------------------------------------------------------------------------

    def keep(self, label: str, vector: PersonaVector, model: str, *, trait: Trait | None = None, replace: bool = False) -> str:
        """Hold a vector for a model of the page under `label`, or under that with a number where it is taken; the label used.

        What one model has under a label takes the place of what it had there before if `replace` is set.

        The oldest goes where there are too many.
        """
        with self._lock:
            chosen, number = label, 2
            while chosen in self._vectors and not (replace and self._vectors[chosen].model == model):
                chosen, number = f"{label} ({number})", number + 1
            self._vectors[chosen] = Held(vector, model, trait)
            self._vectors.move_to_end(chosen)
            while len(self._vectors) > MAX_VECTORS:
                self._vectors.popitem(last=False)
            return chosen

    def held(self, label: str, model: str) -> Held:
        """What is under `label`, for a model of the page.

        Raises:
            UnknownNameError: there is none.
        """
        with self._lock:
            held = self._vectors.get(label)
        if held is None or held.model != model:
            raise UnknownNameError(f"there is no vector {label!r} for {model} in this session: choose one from the list")
        return held

    def labels(self, model: str) -> list[str]:
        """Labels of the vectors for a model of the page, the newest first."""
        with self._lock:
            return [label for label, held in reversed(self._vectors.items()) if held.model == model]

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

    def job(self, place: str) -> Job[Any] | None:
        """The latest job in a place, whether it still runs or not."""
        with self._lock:
            return self._jobs.get(place)

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
        """The session of that name, begun if it is new.

        Raises:
            InvalidInputError: a request without a name; it would share its session with all others like it.
        """
        if not name:
            raise InvalidInputError("this request is of no session: open the page in a browser, which names its own")
        gone: Session | None = None
        with self._lock:
            if name not in self._sessions:
                self._sessions[name] = Session(Path(tempfile.mkdtemp(dir=self.folder)))
            self._sessions.move_to_end(name)
            session = self._sessions[name]
            if len(self._sessions) > MAX_SESSIONS:
                gone = self._sessions.popitem(last=False)[1]
        if gone is not None:
            gone.close()
        return session

    def drop(self, name: str | None) -> None:
        """End a session."""
        with self._lock:
            session = self._sessions.pop(name or "", None)
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
