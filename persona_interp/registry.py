"""Things of one kind by name, and the plug-ins that add to them."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from importlib.metadata import entry_points
from pkgutil import iter_modules
from typing import Generic, TypeVar

from persona_interp.errors import InvalidInputError, unknown_name
from persona_interp.progress import say

T = TypeVar("T")

PLUGINS = ("persona_interp.organisms.plugin",)
"""Modules of this package that nothing below them imports: importing one registers what it brings."""
PLUGIN_GROUP = "persona_interp.plugins"
"""Entry points of other packages that are loaded with them."""

_LOCK = threading.RLock()  # one for all registries: what one loads may register with another
_begun: set[str] = set()
_done: set[str] = set()


class Registry(Mapping[str, T], Generic[T]):
    """Name -> thing, in a fixed order; a name is given once.

    Whatever reads it has the modules of `home`, the plug-ins and the entry points of `group` imported first, and by that
    registered. Nothing is imported before, so a command line that names a registry starts at once.

    Example:
        >>> SHAPES: Registry[type] = Registry("shape", "my_package.shapes")
        >>> SHAPES.register("round", Round)
        >>> SHAPES.find("rond")
        UnknownNameError: unknown shape 'rond'. Did you mean 'round'? Known: round.

    Args:
        kind: what the things are, for messages.
        group: the entry points of other packages that add to it. Loading one must register.
        home: a module, or a package all of whose modules, that register what is built in.
        first: names that are listed before all others, in this order; the rest is in the order of registration.
    """

    def __init__(self, kind: str, group: str, *, home: str | None = None, first: Sequence[str] = ()) -> None:
        self.kind, self.group, self._home, self._first = kind, group, home, tuple(first)
        self._found: dict[str, T] = {}

    def register(self, name: str, thing: T, *, by: object = None, again: bool = False) -> None:
        """Let `thing` be known as `name`.

        Args:
            name: not given yet.
            thing: what it names.
            by: what was registered, if `thing` only wraps it; tells whose it is.
            again: what has the name may be given it once more.

        Raises:
            InvalidInputError: the name is taken.
        """
        # modules of this package are on their way in: to import the others now would be a circle
        if not str(getattr(thing if by is None else by, "__module__", "")).startswith("persona_interp."):
            self._load()
        if name in self._found and not (again and self._found[name] is thing):
            owner = getattr(self._found[name], "__qualname__", None)
            whose = f" by {owner}" if owner else ""
            raise InvalidInputError(f"{self.kind} {name!r} is already registered{whose}: choose another name")
        self._found[name] = thing

    def find(self, name: str, remedy: str = "") -> T:
        """The thing of that name.

        Raises:
            UnknownNameError: there is none; lists those there are and the closest.
        """
        if name not in self:
            raise unknown_name(self.kind, name, self, remedy)
        return self[name]

    def __getitem__(self, name: str) -> T:
        self._load()
        return self._found[name]

    def __iter__(self) -> Iterator[str]:
        self._load()
        found = tuple(self._found)
        return iter([*(name for name in self._first if name in found), *(name for name in found if name not in self._first)])

    def __len__(self) -> int:
        self._load()
        return len(self._found)

    def _load(self) -> None:
        if self.group in _done:
            return
        with _LOCK:
            if self.group in _begun:  # what is being loaded asks for its own registry: it sees what there is so far
                return
            _begun.add(self.group)
            try:
                for module in () if self._home is None else _modules(self._home):
                    import_module(module)
                load_plugins()
                _load_entry_points(self.group)
            except BaseException:
                _begun.discard(self.group)
                raise
            _done.add(self.group)


def _modules(home: str) -> list[str]:
    """A module, or all of a package."""
    path = getattr(import_module(home), "__path__", None)
    return [home] if path is None else sorted(f"{home}.{module.name}" for module in iter_modules(path))


def load_plugins() -> None:
    """Import `PLUGINS`, and the entry points of `PLUGIN_GROUP`, unless that was done."""
    with _LOCK:
        if PLUGIN_GROUP in _begun:
            return
        _begun.add(PLUGIN_GROUP)
        try:
            for module in PLUGINS:
                import_module(module)
        except BaseException:
            _begun.discard(PLUGIN_GROUP)
            raise
        _load_entry_points(PLUGIN_GROUP)


def _load_entry_points(group: str) -> None:
    """Those of installed packages. One that fails is left out, and said: it must not take down everything else."""
    for entry in entry_points(group=group):
        try:
            entry.load()
        except Exception as error:  # whatever somebody else's code raises
            say(f"warning: the plug-in {entry.name!r} ({entry.value}) cannot be loaded and is left out: {error}")
