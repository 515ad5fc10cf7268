"""How rows are cut up so that each call of llama.cpp holds tokens that are steered alike, and no more than it takes at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from persona_interp.models.engines.llama_cpp.control_vectors import ControlVector, SteeredRows
from persona_interp.models.engines.llama_cpp.session import TOKENS_PER_CALL


@dataclass(frozen=True)
class Row:
    """One row of a batch without its pads."""

    place: int
    ids: list[int]
    n_prompt: int


def phases(group: SteeredRows) -> list[tuple[ControlVector | None, Callable[[Row], tuple[int, int]]]]:
    """What to add, and to which stretch of a row; neighbouring phases that add the same are one."""
    vectors = group.vectors
    prompt, last, answer = vectors.key
    before: Callable[[Row], int] = lambda row: max(0, row.n_prompt - 1)  # noqa: E731
    if prompt == last == answer:
        return [(vectors.answer, lambda row: (0, len(row.ids)))]
    if prompt == last:
        return [(vectors.prompt, lambda row: (0, row.n_prompt)), (vectors.answer, lambda row: (row.n_prompt, len(row.ids)))]
    if last == answer:
        return [(vectors.prompt, lambda row: (0, before(row))), (vectors.answer, lambda row: (before(row), len(row.ids)))]
    return [
        (vectors.prompt, lambda row: (0, before(row))),
        (vectors.last, lambda row: (before(row), row.n_prompt)),
        (vectors.answer, lambda row: (row.n_prompt, len(row.ids))),
    ]


def portions(rows: Sequence[Row]) -> Iterator[list[Row]]:
    """Rows in the order given, as many at a time as one call of llama.cpp takes."""
    some: list[Row] = []
    for row in rows:
        if some and (len(some) + 1) * max(len(row.ids), *(len(other.ids) for other in some)) > TOKENS_PER_CALL:
            yield some
            some = []
        some.append(row)
    if some:
        yield some


def neighbours(spans: Sequence[tuple[int, int]]) -> Iterator[range]:
    """Runs of neighbouring streams that have tokens in their stretch and together fit into one call of llama.cpp."""
    begin, width = 0, 0
    for stream, (first, end) in enumerate(spans):
        size = end - first
        if size <= 0 or (stream + 1 - begin) * max(width, size) > TOKENS_PER_CALL:
            if stream > begin:
                yield range(begin, stream)
            begin, width = (stream + 1, 0) if size <= 0 else (stream, size)
        else:
            width = max(width, size)
    if begin < len(spans):
        yield range(begin, len(spans))
