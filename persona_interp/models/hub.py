"""The model hub: what lies in its cache, whether it can be asked, and its refusals in words that have a remedy."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import torch

from persona_interp.errors import FileFormatError, InvalidInputError, PersonaInterpError, UnsupportedError

_PROXIES = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "http_proxy", "HTTP_PROXY")


def cached_commit(hub_id: str, *, revision: str | None, cache_dir: str | Path | None) -> str | None:
    """The commit that the cached files of `hub_id` at the wanted revision belong to; None where nothing is cached."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(hub_id, "config.json", cache_dir=cache_dir, revision=revision)
    return Path(found).parent.name if isinstance(found, str) else None


def cached_weights(hub_id: str) -> bool:
    """Whether the hub's cache on this machine holds the weights of `hub_id` at its main branch."""
    return cached_folder(hub_id) is not None


def cached_folder(hub_id: str) -> Path | None:
    """The folder in the hub's cache that holds the weights of `hub_id` at its main branch, None if there is none."""
    from huggingface_hub import try_to_load_from_cache

    for name in ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin"):
        found = try_to_load_from_cache(hub_id, name)
        if isinstance(found, str):
            return Path(found).parent
    return None


def hub_reachable() -> bool:
    """Whether asking the hub makes sense. Without this the client retries each missing file for half a minute."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    if any(os.environ.get(name) for name in _PROXIES):
        return True  # names may then be resolved by the proxy alone
    try:
        socket.getaddrinfo(urlsplit(constants.ENDPOINT).hostname, 443)
    except OSError:
        return False
    return True


@contextmanager
def explained(location: str, *, revision: str | None, cache_dir: str | Path | None, shipped: Iterable[str]) -> Iterator[None]:
    """Turn what transformers, the hub client, safetensors and torch raise into errors with a remedy."""
    from safetensors import SafetensorError

    try:
        yield
    except PersonaInterpError:
        raise
    except torch.OutOfMemoryError as error:
        raise PersonaInterpError(
            f"no memory left on the device while loading {location}: use dtype='bfloat16', device_map='auto' or a smaller model"
        ) from error
    except SafetensorError as error:
        raise FileFormatError(f"the weights of {location} are damaged or truncated ({error}): get the files again") from error
    except OSError as error:
        raise _hub_error(location, revision, cache_dir, shipped, error) from error
    except ImportError as error:
        raise UnsupportedError(f"{location} needs a package that is not installed: {error}") from error
    except (ValueError, KeyError, RuntimeError) as error:
        if "trust_remote_code" in str(error):
            raise UnsupportedError(
                f"{location} brings its own Python code: read it, then pass trust_remote_code=True to run it"
            ) from error
        if "does not recognize this architecture" in str(error):
            raise UnsupportedError(f"the installed transformers does not know the architecture of {location}: {error}") from error
        raise FileFormatError(f"{location} cannot be loaded: {error}") from error


def _hub_error(
    location: str, revision: str | None, cache_dir: str | Path | None, shipped: Iterable[str], error: OSError
) -> PersonaInterpError:
    from huggingface_hub import constants, errors

    causes = list(_chain(error))
    if Path(location).is_dir():
        return FileFormatError(f"model folder {location} cannot be loaded: {error}")
    if any(isinstance(cause, errors.GatedRepoError) for cause in causes):
        return PersonaInterpError(
            f"{location} is gated: accept its terms on the hub, then log in with `hf auth login` or set HF_TOKEN"
        )
    if any(isinstance(cause, errors.RevisionNotFoundError) for cause in causes):
        return InvalidInputError(f"{location} has no revision {revision!r} on the hub")
    if any(isinstance(cause, errors.RepositoryNotFoundError) for cause in causes):
        return InvalidInputError(f"the hub has no model {location!r}, or it is private: check the spelling, or set HF_TOKEN")
    if any(isinstance(cause, errors.LocalEntryNotFoundError | errors.OfflineModeIsEnabled) for cause in causes):
        cache = cache_dir or constants.HF_HUB_CACHE
        names = ", ".join(sorted(shipped)) or "organism-*"
        return PersonaInterpError(
            f"{location} is not in the local cache ({cache}) and the hub cannot be reached: connect once to download it, point "
            f"HF_HOME at a cache that has it, or use a model that ships with the package ({names})"
        )
    return PersonaInterpError(f"{location} cannot be loaded: {error}")


def _chain(error: BaseException) -> Iterator[BaseException]:
    current: BaseException | None = error
    while current is not None:
        yield current
        current = current.__cause__ or current.__context__
