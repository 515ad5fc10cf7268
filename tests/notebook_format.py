"""The form notebooks are kept in: no outputs, one kernel, named cells. ``python tests/notebook_format.py`` brings them to it."""

from __future__ import annotations

import copy
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def stripped(notebook: Mapping[str, Any]) -> Any:
    """`notebook` without outputs, counts and whatever an editor noted down; its cells keep their names."""
    kept = copy.deepcopy(notebook)
    cells = []
    for cell in kept["cells"]:
        ran = {"outputs": [], "execution_count": None} if cell["cell_type"] == "code" else {}
        source = "\n".join(line.rstrip() for line in cell["source"].strip().splitlines())
        cells.append({"cell_type": cell["cell_type"], "id": cell["id"], "metadata": {}, "source": source, **ran})
    return nbformat.from_dict({"cells": cells, "metadata": METADATA, "nbformat": 4, "nbformat_minor": 5})


def as_text(notebook: Any) -> str:
    """As Jupyter itself writes it, so that saving one changes no more than was edited."""
    return nbformat.writes(notebook) + "\n"


def main(paths: list[str]) -> int:
    """Strip the notebooks at `paths`, all of the folder if none is given; say which changed."""
    for path in map(Path, paths) if paths else sorted(NOTEBOOKS.glob("*.ipynb")):
        before = path.read_text(encoding="utf-8")
        after = as_text(stripped(nbformat.reads(before, as_version=4)))
        if after != before:
            path.write_text(after, encoding="utf-8")
            sys.stdout.write(f"{path}: stripped\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
