"""Runs on NDIF's servers (National Deep Inference Fabric, through nnsight): the key they need, and their failures in words.

A remote run sends what a graph does, never the weights. `remote="local"` takes the same way of serialising and runs here, which
shows what would not survive it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

import torch

from persona_interp.errors import InvalidInputError, PersonaInterpError, UnsupportedError

LOCAL = "local"


def check_remote(remote: bool | str) -> None:
    """Raise for a place that does not exist, and where no NDIF key is configured.

    Raises:
        InvalidInputError: neither a bool nor ``"local"``.
        UnsupportedError: no key.
    """
    if remote not in (False, True, LOCAL):
        raise InvalidInputError(f"remote is {remote!r}: give True to run on NDIF, 'local' to rehearse that here, or False")
    if remote is not True:
        return
    from nnsight import CONFIG

    key = os.environ.get("NDIF_API_KEY") or CONFIG.API.APIKEY
    if not key:
        raise UnsupportedError(
            "remote=True runs on NDIF, which needs a key: get one at ndif.us and set NDIF_API_KEY, or leave remote out"
        )
    CONFIG.API.APIKEY = key  # nnsight looks at the environment once, when it is first imported


@contextmanager
def remote_errors(remote: bool | str, model_name: str) -> Iterator[None]:
    """Turn what a run on NDIF raises into errors with a remedy, and send its progress to stderr.

    A server out of memory is reported as this machine would be, so that the batch is halved.
    """
    if remote is not True:
        yield
        return
    import httpx
    from nnsight.intervention.backends.remote import RemoteError
    from websocket import WebSocketBadStatusException, WebSocketException

    try:
        with redirect_stdout(sys.stderr):  # where nnsight writes how the job is doing, standard output is for results
            yield
    except WebSocketBadStatusException as error:
        raise _refused(model_name, error) from error
    except (WebSocketException, httpx.HTTPError, OSError) as error:
        raise _unreachable(error) from error
    except RemoteError as error:
        if isinstance(error.__cause__, httpx.HTTPError) and not isinstance(error.__cause__, httpx.HTTPStatusError):
            raise _unreachable(error) from error
        if "out of memory" in str(error).lower():
            raise torch.OutOfMemoryError(str(error)) from error
        raise _refused(model_name, error) from error


def _unreachable(error: Exception) -> PersonaInterpError:
    from nnsight import CONFIG

    return PersonaInterpError(
        f"the remote run could not be sent ({type(error).__name__}: {error}): it needs a network that reaches the model hub and "
        f"{CONFIG.API.HOST} (NDIF_HOST sets another); or leave remote out"
    )


def _refused(model_name: str, error: Exception) -> PersonaInterpError:
    return PersonaInterpError(
        f"NDIF did not run this on {model_name}: {error}. Check NDIF_API_KEY, and at nnsight.net/status which models are deployed"
    )
