"""Every error raised on purpose can be caught as one kind, and its message says what to do."""

from __future__ import annotations

import inspect

import pytest

from persona_interp import errors
from persona_interp.errors import PersonaInterpError, missing_extra, unknown_name


def test_every_error_is_one_kind() -> None:
    kinds = [value for _, value in inspect.getmembers(errors, inspect.isclass) if value.__module__ == errors.__name__]
    assert len(kinds) > 5
    assert all(issubclass(kind, PersonaInterpError) for kind in kinds)


def test_unknown_names_show_the_closest_and_the_known() -> None:
    error = unknown_name("trait", "sily", ["silly", "honest"], "Add one first.")
    assert str(error) == "unknown trait 'sily'. Did you mean 'silly'? Known: honest, silly. Add one first."
    assert str(unknown_name("trait", "zzz", [])) == "unknown trait 'zzz'. Known: none."


def test_a_missing_extra_says_how_to_install_it() -> None:
    with pytest.raises(ImportError, match=r'reading GGUF needs .*pip install "persona-interp\[gguf\]"'):
        raise missing_extra("reading GGUF", "gguf")
