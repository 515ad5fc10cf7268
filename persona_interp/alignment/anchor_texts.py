"""The anchor texts that ship with the package: general English in many registers, written for this project, without labels."""

from __future__ import annotations

from functools import cache
from itertools import chain, zip_longest
from pathlib import Path

from persona_interp.storage import read_jsonl


@cache
def anchor_texts() -> tuple[str, ...]:
    """All texts, a register after the other in turn, so that any first N are mixed.

    A few hundred texts are enough to try things out. To carry vectors between real models give a few thousand texts of your own,
    in as many styles as you can: what they do not contain cannot be carried.
    """
    registers = [
        [str(line["text"]) for line in read_jsonl(path, "anchor texts")]
        for path in sorted((Path(__file__).parent / "texts").glob("*.jsonl"))
    ]
    return tuple(text for text in chain.from_iterable(zip_longest(*registers)) if text is not None)
