"""The personas a server knows: vector files in a folder, and those that clients upload into it."""

from __future__ import annotations

import hashlib
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from persona_interp.errors import FileFormatError, IncompatibleError, InvalidInputError, PersonaInterpError
from persona_interp.interventions.graph import Capture, InterventionGraph
from persona_interp.models.steerable import SteerableModel
from persona_interp.progress import say
from persona_interp.serving.errors import ApiError
from persona_interp.storage import read_json, safe_name, write_bytes, write_json
from persona_interp.vectors.formats import FORMATS
from persona_interp.vectors.lineage import kinship
from persona_interp.vectors.persona_vector import PersonaVector

FORMAT_VERSION = 1
SUFFIXES = (".json", ".safetensors", ".gguf")
"""Files that are read; never ``.pt``, which other programs run code from."""
CLIFFS = ".cliffs.json"
"""Ends the name of a file beside a persona's: what ``layer-effectiveness --cliff --output`` writes."""
_INDEX = "index.json"
_ASKED = ("How was your day?", "The day was quiet: I read a book, cooked some soup and went for a long walk by the river.")


@dataclass(frozen=True, eq=False)
class Persona:
    """One of them.

    Attributes:
        name: what requests call it.
        vector: in the basis of the served model.
        sha256: of its file.
        why: what is known of the vector and the model, in words.
        uploaded: by a client, so that clients may remove it.
        cliffs: (layer, +1 or -1) -> largest perturbation ratio at which coherence was measured to hold.
    """

    name: str
    vector: PersonaVector
    sha256: str
    why: str
    uploaded: bool
    cliffs: Mapping[tuple[int, int], float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """What clients are told of it."""
        return {
            "object": "persona",
            "name": self.name,
            "trait": self.vector.trait,
            "layers": list(self.vector.layers),
            "sha256": self.sha256,
            "lineage": f"the vector {self.why}",
            "uploaded": self.uploaded,
            "coherent_up_to": [{"layer": at, "direction": sign, "ratio": safe} for (at, sign), safe in self.cliffs.items()],
        }


class Personas:
    """Those that fit one model. Vector files in the folder are personas under their names; uploads lie in a folder of their own.

    A file ``organism-qwen2_silly.json`` is ``silly`` to the model organism-qwen2. Uploads are kept under their sha256, and an
    index, replaced as a whole, says what they are called: whatever ends the server, it finds them again.

    Args:
        folder: made where something is uploaded.
        model: the one that is served.
    """

    def __init__(self, folder: Path, model: SteerableModel) -> None:
        self._folder, self._model = Path(folder), model
        own = "".join(sign if sign.isalnum() or sign in "._-" else "-" for sign in model.name.replace("\\", "/").split("/")[-1])
        self._prefix, self._uploads = f"{own}_", self._folder / "uploads" / (own.lstrip(".") or "unnamed")
        self._lock = threading.Lock()
        self._known: dict[str, Persona] = {}
        for name, (path, uploaded) in self._files().items():
            try:
                self._known[name] = self._read(name, path, uploaded=uploaded)
            except PersonaInterpError as error:
                say(f"note: {path} is not served: {error}")

    def __iter__(self) -> Any:
        return iter(sorted(self._known.values(), key=lambda persona: persona.name))

    def find(self, name: str, param: str = "model") -> Persona:
        """The persona of that name.

        Raises:
            ApiError: there is none; names those there are.
        """
        found = self._known.get(name)
        if found is None:
            known = ", ".join(sorted(self._known)) or "none yet: PUT a vector file to /v1/personas/NAME"
            raise ApiError(
                f"there is no persona {name!r} for {self._model.name}. Known: {known}", code="unknown_persona", param=param
            )
        return found

    def put(self, name: str, content: bytes) -> Persona:
        """Keep an uploaded vector file under a name; one that was uploaded before under it is replaced.

        Raises:
            ApiError: the name belongs to a file that was put into the folder, or is none.
            PersonaInterpError: no vector file, or none for this model; says why.
        """
        safe_name(name, "persona name")
        suffix, digest = suffix_of(content), hashlib.sha256(content).hexdigest()
        with tempfile.TemporaryDirectory(prefix="persona-interp-upload-") as folder:
            path = Path(folder) / f"{name}{suffix}"
            path.write_bytes(content)
            try:
                persona = replace(self._read(name, path, uploaded=True), sha256=digest)
            except PersonaInterpError as error:
                raise type(error)(str(error).replace(str(path), f"upload {name!r}")) from error
        with self._lock:
            if name in self._known and not self._known[name].uploaded:
                raise ApiError(f"{name!r} is a file in the server's folder: choose another name", 409, code="name_taken")
            write_bytes(self._uploads / f"{digest}{suffix}", content)
            index = self._index()
            before, index[name] = index.get(name), f"{digest}{suffix}"
            self._write(index)
            self._known = {**self._known, name: persona}
            self._forget(before, index)
        return persona

    def delete(self, name: str) -> None:
        """Let go of an uploaded persona; answers under way with it are finished.

        Raises:
            ApiError: there is none, or it is a file in the folder.
        """
        with self._lock:
            if not self.find(name, "name").uploaded:
                raise ApiError(f"{name!r} is a file in the server's folder: remove it there", 409, code="not_uploaded")
            index = self._index()
            before = index.pop(name, None)
            self._write(index)
            self._known = {known: persona for known, persona in self._known.items() if known != name}
            self._forget(before, index)

    def _files(self) -> dict[str, tuple[Path, bool]]:
        found: dict[str, tuple[Path, bool]] = {name: (self._uploads / file, True) for name, file in self._index().items()}
        if self._folder.is_dir():
            for path in sorted(self._folder.iterdir()):
                if path.suffix.lower() in SUFFIXES and path.is_file() and not path.name.lower().endswith(CLIFFS):
                    found[path.stem.removeprefix(self._prefix)] = (path, False)
        return found

    def _index(self) -> dict[str, str]:
        path = self._uploads / _INDEX
        if not path.exists():
            return {}
        found = read_json(path, "index of uploaded personas").get("personas")
        if not isinstance(found, dict) or not all(isinstance(each, str) for each in found.values()):
            raise FileFormatError(f"index of uploaded personas {path} is damaged: put a copy back, or remove it and upload again")
        return {safe_name(str(name)): safe_name(str(file)) for name, file in found.items()}

    def _write(self, index: Mapping[str, str]) -> None:
        write_json(self._uploads / _INDEX, {"format_version": FORMAT_VERSION, "personas": dict(index)})

    def _forget(self, file: str | None, index: Mapping[str, str]) -> None:
        if file is not None and file not in index.values():
            (self._uploads / file).unlink(missing_ok=True)

    def _read(self, name: str, path: Path, *, uploaded: bool) -> Persona:
        safe_name(name, "persona name")
        whose = {} if FORMATS[path.suffix.lower()].says_whose else {"trait": name}
        vector = PersonaVector.load(path, **whose)
        kin = kinship(vector, self._model)
        if kin.fits is False:
            raise IncompatibleError(f"the vector {kin.why}: transfer it to this model first, or extract it there")
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        return Persona(name, with_norms(vector, self._model), digest, kin.why, uploaded, self._cliffs(name))

    def _cliffs(self, name: str) -> dict[tuple[int, int], float]:
        path = next((p for p in (self._folder / f"{n}{CLIFFS}" for n in (name, f"{self._prefix}{name}")) if p.is_file()), None)
        if path is None:
            return {}
        try:
            found = read_json(path, "measured cliffs")["cliffs"]
            return {(int(cliff["layer"]), int(cliff["direction"])): float(cliff["safe"]) for cliff in found}
        except (KeyError, TypeError, ValueError) as error:
            raise FileFormatError(f"{path} is not what layer-effectiveness --cliff --output writes ({error!r})") from error


def suffix_of(content: bytes) -> str:
    """The kind of a vector file, told by how it begins.

    Raises:
        InvalidInputError: it is none that is taken.
    """
    if content[:4] == b"GGUF":
        return ".gguf"
    if content.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"{":
        return ".json"
    if content[8:9] == b"{" and int.from_bytes(content[:8], "little") < len(content):
        return ".safetensors"
    pickled = content[:2] == b"PK" or content[:1] == b"\x80"
    said = "it looks like a .pt file, which is never taken" if pickled else f"it begins with {content[:8]!r}"
    raise InvalidInputError(f"no vector file: {said}; upload {', '.join(SUFFIXES)} (persona-interp export and import make them)")


def with_norms(vector: PersonaVector, model: SteerableModel) -> PersonaVector:
    """`vector` with the mean residual norms that doses are told by; read at one answer where the file does not say them."""
    if all(ratio is not None for ratio in vector.listed("norm_ratio")) and vector.listed("norm_ratio"):
        return vector
    norms = Capture("answer", "norm", vector.layers)
    (read,) = model.capture([_ASKED], InterventionGraph((norms,)))
    return replace(vector, statistics={**vector.statistics, "resid_norm": tuple(read[norms][:, 0].tolist())})
