"""The notebooks run from top to bottom on the models that ship, and are kept in one form."""

from __future__ import annotations

import ast
import os
import re
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from notebook_format import METADATA, NOTEBOOKS, as_text, stripped
from traitlets import default

from persona_interp.models.registry import MODELS, shipped_models

ROOT = NOTEBOOKS.parent
SECONDS_A_CELL = 300
CODE_LINES, CODE_COLUMNS, PROSE_WORDS = 20, 110, 130
PLACES = re.compile(r"/(?:home|root|tmp|work|opt|Users|mnt|var)/|\b[A-Za-z]:\\\\")
STRICT = """import warnings
warnings.simplefilter("error")
warnings.filterwarnings("ignore", module="ipykernel|jupyter_client|tornado|zmq")
"""

notebooks = pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)


class ThisInterpreter(KernelSpecManager):
    """The interpreter that runs the tests, whatever kernels are installed."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        return KernelSpec(argv=command, display_name="Python 3", language="python")


class Kernel(AsyncKernelManager):
    @default("kernel_spec_manager")
    def _specs(self) -> KernelSpecManager:
        return ThisInterpreter()


@pytest.fixture
def in_a_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`in_a_kernel(notebook)` runs it in an empty folder, without the settings of whoever runs the tests."""
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.delenv("PYTEST_CURRENT_TEST")  # the kernel would hand on less of what libraries print
    where = tmp_path / "reader"
    where.mkdir()

    def run(notebook: Any) -> Any:
        copied = stripped(notebook)
        copied.cells.insert(0, nbformat.v4.new_code_cell(STRICT))
        resources = {"metadata": {"path": str(where)}}
        waits = {"timeout": SECONDS_A_CELL, "startup_timeout": SECONDS_A_CELL}  # on busy cores a kernel takes minutes to answer
        client = NotebookClient(copied, kernel_manager_class=Kernel, resources=resources, **waits)
        try:
            client.execute()
        except CellExecutionError as error:
            pytest.fail(re.sub(r"\x1b\[[0-9;]*m", "", str(error)), pytrace=False)
        return copied

    return run


def of_python(*sources: str) -> Any:
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    return nbformat.v4.new_notebook(cells=cells)


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)


def code(notebook: Any) -> list[str]:
    return [cell.source for cell in notebook.cells if cell.cell_type == "code"]


def printed(cell: Any, stream: str) -> str:
    streams = [output for output in cell.get("outputs", []) if output.output_type == "stream"]
    return "".join(output.text for output in streams if output.name == stream)


def complaints(cell: Any) -> str:
    """What was written to stderr, progress bars left out."""
    return "\n".join(line for line in printed(cell, "stderr").splitlines() if line and not re.search(r"\d+/\d+ \[", line))


def test_the_kernel_is_this_interpreter_and_imports_this_checkout(in_a_kernel: Any) -> None:
    ran = in_a_kernel(of_python("import sys, persona_interp; print(sys.executable); print(persona_interp.__file__)"))
    executable, package = printed(ran.cells[1], "stdout").splitlines()
    assert executable == sys.executable
    assert Path(package) == ROOT / "persona_interp" / "__init__.py"


@pytest.mark.parametrize("source", ["1 / 0", "import warnings\nwarnings.warn('doubtful', stacklevel=1)"])
def test_an_error_or_a_warning_fails_and_shows_its_cell(in_a_kernel: Any, source: str) -> None:
    with pytest.raises(pytest.fail.Exception) as failure:
        in_a_kernel(of_python("numerator = 1", source))
    assert source in str(failure.value)
    assert "ZeroDivisionError" in str(failure.value) or "doubtful" in str(failure.value)


@pytest.mark.slow
@notebooks
def test_a_notebook_runs_from_top_to_bottom(path: Path, in_a_kernel: Any) -> None:
    ran = in_a_kernel(read(path))
    assert {cell.id: complaints(cell) for cell in ran.cells if complaints(cell)} == {}
    assert [cell.id for cell in ran.cells if cell.cell_type == "code" and cell.execution_count is None] == []


@notebooks
def test_a_notebook_is_kept_without_outputs_in_the_form_of_the_others(path: Path) -> None:
    text, notebook = path.read_text(encoding="utf-8"), read(path)
    nbformat.validate(notebook)
    assert notebook.metadata == METADATA
    assert text == as_text(stripped(notebook)), "run python tests/notebook_format.py"


@notebooks
def test_cells_are_named_in_words(path: Path) -> None:
    names = [cell.id for cell in read(path).cells]
    assert len(set(names)) == len(names)
    assert [name for name in names if not re.fullmatch(r"[a-z]+(-[a-z0-9]+)*", name)] == []


@notebooks
def test_a_notebook_begins_with_a_title_and_the_cell_that_swaps_the_model(path: Path) -> None:
    notebook = read(path)
    assert re.match(r"# \w", notebook.cells[0].source)
    first, *others = code(notebook)
    targets = [node.targets[0] for node in ast.parse(first).body if isinstance(node, ast.Assign)]
    names = {name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)}
    assert any(name.startswith("MODEL") for name in names), f"the first code cell assigns {sorted(names)}, not MODEL or MODELS"
    comments = " ".join(line for line in first.splitlines() if line.lstrip().startswith("#"))
    assert any(name in comments for name in MODELS), "a comment there names a model of the hub"
    assert [source for source in others if any(name in source for name in shipped_models())] == []


@notebooks
def test_a_notebook_names_no_place_on_a_machine(path: Path) -> None:
    assert [cell.source for cell in read(path).cells if PLACES.search(cell.source)] == []


@notebooks
def test_cells_are_short_enough_to_be_read(path: Path) -> None:
    notebook = read(path)
    lines = {cell.id: cell.source.splitlines() for cell in notebook.cells if cell.cell_type == "code"}
    assert {name for name, found in lines.items() if len(found) > CODE_LINES} == set()
    assert {name for name, found in lines.items() if any(len(line) > CODE_COLUMNS for line in found)} == set()
    prose = {cell.id: cell.source for cell in notebook.cells if cell.cell_type == "markdown"}
    assert {name for name, text in prose.items() if len(text.split()) > PROSE_WORDS} == set()


@notebooks
def test_no_code_is_without_a_word_before_it(path: Path) -> None:
    kinds = [cell.cell_type for cell in read(path).cells]
    assert kinds.count("code") >= 5
    assert [place for place in range(len(kinds) - 2) if kinds[place : place + 3] == ["code"] * 3] == []


def test_the_readme_lists_every_notebook_and_no_other() -> None:
    listed = re.findall(r"\(notebooks/([\w.]+\.ipynb)\) \|", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert listed == sorted(path.name for path in NOTEBOOKS.glob("*.ipynb"))
