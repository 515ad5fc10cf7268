"""(f) Alignments fitted from streamed moments, against the matrix products and the one SVD they need, in time and in memory."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from measuring import Ratio, compare

from persona_interp.alignment.linear_alignment import LinearAlignment
from persona_interp.alignment.methods import alignment_method
from persona_interp.alignment.paired_moments import PairedMoments

WIDTH = 2048
ROWS, CHUNK = 4096, 512
BAR = 1.3
HELD = {"procrustes": {}, "ridge": {"strength": 0.1}}
"""Methods of one decomposition; the others need more, and are told for comparison."""
TOLD = {"reduced-rank": {"rank": 64, "strength": 0.1}, "cca": {"n_components": 64}}

COUNTS = (2048, 16384)
MEMORY_CHUNK = 128
"""Rows held at a time by whoever streams them; they count as memory of the moments here."""
MEMORY_STEPS = ("moments", "fit", "reference")


def measure(rounds: int, device: str) -> dict[str, tuple[Ratio, float | None]]:
    """Name -> ratio to the products and the SVD, and the bar where one is held."""
    source, target = (torch.randn(ROWS, WIDTH, generator=torch.Generator().manual_seed(n)).to(device) for n in (0, 1))

    def chunks() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        return zip(source.split(CHUNK), target.split(CHUNK), strict=True)

    def needed() -> None:
        products(chunks(), device, decompose=True)

    def streamed() -> PairedMoments:
        moments = PairedMoments.empty(WIDTH, WIDTH, device=device)
        for rows in chunks():
            moments = moments.including(*rows)
        return moments

    def fitting(name: str, options: dict[str, float]) -> Callable[[], LinearAlignment]:
        return lambda: alignment_method(name, **options).fit(streamed())

    things = {f"fit of {name}": fitting(name, options) for name, options in {**HELD, **TOLD}.items()}
    found = compare(needed, things, rounds, accelerator=device != "cpu")
    return {name: (ratio, BAR if name.removeprefix("fit of ") in HELD else None) for name, ratio in found.items()}


def products(chunks: Iterator[tuple[torch.Tensor, torch.Tensor]], device: str, *, decompose: bool) -> None:
    """The three products of raw rows that no fit can do without, the SVD, and the map from its factors."""
    squares = [torch.zeros(WIDTH, WIDTH, dtype=torch.float64, device=device) for _ in range(3)]
    for rows in chunks:
        x, y = (side.double() for side in rows)
        for square, (left, right) in zip(squares, ((x, x), (x, y), (y, y)), strict=True):
            square.addmm_(left.T, right)
    if decompose:
        left, _, right = torch.linalg.svd(squares[1], full_matrices=False)
        left @ right


def memory() -> dict[str, float]:
    """Memory of each step at few and many rows, in MiB above what was held before it, each in a process of its own."""
    return {f"{step}, {count} rows": _peak(step, count) for step in MEMORY_STEPS for count in COUNTS}


def memory_ratios(peaks: dict[str, float]) -> dict[str, float]:
    """Moments over their three matrices; the whole fit over the products and the SVD; both at the worse of the two counts."""
    matrices = 3 * WIDTH * WIDTH * 8 / 2**20
    return {
        "moments over their matrices": max(peaks[f"moments, {count} rows"] / matrices for count in COUNTS),
        "fit over products and SVD": max(peaks[f"fit, {count} rows"] / peaks[f"reference, {count} rows"] for count in COUNTS),
    }


def _peak(step: str, count: int) -> float:
    ran = subprocess.run([sys.executable, __file__, step, str(count)], capture_output=True, text=True, check=False)
    if ran.returncode:
        raise SystemExit(f"the memory of {step} at {count} rows could not be measured:\n{ran.stderr}")
    return float(json.loads(ran.stdout.splitlines()[-1]))


def _highest() -> float:
    """Highest resident memory so far in MiB, of this process alone: what `getrusage` says begins with the parent's."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def _child(step: str, count: int) -> float:
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)

    def chunks(n: int, width: int = WIDTH) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for _ in range(n // MEMORY_CHUNK):
            source = torch.randn(MEMORY_CHUNK, width, generator=generator)
            yield source, torch.randn(MEMORY_CHUNK, width, generator=generator)

    for source, target in chunks(MEMORY_CHUNK, 64):  # loads the libraries that decompose and multiply
        alignment_method("procrustes").fit(PairedMoments.of(source, target))
    before = _highest()
    if step == "reference":
        products(chunks(count), "cpu", decompose=True)
    else:
        moments = PairedMoments.empty(WIDTH, WIDTH)
        for source, target in chunks(count):
            moments = moments.including(source, target)
        if step == "fit":
            alignment_method("procrustes").fit(moments)
    return _highest() - before


if __name__ == "__main__":
    sys.stdout.write(f"{_child(sys.argv[1], int(sys.argv[2]))}\n")
