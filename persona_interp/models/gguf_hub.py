"""GGUF files on the hub: fetched in pieces if need be, and believed only when their sha256 is the one the hub states."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from persona_interp.errors import FileFormatError, InvalidInputError, PersonaInterpError, unknown_name
from persona_interp.models.hub import hub_reachable
from persona_interp.progress import say
from persona_interp.storage import ensure_writable

_T = TypeVar("_T")


@dataclass(frozen=True)
class GgufOnHub:
    """Where a GGUF file lies.

    Attributes:
        hub_id: repository.
        filename: in it.
        note: what should be known about the entry.
    """

    hub_id: str
    filename: str
    note: str = ""


@dataclass(frozen=True)
class StatedFile:
    """What the hub says of a file: its size in bytes and its sha256."""

    size: int
    sha256: str


GGUF_FILES: Mapping[str, GgufOnHub] = MappingProxyType(
    {
        "gpt-oss-20b": GgufOnHub(
            "ggml-org/gpt-oss-20b-GGUF",
            "gpt-oss-20b-mxfp4.gguf",
            note="this entry could not be tried against the real hub; if the file has another name there, give --repo and --file",
        )
    }
)
"""Short name -> GGUF file."""


def find_gguf(name: str) -> GgufOnHub:
    """The entry of a short name.

    Raises:
        UnknownNameError: there is none; lists the known ones.
    """
    if name not in GGUF_FILES:
        raise unknown_name("GGUF file", name, GGUF_FILES)
    return GGUF_FILES[name]


def download_gguf(wanted: GgufOnHub, folder: Path, *, revision: str | None = None, endpoint: str | None = None) -> Path:
    """Fetch a file into `folder`. What an earlier run left unfinished is gone on with.

    Args:
        wanted: which.
        folder: made if need be.
        revision: branch, tag or commit; None: the main branch.
        endpoint: address of the hub; ``HF_ENDPOINT``, or the hub itself, if None.

    Returns:
        Its path. The file there has the size and sha256 that the hub states now.

    Raises:
        PersonaInterpError: the hub cannot be reached or breaks off, too little space on the disk, or the repository is gated.
        InvalidInputError: no such repository, revision or file.
        FileFormatError: what came is not what the hub states; it is removed.
    """
    from huggingface_hub import constants

    stated = stated_file(wanted, revision=revision, endpoint=endpoint)
    path = folder / wanted.filename.rsplit("/", 1)[-1]
    if path.is_file() and path.stat().st_size == stated.size and sha256_of(path) == stated.sha256:
        say(f"{path} is there already, and is what the hub states")
        return path
    part = path.with_name(f".{path.name}.{stated.sha256[:16]}.part")  # of this content only
    here = part.stat().st_size if part.is_file() else 0
    ensure_writable(path, space=max(0, stated.size - here))
    if here > stated.size:
        part.unlink()
        here = 0
    say(f"{path.name}: {stated.size / 1e9:.2f} GB" + (f", of which {here / 1e9:.2f} GB are here" if here else ""))
    _fetch(wanted, part, stated.size, revision, endpoint or constants.ENDPOINT)
    say(f"checking {path.name} against the sha256 that the hub states")
    found = sha256_of(part)
    if found != stated.sha256:
        part.unlink()
        raise FileFormatError(
            f"{wanted.filename} of {wanted.hub_id} arrived damaged: its sha256 is {found}, the hub states {stated.sha256}. It "
            "was removed: download it again"
        )
    part.replace(path)
    return path


def stated_file(wanted: GgufOnHub, *, revision: str | None = None, endpoint: str | None = None) -> StatedFile:
    """Size and sha256 of a file as the hub states them now.

    Raises:
        PersonaInterpError: as `download_gguf`.
        InvalidInputError: no such repository, revision or file.
        FileFormatError: the hub states no sha256.
    """
    from huggingface_hub import HfApi, constants

    if endpoint is None and not hub_reachable():
        raise PersonaInterpError(
            f"the hub ({constants.ENDPOINT}) cannot be reached, or HF_HUB_OFFLINE is set: connect, or set HF_ENDPOINT to a "
            f"mirror. {wanted.filename} of {wanted.hub_id} fetched on another machine will do as well, as --model FILE"
        )
    api = HfApi(endpoint=endpoint)
    found: Any = _asked(wanted, lambda: api.get_paths_info(wanted.hub_id, [wanted.filename], revision=revision))
    if not found:
        raise InvalidInputError(
            f"{wanted.hub_id} has no file {wanted.filename!r}: look there for its name, and give it with --file"
        )
    lfs = getattr(found[0], "lfs", None)
    if lfs is None or len(str(lfs.sha256)) != 64:
        raise FileFormatError(f"the hub states no sha256 for {wanted.filename} of {wanted.hub_id}, so it cannot be verified")
    return StatedFile(int(lfs.size), str(lfs.sha256))


def sha256_of(path: Path) -> str:
    """Of a file's content, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fetch(wanted: GgufOnHub, part: Path, size: int, revision: str | None, endpoint: str) -> None:
    """Append to `part` what it lacks; the client goes on by itself after short interruptions.

    `hf_hub_download` would begin anew in the next run: from version 2 on it removes what it could not finish.
    """
    from huggingface_hub import hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers

    url = hf_hub_url(wanted.hub_id, wanted.filename, revision=revision, endpoint=endpoint)
    headers = {**build_hf_headers(), "Accept-Encoding": "identity"}
    with part.open("ab") as file:
        begun = file.tell()
        try:
            _asked(wanted, lambda: http_get(url, file, resume_size=begun, headers=headers, expected_size=size))
        except PersonaInterpError as error:
            raise PersonaInterpError(
                f"{error}. {file.tell() / 1e9:.2f} of {size / 1e9:.2f} GB are here: the same command goes on from there"
            ) from error


def _asked(wanted: GgufOnHub, ask: Callable[[], _T]) -> _T:
    """What `ask` returns, and the client's errors in words that have a remedy."""
    from huggingface_hub import errors

    try:
        return ask()
    except errors.OfflineModeIsEnabled as error:
        raise PersonaInterpError(f"{wanted.filename} cannot be downloaded while HF_HUB_OFFLINE is set: unset it") from error
    except errors.GatedRepoError as error:
        raise PersonaInterpError(
            f"{wanted.hub_id} is gated: accept its terms on the hub, then log in with `hf auth login` or set HF_TOKEN"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise InvalidInputError(f"{wanted.hub_id} has no such revision on the hub") from error
    except errors.RepositoryNotFoundError as error:
        raise InvalidInputError(
            f"the hub has no model {wanted.hub_id!r}, or it is private: check the spelling, or set HF_TOKEN"
        ) from error
    except Exception as error:  # the client's network library has errors of its own, and changes between versions
        said = " ".join(str(error).split())[:300] or type(error).__name__
        raise PersonaInterpError(f"the hub failed on {wanted.filename} of {wanted.hub_id}: {said}") from error
