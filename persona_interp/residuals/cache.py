"""Residuals kept on disk, so that no text passes through a model twice.

A folder of safetensors files ("shards"), each with the residuals of many texts: opening thousands of small files would cost more
than reading them. A shard is written whole or not at all, and never changed afterwards.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from persona_interp.errors import FileFormatError, InvalidInputError
from persona_interp.storage import write_bytes

FORMAT_VERSION = 1
_SEPARATOR = "/"


def residual_key(model_fingerprint: str, dtype: torch.dtype, ids: Sequence[int], n_prompt: int, graph_fingerprint: str) -> str:
    """The key of what one graph reads from one row of ids in one model: equal inputs, equal key.

    Args:
        dtype: what the model computes in. One checkpoint has one fingerprint in bfloat16 and float32, but other residuals.
    """
    text = json.dumps([f"{model_fingerprint}:{dtype}", list(ids), n_prompt, graph_fingerprint])
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class ResidualCache:
    """Named tensors under keys, in a folder.

    Example:
        >>> cache = ResidualCache(folder)
        >>> cache.put(key, {"response_avg": residuals})
        >>> cache.read(key, "response_avg", layer=3)

    Args:
        folder: where the shards lie; made on the first write.

    Raises:
        FileFormatError: a shard is damaged.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self._shards: dict[Path, Any] = {}
        self._places: dict[str, Path] = {}
        self._names: dict[str, tuple[str, ...]] = {}
        for path in sorted(self.folder.glob("*.safetensors")):
            self._index(path)

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[str]:
        """The keys there are, in the order they were written."""
        return iter(self._places)

    def names(self, key: str) -> tuple[str, ...]:
        """What is kept under `key`; nothing where the key is unknown."""
        return self._names.get(key, ())

    def get(self, key: str) -> dict[str, Tensor] | None:
        """All tensors under `key`, or None where the key is unknown."""
        if key not in self._places:
            return None
        return {name: self.read(key, name) for name in self._names[key]}

    def read(self, key: str, name: str, *, layer: int | None = None) -> Float[Tensor, "..."]:
        """The tensor `name` under `key`, or only its entry `layer` of the first axis (nothing else is read from disk).

        Raises:
            InvalidInputError: there is no such key, or no such name under it.
            FileFormatError: the shard is damaged.
        """
        if key not in self._places:
            raise InvalidInputError(f"no residuals are cached in {self.folder} under {key!r}: capture that text first")
        if name not in self._names[key]:
            raise InvalidInputError(f"residuals {key!r} have no {name!r}, only {', '.join(self._names[key])}")
        path = self._places[key]
        try:
            piece = self._open(path).get_slice(f"{key}{_SEPARATOR}{name}")
            return piece[:] if layer is None else piece[layer]
        except Exception as error:
            raise _damaged(path, error) from error

    def put(self, key: str, tensors: Mapping[str, Tensor]) -> None:
        """Keep one entry, in a shard of its own. For many, `put_many` is far quicker."""
        self.put_many({key: tensors})

    def put_many(self, entries: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Keep entries, all in one shard; keys already there are left as they are.

        Raises:
            PersonaInterpError: the folder cannot be written, or the disk is full. Nothing half-written is left.
        """
        from safetensors.torch import save

        new = {key: tensors for key, tensors in entries.items() if key not in self._places}
        if not new:
            return
        for key, tensors in new.items():
            if _SEPARATOR in key or not tensors or any(_SEPARATOR in name for name in tensors):
                raise InvalidInputError(
                    f"cannot cache {key!r} -> {sorted(tensors)}: give names without {_SEPARATOR!r}, at least one"
                )
        flat = {
            f"{key}{_SEPARATOR}{name}": t.detach().cpu().contiguous()
            for key, tensors in new.items()
            for name, t in tensors.items()
        }
        digest = hashlib.sha256("".join(sorted(new)).encode()).hexdigest()[:12]
        path = self.folder / f"{len(list(self.folder.glob('*.safetensors'))):05d}-{digest}.safetensors"
        metadata = {"format_version": str(FORMAT_VERSION)}
        write_bytes(path, save(flat, metadata))
        self._index(path)

    def close(self) -> None:
        """Let go of the files, so that the folder can be deleted on every system. Reading opens them again."""
        self._shards.clear()

    def __enter__(self) -> ResidualCache:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _open(self, path: Path) -> Any:
        from safetensors import safe_open

        if path not in self._shards:
            self._shards[path] = safe_open(str(path), framework="pt")
        return self._shards[path]

    def _index(self, path: Path) -> None:
        try:
            names = list(self._open(path).keys())
        except Exception as error:
            raise _damaged(path, error) from error
        for full in names:
            key, separator, name = full.partition(_SEPARATOR)
            if not separator:
                raise _damaged(path, ValueError(f"tensor {full!r} has no key"))
            self._places.setdefault(key, path)
            if self._places[key] == path:
                self._names[key] = (*self._names.get(key, ()), name)


def _damaged(path: Path, error: Exception) -> FileFormatError:
    return FileFormatError(
        f"cached residuals {path} cannot be read ({error}): delete that file, they are computed again when needed"
    )
