"""The models the page offers: known by name from the start, loaded when first used, shared by all visitors."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from persona_interp.errors import InvalidInputError, UnknownNameError
from persona_interp.models.load import load_model
from persona_interp.models.registry import find_model, shipped_models
from persona_interp.models.steerable import SteerableModel


class Shelf:
    """Models by name.

    Each model runs one batch at a time, in the order asked for, whoever asks (`models.turns`), and a graph belongs to the call
    it is given with: nobody's steering reaches another's answers.

    Args:
        names: short names, hub ids, folders or GGUF files; the bundled organisms if there is none.
        load: how a model is loaded.

    Raises:
        UnknownNameError: a name is not known.
        FileFormatError: a path that is no model.
        InvalidInputError: two models would go by one name.
    """

    def __init__(self, names: Sequence[str] = (), load: Callable[[str], SteerableModel] = load_model) -> None:
        self._load = load
        self._sources: dict[str, str] = {}
        for name in names or sorted(shipped_models(), key=_first_planted):
            shown = find_model(name).name
            if shown in self._sources:
                raise InvalidInputError(f"two models go by the name {shown!r}: give each once")
            self._sources[shown] = name
        self._models: dict[str, SteerableModel] = {}
        self._locks = {name: threading.Lock() for name in self._sources}
        self._closed = False

    @property
    def names(self) -> list[str]:
        """What the models are called, in the order given."""
        return list(self._sources)

    def source(self, name: str) -> str:
        """What the model was asked for by: a short name, hub id, folder or file."""
        self._check(name)
        return self._sources[name]

    def model(self, name: object) -> SteerableModel:
        """The model of that name, loaded if it is not yet.

        Raises:
            UnknownNameError: it is not on this page.
            PersonaInterpError: as `load_model`.
        """
        known = self._check(name)
        with self._locks[known]:
            if self._closed:
                raise InvalidInputError("the server is closing: start it again")
            if known not in self._models:
                self._models[known] = self._load(self._sources[known])
            return self._models[known]

    def close(self) -> None:
        """Free every model; none is loaded any more."""
        self._closed = True
        for name, lock in self._locks.items():
            with lock:
                model = self._models.pop(name, None)
                if model is not None:
                    model.close()

    def _check(self, name: object) -> str:
        if not isinstance(name, str) or name not in self._sources:
            raise UnknownNameError(f"model {name!r} is not on this page. There are {', '.join(self._sources)}")
        return name


def _first_planted(name: str) -> tuple[bool, bool, str]:
    """organism-qwen2, which the quickstart uses, first; the one without planted traits last."""
    return name == "organism-natural", name != "organism-qwen2", name
