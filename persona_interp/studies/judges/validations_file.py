"""Several validations of judges in one file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from persona_interp.errors import FileFormatError
from persona_interp.records import Record
from persona_interp.storage import check_format_version

FORMAT_VERSION = 1
Validation = TypeVar("Validation", bound=Record)


def validations_json(validations: Sequence[Record]) -> dict[str, Any]:
    """Several validations as one JSON object; `validations_from` reads them back."""
    return {"format_version": FORMAT_VERSION, "validations": [each.to_json() for each in validations]}


def validations_from(
    data: Mapping[str, Any], kind: type[Validation], *, source: str = "judge validations"
) -> tuple[Validation, ...]:
    """The inverse of `validations_json`.

    Raises:
        FileFormatError: another format version, or a field that is missing or malformed.
    """
    check_format_version(data, FORMAT_VERSION, source)
    validations = data.get("validations")
    if not isinstance(validations, list):
        raise FileFormatError(f"{source}: field 'validations' is missing or no list")
    return tuple(kind.from_json(each, source=source) for each in validations)
