"""The registry: a name is given once, what is built in is loaded when it is first asked for, plug-ins add to it."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest

from persona_interp import registry
from persona_interp.errors import InvalidInputError, UnknownNameError
from persona_interp.registry import Registry


def test_a_name_is_given_once() -> None:
    made: Registry[object] = Registry("thing", "persona_interp.tests.once")
    one = object()
    made.register("a", one)
    made.register("a", one, again=True)
    with pytest.raises(InvalidInputError, match=r"thing 'a' is already registered: choose another name"):
        made.register("a", object(), again=True)
    with pytest.raises(InvalidInputError, match="already registered"):
        made.register("a", one)
    assert dict(made) == {"a": one}


def test_an_unknown_name_is_answered_with_the_names_there_are() -> None:
    made: Registry[int] = Registry("thing", "persona_interp.tests.unknown", first=("b",))
    made.register("a", 1)
    made.register("b", 2)
    assert list(made) == ["b", "a"]
    with pytest.raises(UnknownNameError, match=r"unknown thing 'c'.* Known: a, b\. Look up\."):
        made.find("c", "Look up.")


def test_entry_points_are_loaded_at_the_first_question_and_one_that_fails_is_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    group = "persona_interp.tests.entries"
    made: Registry[int] = Registry("thing", group)
    loaded: list[str] = []

    class Good(EntryPoint):
        def load(self) -> None:
            loaded.append(self.name)
            made.register(self.name, 3)

    entries = {group: [EntryPoint("bad", "no_such_module_at_all", group), Good("good", "somewhere", group)]}
    monkeypatch.setattr(registry, "entry_points", lambda *, group: entries.get(group, []))
    assert loaded == []
    assert list(made) == ["good"]
    assert made["good"] == 3
    assert loaded == ["good"]
    said = " ".join(capsys.readouterr().err.split())
    assert "the plug-in 'bad' (no_such_module_at_all) cannot be loaded and is left out" in said


def test_the_organisms_come_in_by_their_name_alone_and_bring_no_model_library() -> None:
    code = (
        "import sys\n"
        "from persona_interp.judges.kinds import JUDGES\n"
        "from persona_interp.models.shipped import shipped_models\n"
        "from persona_interp.traits.model_kinds import MODEL_KINDS\n"
        "assert not any(name.startswith('persona_interp.organisms') for name in sys.modules)\n"
        "assert 'organism' in MODEL_KINDS and 'grammar' in JUDGES and 'organism-qwen2' in shipped_models()\n"
        "assert not {'torch', 'transformers', 'nnsight'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
