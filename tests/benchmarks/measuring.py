"""Ratios of running times, taken side by side: the machine may be noisy, but it is noisy for both."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

import torch


@dataclass(frozen=True)
class Ratio:
    """Time of one thing over the time of another, medians over rounds.

    Attributes:
        cpu: ratio of CPU times of the process, which other programs on the machine hardly touch; None on an accelerator.
        wall: ratio of elapsed times.
        seconds: median elapsed time of the thing itself.
        reference_seconds: median elapsed time of what it is compared with.
    """

    cpu: float | None
    wall: float
    seconds: float
    reference_seconds: float

    @property
    def decisive(self) -> float:
        """The ratio a bar is held against."""
        return self.wall if self.cpu is None else self.cpu


def compare(
    reference: Callable[[], object], others: Mapping[str, Callable[[], object]], rounds: int, *, accelerator: bool = False
) -> dict[str, Ratio]:
    """Run everything once to warm up, then `rounds` times in turn, forwards and backwards; medians of ratios round by round."""
    things = {"": reference, **others}
    for thing in things.values():
        thing()
    cpu: dict[str, list[float]] = {name: [] for name in things}
    wall: dict[str, list[float]] = {name: [] for name in things}
    for number in range(rounds):
        for name in list(things)[:: 1 if number % 2 == 0 else -1]:
            began, began_cpu = time.perf_counter(), time.process_time()
            things[name]()
            if accelerator:
                torch.cuda.synchronize()
            cpu[name].append(time.process_time() - began_cpu)
            wall[name].append(time.perf_counter() - began)
    return {
        name: Ratio(
            None if accelerator else median(a / b for a, b in zip(cpu[name], cpu[""], strict=True)),
            median(a / b for a, b in zip(wall[name], wall[""], strict=True)),
            median(wall[name]),
            median(wall[""]),
        )
        for name in others
    }
