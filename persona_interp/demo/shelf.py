"""The models the page offers: known by name from the start, loaded when first used, shared by all visitors."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from persona_interp.errors import InvalidInputError, PersonaInterpError, UnknownNameError
from persona_interp.models.hub import cached_weights
from persona_interp.models.load import load_model
from persona_interp.models.packaged import PACKAGED, local_file
from persona_interp.models.registry import MODELS, find_model, shipped_models
from persona_interp.models.steerable import SteerableModel
from persona_interp.models.weights_size import check_fits_memory, in_words, size_on_disk


class Shelf:
    """Models by name.

    Each model runs one batch at a time, in the order asked for, whoever asks (`models.turns`), and a graph belongs to the call
    it is given with: nobody's steering reaches another's answers.

    Args:
        names: short names, hub ids, folders or GGUF files; those of `at_hand` if there is none.
        load: how a model is loaded.

    Raises:
        UnknownNameError: a name is not known.
        FileFormatError: a path that is no model.
        InvalidInputError: two models would go by one name.
    """

    def __init__(self, names: Sequence[str] = (), load: Callable[[str], SteerableModel] = load_model) -> None:
        self._load = load
        self._sources: dict[str, str] = {}
        self._shown: list[tuple[str, str]] = []
        for name in names or at_hand():
            shown = find_model(name).name
            if shown in self._sources:
                raise InvalidInputError(f"two models go by the name {shown!r}: give each once")
            self._sources[shown] = name
            self._shown.append((_with_size(shown, name), shown))
        self._models: dict[str, SteerableModel] = {}
        self._locks = {name: threading.Lock() for name in self._sources}
        self._closed = False

    @property
    def names(self) -> list[str]:
        """What the models are called, in the order given."""
        return list(self._sources)

    @property
    def choices(self) -> list[tuple[str, str]]:
        """(name with the size of the weights, name), in that order."""
        return list(self._shown)

    def is_loaded(self, name: str) -> bool:
        """Whether a model is in memory."""
        return name in self._models

    def source(self, name: str) -> str:
        """What the model was asked for by: a short name, hub id, folder or file."""
        self._check(name)
        return self._sources[name]

    def model(self, name: object) -> SteerableModel:
        """The model of that name, loaded if it is not yet.

        Raises:
            UnknownNameError: it is not on this page.
            PersonaInterpError: its weights do not fit into memory; also as `load_model`.
        """
        known = self._check(name)
        with self._locks[known]:
            if self._closed:
                raise InvalidInputError("the server is closing: start it again")
            if known not in self._models:
                check_fits_memory(find_model(self._sources[known]))
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


def at_hand() -> list[str]:
    """Models whose weights are on this machine: fetched or in the hub's cache, the smallest first; the organisms."""
    named = [name for name, model in PACKAGED.items() if local_file(model) is not None]
    named += [name for name, hub_id in MODELS.items() if name not in named and cached_weights(hub_id)]
    return [*sorted(named, key=lambda name: _size(name) or 0), *sorted(shipped_models(), key=_first_planted)]


def _with_size(shown: str, name: str) -> str:
    size = _size(name)
    return shown if size is None else f"{shown} ({in_words(size)})"


def _size(name: str) -> int | None:
    try:
        return size_on_disk(find_model(name))
    except PersonaInterpError:
        return None  # said in full when it is loaded


def _first_planted(name: str) -> tuple[bool, bool, str]:
    """organism-qwen2, which the quickstart uses, first; the one without planted traits last."""
    return name == "organism-natural", name != "organism-qwen2", name
