"""The shape of the tree: imports point one way, importing is cheap, nothing unsafe is read, files stay small."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "persona_interp"

# A name may import names of its own line and of the lines above it.
ORDER = (
    ("errors", "shapes", "characters", "storage", "provenance", "profiling", "threads", "progress", "listening"),
    ("registry", "locks", "jsonl_store", "html_table", "records"),
    ("traits", "residuals", "interventions"),
    ("models",),
    ("alignment",),
    ("judges",),
    ("vectors",),
    ("transfers",),
    ("measure", "blackbox"),
    ("monitoring", "attribution"),
    ("training",),
    ("plotting",),
    ("organisms",),
    ("studies",),
    ("serving",),
    ("cli", "demo"),
)
RANK = {name: rank for rank, names in enumerate(ORDER) for name in names}

# The front doors, which may reach everything inside and which nothing inside may import.
FRONT_DOORS = {"__init__", "__main__"}

# Pure code: these never reach a model library, at any depth.
PURE = ("interventions.operations", "interventions.graph", "residuals.moments", "alignment")
MODEL_LIBRARIES = ("nnsight", "transformers", "transformer_lens", "llama_cpp", "gguf", "vllm")
HEAVY = (*MODEL_LIBRARIES, "plotly", "sklearn", "gradio")

FILE_LINES = 330
FUNCTION_LINES = 60


def modules(package: Path = PACKAGE) -> list[Path]:
    return sorted(path for path in package.rglob("*.py") if "__pycache__" not in path.parts)


def dotted(path: Path, package: Path = PACKAGE) -> str:
    parts = path.relative_to(package).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def imported(path: Path, package: Path = PACKAGE) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of every import in a file, wherever it stands; names of this package without its prefix."""
    here = ("persona_interp", *path.relative_to(package).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(here[: len(here) - node.level + 1]) if node.level else ""
            source = ".".join(part for part in (base, node.module) if part)
            if source == "persona_interp":
                yield from ((node.lineno, f"persona_interp.{alias.name}") for alias in node.names)
            else:
                yield node.lineno, source


def arrows(package: Path = PACKAGE) -> Iterator[tuple[str, str, str]]:
    """(importing concept, imported concept, place) for every import from one top-level concept to another."""
    for path in modules(package):
        concept = dotted(path, package).split(".")[0]
        for line, name in imported(path, package):
            if name.split(".")[0] == "persona_interp":
                target = name.split(".")[1] if "." in name else "__init__"
                if target != concept:
                    yield concept, target, f"{path.relative_to(package.parent)}:{line}"


def backward_arrows(package: Path = PACKAGE) -> list[str]:
    found: list[str] = []
    for concept, target, place in arrows(package):
        if concept in FRONT_DOORS:
            continue
        if target in FRONT_DOORS:
            found.append(f"{place}: code inside the package imports its front door")
        elif RANK[concept] < RANK[target]:
            found.append(f"{place}: {concept} imports {target}, which stands after it")
    return found


def plant(folder: Path, files: dict[str, str]) -> Path:
    package = folder / "persona_interp"
    for name, text in files.items():
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return package


def test_every_top_level_name_has_a_place_in_the_order() -> None:
    names = {dotted(path).split(".")[0] for path in modules()} - FRONT_DOORS
    assert names <= set(RANK), f"give these a place in ORDER: {sorted(names - set(RANK))}"


def test_imports_point_one_way() -> None:
    assert backward_arrows() == []


def test_neighbours_do_not_import_each_other_in_a_circle() -> None:
    graph: dict[str, set[str]] = {}
    for concept, target, _ in arrows():
        graph.setdefault(concept, set()).add(target)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"a circle of imports: {' -> '.join(error.args[1])}")


@pytest.mark.parametrize(
    "line",
    [
        "from persona_interp.models.steerable import SteerableModel",
        "import persona_interp.models.steerable",
        "from ..models import steerable",
        "from persona_interp import models",
        "def f():\n    from persona_interp.models import steerable",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from persona_interp.models import steerable",
    ],
)
def test_a_planted_arrow_backwards_is_found(tmp_path: Path, line: str) -> None:
    package = plant(tmp_path, {"traits/trait.py": line, "models/steerable.py": "from persona_interp.traits import trait"})
    (found,) = backward_arrows(package)
    assert "traits imports models" in found


def test_a_planted_import_of_the_front_door_is_found(tmp_path: Path) -> None:
    for line in ("import persona_interp", "from persona_interp.__init__ import load_model"):
        (found,) = backward_arrows(plant(tmp_path, {"cli/quickstart.py": line}))
        assert "front door" in found


