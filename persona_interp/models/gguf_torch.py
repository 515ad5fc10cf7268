"""A GGUF file in PyTorch: its weights turned back into numbers, in the real Hugging Face class, by transformers' own reader.

Gradients, every operation and TransformerLens then work as on any other model. The weights are those
of the file; llama.cpp also rounds what it multiplies quantized weights with, which is why the engines' numbers differ a little.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from persona_interp.errors import FileFormatError, UnsupportedError, missing_extra
from persona_interp.models.gguf_file import GgufHeader, file_fingerprint, read_header, stated_ends
from persona_interp.models.loading import LoadOptions, load_hf_model, load_tokenizer
from persona_interp.models.steerable import SteerableModel

_READING = threading.RLock()
_PIECES = "split.count"


class DequantisedModel(SteerableModel):
    """The model of a GGUF file, run by PyTorch. Its identity names the file, so that both engines' results belong together."""

    def __init__(self, hf_model: torch.nn.Module, tokenizer: Any, header: GgufHeader, *, name: str, remote: bool | str) -> None:
        super().__init__(hf_model, tokenizer, name=name, remote=remote)
        self.path = header.path
        self.engine.file_fingerprint = file_fingerprint(header)


def load_gguf_in_torch(
    location: str, options: LoadOptions, tokenizer: Any, *, name: str, remote: bool | str, shipped: Iterable[str]
) -> DequantisedModel:
    """Load a GGUF file into PyTorch.

    Args:
        location: the file.
        options: as given to `load_model`; without a dtype, float32.
        tokenizer: another than the file's own, or the name or folder of one; None: the file's.
        name: what results call the model.
        remote: False, or "local" for a rehearsal of a remote run.
        shipped: names of shipped models, for errors.

    Raises:
        FileFormatError: the file is missing, damaged, cut short, or one of several pieces.
        UnsupportedError: transformers cannot read its architecture, or no layout is known for it.
        MissingExtraError: the extra ``gguf-torch`` is not installed.
    """
    if find_spec("accelerate") is None or find_spec("gguf") is None:
        raise missing_extra("a GGUF file in PyTorch", "gguf-torch")
    path = Path(location)
    header = read_header(path)
    _check_readable(header)
    options = LoadOptions(options.dtype, options.device, options.device_map)
    options.check(local=True)
    folder, file = str(path.parent), path.name
    with _parsed_once():
        hf_model = load_hf_model(folder, options, local=True, weights=True, shipped=shipped, gguf_file=file)
        if tokenizer is None:
            tokenizer = load_tokenizer(folder, options, shipped=shipped, gguf_file=file)
        elif isinstance(tokenizer, str | Path):
            tokenizer = load_tokenizer(str(tokenizer), options, shipped=shipped)
    _plain(hf_model, path)
    _end_as_stated(hf_model, header)
    return DequantisedModel(hf_model, tokenizer, header, name=name, remote=remote)


def _check_readable(header: GgufHeader) -> None:
    """Raise where transformers could only fail, in its own words, after minutes.

    Raises:
        FileFormatError: one of several pieces.
        UnsupportedError: of an architecture that it does not read.
    """
    from transformers.modeling_gguf_pytorch_utils import GGUF_SUPPORTED_ARCHITECTURES

    pieces = header.metadata.get(_PIECES, 1)
    if pieces not in (0, 1):
        raise FileFormatError(
            f"GGUF file {header.path} is one of {pieces} pieces, which PyTorch cannot put together: join them with llama.cpp's "
            "llama-gguf-split --merge, or run them with engine='llama.cpp' (--engine llama.cpp)"
        )
    architecture = str(header.required("general.architecture", str))
    spelled = {architecture, architecture.replace("-", "_"), architecture.replace("moe", "_moe")}
    if spelled.isdisjoint(GGUF_SUPPORTED_ARCHITECTURES):
        known = sorted(set(GGUF_SUPPORTED_ARCHITECTURES) - {"general", "tokenizer"})
        raise UnsupportedError(
            f"{header.path} is of architecture {architecture!r}, whose GGUF files the installed transformers does not read (it "
            f"reads {', '.join(known)}): run it with engine='llama.cpp' (--engine llama.cpp, the default for a file)"
        )


def _plain(hf_model: Any, path: Path) -> None:
    """Take away what transformers notes on a model it read from a quantized file: these weights are ordinary numbers by now.

    Raises:
        UnsupportedError: they are not; where a kernel for packed weights is installed, transformers may leave them packed.
    """
    if not all(parameter.is_floating_point() for parameter in hf_model.parameters()):
        raise UnsupportedError(
            f"transformers left the weights of {path} packed: uninstall the package kernels, or use engine='llama.cpp' "
            "(--engine llama.cpp)"
        )
    hf_model.hf_quantizer = None
    if hasattr(hf_model.config, "quantization_config"):
        del hf_model.config.quantization_config


def _end_as_stated(hf_model: Any, header: GgufHeader) -> None:
    """Of the ids that the file says end an answer transformers reads one; llama.cpp is told the same ones."""
    settings = hf_model.generation_config
    known = settings.eos_token_id
    own = [] if known is None else [known] if isinstance(known, int) else list(known)
    settings.eos_token_id = sorted({*own, *stated_ends(header.metadata)}) or None


@contextmanager
def _parsed_once() -> Iterator[None]:
    """Let transformers parse the file once instead of once for each of configuration, weights and tokenizer: most of the time.

    It also builds the table of tensor names anew for every module, and draws a progress bar into logs. Reader and table are pure
    functions of their arguments, whose results are kept within the block. One load at a time: the names belong to the process.
    """
    import gguf
    from transformers import modeling_gguf_pytorch_utils as theirs

    instead = [(gguf, name, _remembering(getattr(gguf, name))) for name in ("GGUFReader", "get_tensor_name_map")]
    if not sys.stderr.isatty():
        instead.append((theirs, "tqdm", lambda rows, **_: rows))
    with _READING, ExitStack() as stack:
        for module, name, ours in instead:
            stack.callback(setattr, module, name, getattr(module, name))
            setattr(module, name, ours)
        yield


def _remembering(make: Callable[..., Any]) -> Callable[..., Any]:
    found: dict[tuple[Any, ...], Any] = {}

    def remembered(*arguments: Any) -> Any:
        key = tuple(map(str, arguments))
        if key not in found:
            found[key] = make(*arguments)
        return found[key]

    return remembered
