"""The file formats that come with the package."""

from __future__ import annotations

from persona_interp.vectors.formats import register_format
from persona_interp.vectors.formats.gguf import GgufFormat
from persona_interp.vectors.formats.json import JsonFormat
from persona_interp.vectors.formats.pt import PtFormat
from persona_interp.vectors.formats.safetensors import SafetensorsFormat

for _made in (JsonFormat(), SafetensorsFormat(), PtFormat(), GgufFormat()):
    register_format(_made)
