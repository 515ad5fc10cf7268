"""The front page is short, says what is true, and its two commands are those that are checked."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from persona_interp.cli import build_parser
from persona_interp.judges.measure import MEASURES
from persona_interp.models.registry import MODELS, shipped_models
from persona_interp.traits.catalogue import trait_names

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def guide(name: str) -> str:
    return (ROOT / "docs" / "guides" / f"{name}.md").read_text(encoding="utf-8")


def test_it_is_short() -> None:
    assert len(README.splitlines()) <= 250


def test_the_two_commands_stand_first_and_the_check_runs_them() -> None:
    first, second = re.findall(r"^```bash\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)[:2]
    assert first == "pip install -e . && persona-interp quickstart\n"
    assert second == 'pip install -e ".[test]" && pytest\n'
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert 'pip install -e ".[test]"' in script
    assert re.search(r"^pytest\b", script, flags=re.MULTILINE)


def test_every_script_of_the_brief_has_a_command() -> None:
    helped = build_parser().format_help()
    table = re.findall(r"^\| `[\w/.]+` \| `persona-interp ([a-z-]+)[^`]*` \|$", README, flags=re.MULTILINE)
    assert len(table) == 9
    assert [name for name in table if name != "study" and name not in helped] == []


def test_commands_in_its_table_exist() -> None:
    helped = build_parser().format_help()
    named = [
        name for row in re.findall(r"^\| [^|]+ \| (`[a-z`, -]+`) \| \[", README, flags=re.MULTILINE) for name in row.split(", ")
    ]
    assert len(named) > 10
    assert [name for name in named if name.strip("`") not in helped] == []


def test_models_and_traits_are_named_as_they_are_registered() -> None:
    page = guide("models")
    assert [name for name in [*MODELS, *shipped_models()] if f"`{name}`" not in page] == []
    assert [name for name, origin in trait_names().items() if origin == "library" and f"`{name}`" not in page] == []


def test_measures_are_named_as_they_are_registered() -> None:
    assert [name for name in MEASURES if f"| `{name}` |" not in guide("judges")] == []


def test_the_python_version_is_that_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["requires-python"] == ">=3.11"
    assert "Python 3.11 or newer" in README
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert "## Unreleased" in changes or f"## {project['version']}" in changes
