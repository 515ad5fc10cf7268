"""What the documentation shows works: its Python runs page by page, and every command in it is one that exists.

Blocks marked ``python`` run, one after the other, in an empty folder; guides find there what "Extract a vector" made. Blocks
marked ``py`` and ``sh`` are other people's code, or need what a test has not, and are not run.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from persona_interp.cli import build_parser
from persona_interp.errors import PersonaInterpError

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FIRST = ROOT / "docs" / "guides" / "extract.md"
OWN_PROCESS = ("extending",)
"""Pages that register things, which would stay registered."""
ELSEWHERE = ("vllm", "serving", "finetuning")
"""Guides whose Python needs what this environment has not, or is run by tests of their own."""
PARSER = build_parser()


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def commands(page: Path) -> list[str]:
    lines = [part for block in blocks(page, "bash") for line in block.splitlines() for part in line.split(" && ")]
    return [line for line in lines if line.startswith("persona-interp ")]


def run_page(page: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PERSONA_INTERP_HOME", str(folder / "home"))
    namespace: dict[str, object] = {}
    for number, block in enumerate(blocks(page, "python"), start=1):
        code = compile(block, f"{page.name}, Python block {number}", "exec")
        exec(code, namespace)  # noqa: S102  (our own pages)


@pytest.fixture(scope="module")
def extracted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the first guide ran."""
    folder = tmp_path_factory.mktemp("reader")
    with pytest.MonkeyPatch.context() as monkeypatch:
        run_page(FIRST, folder, monkeypatch)
    assert (folder / "silly.json").exists()
    return folder


NOT_HERE = (*OWN_PROCESS, *ELSEWHERE, "README", FIRST.stem)
WITH_PYTHON = [page for page in PAGES if blocks(page, "python") and page.stem not in NOT_HERE]


@pytest.mark.slow
@pytest.mark.parametrize("page", WITH_PYTHON, ids=lambda page: page.stem)
def test_the_python_of_a_page_runs(page: Path, extracted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "reader"
    shutil.copytree(extracted, folder)
    run_page(page, folder, monkeypatch)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.real
def test_the_tour_of_the_readme_runs_on_a_real_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tour,) = blocks(ROOT / "README.md", "python")
    assert len(tour.splitlines()) <= 25
    run_page(ROOT / "README.md", tmp_path, monkeypatch)
    assert (tmp_path / "silly.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", OWN_PROCESS)
def test_a_page_that_registers_things_runs(name: str, tmp_path: Path) -> None:
    code = "\n".join(blocks(ROOT / "docs" / f"{name}.md", "python"))
    where = {
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "PERSONA_INTERP_HOME": str(tmp_path / "home"),
    }
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={**os.environ, **where}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=lambda page: page.stem)
def test_every_command_shown_is_one_that_exists(page: Path) -> None:
    for command in commands(page):
        line = re.split(r" [>|] ", command)[0]
        try:
            assert callable(PARSER.parse_args(shlex.split(line, comments=True)[1:]).run)
        except (SystemExit, PersonaInterpError) as error:
            pytest.fail(f"{command}: {error}")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_link_leads_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for link in re.findall(
        r"\]\((?!https?://|mailto:)([^)\s]+)\)", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    ):
        place, _, anchor = link.partition("#")
        target = (page.parent / place).resolve() if place else page
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), flags=re.MULTILINE)
            assert anchor in {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}, link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_names_no_place_on_a_machine(page: Path) -> None:
    assert re.findall(r"(?<![\w.~`])/(?:home|root|tmp|work|opt|Users|mnt)/", page.read_text(encoding="utf-8")) == []
