"""A stand-in for NDIF: a process of its own, which has the weights and nnsight but none of this package, runs what it is sent.

As a program it is the server, ``python ndif.py FOLDER``: it reads paths of requests from standard input, and answers each with
the path of its result. What it does with a request is what nnsight's documentation and its "local" backend say of the real one.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SERVER_LACKS = ("persona_interp", "jaxtyping", "beartype", "transformer_lens")


@contextmanager
def standing_in(folder: Path, hub_id: str, work: Path) -> Iterator[list[dict[str, Any]]]:
    """While the block lasts, ``remote=True`` runs `hub_id` in a server that has loaded it from `folder`; yields the requests."""
    import nnsight.modeling.huggingface as hub
    from nnsight.intervention.backends.remote import RemoteBackend, RemoteError

    requests: list[dict[str, Any]] = []
    server = subprocess.Popen(
        [sys.executable, __file__, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=work
    )

    def request(self: Any, request: Any, tracer: Any) -> Any:
        path = work / f"request-{len(requests)}"
        path.write_bytes(self._serialize(tracer))
        requests.append({"key": request.model_key, "env": request.env, "compress": request.compress, "path": str(path)})
        assert server.stdin is not None
        assert server.stdout is not None
        print(json.dumps(requests[-1]), file=server.stdin, flush=True)
        answer = json.loads(server.stdout.readline())
        if "error" in answer:
            raise RemoteError(answer["error"])
        return self.finalize(Path(answer["path"]).read_bytes())

    asked, hub._ID_CACHE[hub_id] = RemoteBackend.request, hub_id
    RemoteBackend.request = request
    try:
        yield requests
    finally:
        RemoteBackend.request = asked
        assert server.stdin is not None
        server.stdin.close()
        server.wait(timeout=60)


class _Absent:
    """Finds none of what the servers do not have."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name.partition(".")[0] in SERVER_LACKS:
            raise ModuleNotFoundError(f"No module named {name!r} on the server", name=name)


def serve(folder: str) -> None:
    """Answer requests until standard input ends."""
    sys.meta_path.insert(0, _Absent())  # type: ignore[arg-type]
    answers, sys.stdout = sys.stdout, sys.stderr
    import torch
    from nnsight import TransformersModel

    torch.set_num_threads(1)
    model = TransformersModel(folder, task="text-generation", dispatch=True)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = {"path": _run(model, request)}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


def _run(model: Any, request: dict[str, Any]) -> str:
    import torch
    import zstandard
    from nnsight.schema.request import RequestModel
    from nnsight.tracing import tracer as tracing

    model._remoteable_set_env(request["env"])
    blob = Path(request["path"]).read_bytes()
    tracer = RequestModel.deserialize(blob, model._remoteable_persistent_objects(), request["compress"])
    tracing._local.depth = 1
    try:
        with torch.no_grad():
            tracer.execute(tracer.info.code)
        saved = tracing._saves()
        results = {name: value for name, value in tracer.info.frame.f_locals.items() if id(value) in saved}
    finally:
        tracing._local.depth = 0
        tracing._saves().clear()
    path = Path(request["path"]).with_suffix(".result")
    torch.save(results, path)
    if request["compress"]:
        path.write_bytes(zstandard.ZstdCompressor().compress(path.read_bytes()))
    return str(path)


if __name__ == "__main__":
    serve(sys.argv[1])