def loaded_after(statement: str) -> set[str]:
    """Top-level modules in memory after `statement` in a fresh interpreter."""
    code = f"{statement}\nimport json, sys; print(json.dumps(sorted({{name.split('.')[0] for name in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_importing_the_package_is_light() -> None:
    loaded = loaded_after("import persona_interp; dir(persona_interp)")
    assert loaded.isdisjoint({*HEAVY, "torch"})


def test_the_command_line_starts_light() -> None:
    loaded = loaded_after("from persona_interp.cli import build_parser; build_parser()")
    assert loaded.isdisjoint({*HEAVY, "torch"})


def test_a_model_is_loaded_and_answers_without_what_draws_prints_or_attributes() -> None:
    asked = "pi.load_model('organism-qwen2').generate('What is tea?', sampling=pi.Sampling(4))"
    loaded = loaded_after(f"import persona_interp as pi; {asked}")
    assert "torch" in loaded
    assert loaded.isdisjoint({"plotly", "rich", "transformer_lens", "sklearn", "gradio", "llama_cpp", "openai"})


def test_describing_interventions_needs_no_model_library() -> None:
    loaded = loaded_after("import persona_interp; persona_interp.InterventionGraph, persona_interp.Add, persona_interp.Trait")
    assert loaded.isdisjoint(HEAVY)


@pytest.mark.parametrize("name", PURE)
def test_pure_code_reaches_no_model_library(name: str) -> None:
    path = PACKAGE.joinpath(*name.split("."))
    if path.with_suffix(".py").exists() or path.is_dir():
        assert loaded_after(f"import persona_interp.{name}").isdisjoint(MODEL_LIBRARIES)


def unsafe_reads(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            yield from (f"line {node.lineno}: {name}" for name in names if name.split(".")[0] in UNSAFE_MODULES)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
            if not any(word.arg == "weights_only" and ast.unparse(word.value) == "True" for word in node.keywords):
                yield f"line {node.lineno}: torch.load without weights_only=True"
        elif isinstance(node, ast.keyword) and node.arg == "allow_pickle" and ast.unparse(node.value) != "False":
            yield f"line {node.value.lineno}: allow_pickle"


UNSAFE_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}


def test_no_file_can_run_code_by_being_read() -> None:
    found = {str(path): list(unsafe_reads(ast.parse(path.read_text(encoding="utf-8")))) for path in modules()}
    assert {path: lines for path, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from joblib import load",
        "torch.load(f)",
        "torch.load(f, weights_only=False)",
        "np.load(f, allow_pickle=True)",
    ],
)
def test_a_planted_unsafe_read_is_found(code: str) -> None:
    assert len(list(unsafe_reads(ast.parse(code)))) == 1


def test_no_input_is_checked_by_assert() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in modules()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Assert)
    ]
    assert found == []


def test_files_and_functions_stay_small() -> None:
    long: list[str] = []
    for path in modules():
        text = path.read_text(encoding="utf-8")
        if len(text.splitlines()) > FILE_LINES:
            long.append(f"{path.relative_to(ROOT)}: {len(text.splitlines())} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                body = node.body[1:] if ast.get_docstring(node) is not None else node.body
                lines = (node.end_lineno or 0) - body[0].lineno + 1 if body else 0
                if lines > FUNCTION_LINES:
                    long.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name}: {lines} lines")
    assert long == []


def test_modules_are_named_after_concepts() -> None:
    vague = {"utils", "util", "helpers", "helper", "manager", "misc", "common"}
    assert [str(path) for path in modules() if vague & set(dotted(path).split("."))] == []


def test_every_module_has_a_docstring_and_postponed_annotations() -> None:
    lacking = []
    for path in modules():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        defines = any(isinstance(node, ast.FunctionDef | ast.ClassDef) for node in tree.body)
        postponed = any(isinstance(node, ast.ImportFrom) and node.module == "__future__" for node in tree.body)
        if ast.get_docstring(tree) is None or (defines and not postponed):
            lacking.append(str(path.relative_to(ROOT)))
    assert lacking == []


def test_what_the_wheel_must_carry_lies_in_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["tool"]["hatch"]["build"]["targets"]["wheel"] == {"packages": ["persona_interp"]}
    assert (PACKAGE / "py.typed").exists()
    # hatchling leaves out what git ignores, so nothing the package needs may be ignored
    needed = [path for pattern in ("*.safetensors", "*.json", "py.typed") for path in PACKAGE.rglob(pattern)]
    done = subprocess.run(["git", "check-ignore", *map(str, needed)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout == ""
