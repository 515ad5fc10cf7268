"""`generate` of a model, told of as it begins and ends: there the prompt is known, however it is then fed to the model."""

from __future__ import annotations

import inspect
import threading
import types
import weakref
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, TypeAlias

from torch import Tensor, nn

Generating: TypeAlias = Callable[[nn.Module, Tensor | None, Any], AbstractContextManager[None]]
"""``generating(module, ids, mask)``: a block that is entered for as long as `module` generates.

`ids` are the prompts, ``[batch pos]`` or embeddings, None where they are given as something else; `mask` came with them.
"""

_LOCK = threading.Lock()
_WATCHERS: weakref.WeakKeyDictionary[nn.Module, dict[str, list[Generating]]] = weakref.WeakKeyDictionary()


@contextmanager
def watched(module: nn.Module, name: str, generating: Generating) -> Iterator[None]:
    """Enter a block of `generating` around every call of the method `name` of `module` for now.

    Blocks may overlap in any order; after the last one the module is as it was.
    """
    with _LOCK:
        watchers = _WATCHERS.setdefault(module, {}).setdefault(name, [])
        if not watchers:
            # a bound method: a deep copy of the module gets one of its own, which tells nobody
            vars(module)[name] = types.MethodType(_Told(name, vars(module).get(name)), module)
        watchers.append(generating)
    try:
        yield
    finally:
        with _LOCK:
            watchers.remove(generating)
            if not watchers:
                _put_back(module, name)


def _put_back(module: nn.Module, name: str) -> None:
    told = getattr(vars(module).get(name), "__func__", None)
    if not isinstance(told, _Told):
        return  # replaced meanwhile by somebody else, whose it is now
    if told.before is None:
        del vars(module)[name]
    else:
        vars(module)[name] = told.before


class _Told:
    """The method in place of the one that was there, None: that of the class."""

    def __init__(self, name: str, before: Any) -> None:
        self.name = name
        self.before = before

    def __call__(self, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        own = getattr(type(module), self.name) if self.before is None else self.before
        run = types.MethodType(getattr(own, "__func__", own), module) if self.before is None or hasattr(own, "__func__") else own
        watchers = tuple(_WATCHERS.get(module, {}).get(self.name, ()))
        ids, mask = _prompts(run, args, kwargs)

        def told() -> ExitStack:
            stack = ExitStack()
            for generating in watchers:
                stack.enter_context(generating(module, ids, mask))
            return stack

        with told():
            result = run(*args, **kwargs)
        return _streamed(result, told) if inspect.isgenerator(result) else result


def _streamed(steps: Generator[Any, Any, Any], told: Any) -> Iterator[Any]:
    """What a generator yields, told of from its first step to its end."""
    with told():
        yield from steps


def _prompts(run: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Tensor | None, Any]:
    """The prompts and their mask among the arguments of a `generate`."""
    given = {**dict(zip(inspect.signature(run).parameters, args, strict=False)), **kwargs}
    found = (given.get(name) for name in ("inputs_embeds", "inputs", "input_ids", "input"))
    ids = next((ids for ids in found if isinstance(ids, Tensor) and ids.dim() > 1), None)
    return ids, given.get("attention_mask")
