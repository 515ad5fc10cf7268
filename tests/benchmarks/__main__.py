"""What this package costs: ``python tests/benchmarks [PART ...] [--rounds N] [--output FILE.json]``.

Parts: capture, extract, steer, sweep, gguf, judge, real, memory, alignment, start, busy.

Every number is a ratio of two things run in turn in one process, a median over rounds. A bar is held against process CPU time,
which other programs on the machine hardly touch (on an accelerator: against elapsed time).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import aligning
import beside_others
import capturing
import controlling
import extracting
import judging
import memory
import on_real
import starting
import steering
import sweeping
import torch
from measuring import Ratio
from subjects import Subject, hundred_million, organism

from persona_interp.cli.tables import console, table
from persona_interp.provenance import provenance
from persona_interp.storage import write_json

PARTS = ("capture", "extract", "steer", "sweep", "gguf", "judge", "real", "memory", "alignment", "start", "busy")
WITHOUT_MODEL = {"judge", "real", "memory", "alignment", "start", "busy"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)} (default: all)")
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=1, help="of torch (default: %(default)s)")
    parser.add_argument("--device", default="cpu", help="of the random model and the alignments (default: %(default)s)")
    parser.add_argument("--organism-only", action="store_true", help="leave the 100 M model out")
    parser.add_argument("--output", type=Path, metavar="FILE.json")
    args = parser.parse_args()
    if unknown := set(args.parts) - set(PARTS):
        parser.error(f"unknown part {sorted(unknown)[0]!r}: choose from {', '.join(PARTS)}")
    torch.set_num_threads(args.threads)
    parts = args.parts or PARTS
    results: dict[str, Any] = {}
    rows: list[list[str]] = []
    subjects: list[Callable[[], Subject]] = [organism] if args.organism_only else [organism, lambda: hundred_million(args.device)]
    for made in subjects if set(parts) - WITHOUT_MODEL else []:
        subject = made()
        held = subject.name != "organism-qwen2"
        for name, ratio, bar in _ratios(subject, parts, args.rounds, held=held):
            rows.append(_row(subject.name, name, ratio, bar))
            results.setdefault(subject.name, {})[name] = {**asdict(ratio), "bar": bar}
    if "alignment" in parts:
        for name, (ratio, bar) in aligning.measure(args.rounds, args.device).items():
            rows.append(_row(f"none, width {aligning.WIDTH}", name, ratio, bar))
            results.setdefault("alignment", {})[name] = {**asdict(ratio), "bar": bar}
    if "real" in parts:
        ratios, speeds = on_real.measure(args.rounds)
        results[on_real.NAME] = {name: {**asdict(ratio), "bar": on_real.BARS[name]} for name, ratio in ratios.items()}
        results[on_real.NAME]["tokens a second"] = speeds
        rows += [_row(on_real.NAME, name, ratio, on_real.BARS[name]) for name, ratio in ratios.items()]
        print("tokens a second, 16 rows: " + ", ".join(f"{name} {speed:.0f}" for name, speed in speeds.items()))
    if "judge" in parts:
        for name, ratio in judging.measure(args.rounds).items():
            rows.append(_row("smollm2-135m", f"rubric judge, {name}", ratio, judging.BAR))
            results.setdefault("judge", {})[name] = {**asdict(ratio), "bar": judging.BAR}
    if rows:
        headings = ["model", "what", "CPU time", "elapsed", "seconds", "bar", ""]
        sides = ["left", "left", "right", "right", "right", "right", "left"]
        console().print(table("Time over the time of the reference", list(zip(headings, sides, strict=True)), rows))
    if "memory" in parts:
        peaks = memory.measure()
        few, many = (peaks[count] for count in memory.COUNTS)
        results["memory"] = {**{f"{count} rollouts, MiB": round(peak, 1) for count, peak in peaks.items()}, "bar": memory.BAR}
        print(
            f"peak memory of an extraction: {few:.0f} MiB at {memory.COUNTS[0]} rollouts, {many:.0f} MiB at {memory.COUNTS[1]}: ",
            end="",
        )
        print(f"ratio {many / few:.3f}, bar {memory.BAR}, {_verdict(many / few, memory.BAR)}")
    if "alignment" in parts:
        held = aligning.memory()
        results["alignment"]["memory"] = {"MiB": {name: round(peak, 1) for name, peak in held.items()}, "bar": aligning.BAR}
        for name, ratio in aligning.memory_ratios(held).items():
            results["alignment"]["memory"][name] = round(ratio, 3)
            print(f"memory of {name}: ratio {ratio:.3f}, bar {aligning.BAR}, {_verdict(ratio, aligning.BAR)}")
    if "start" in parts:
        results["start"] = _starting(args.rounds)
    if "busy" in parts:
        results["busy"] = _beside_others()
    if args.output:
        write_json(args.output, {"format_version": 1, "results": results, "provenance": provenance(threads=args.threads)})
        print(f"wrote {args.output}")


def _starting(rounds: int) -> dict[str, Any]:
    found = starting.measure(rounds)
    for name, seconds in found.items():
        bar = starting.BARS[name]
        print(f"{name}: {seconds:.2f} CPU seconds, bar {bar}, {_verdict(seconds, bar)}")
    return {name: {"CPU seconds": round(seconds, 3), "bar": starting.BARS[name]} for name, seconds in found.items()}


def _beside_others() -> dict[str, float]:
    alone, beside = beside_others.measure()
    ratio, bar = beside / alone, beside_others.BAR
    print(f"an extraction beside a busy program on every core: {beside:.1f} s, alone {alone:.1f} s: ", end="")
    print(f"ratio {ratio:.2f}, bar {bar}, {_verdict(ratio, bar)}")
    return {"alone": round(alone, 2), "beside": round(beside, 2), "bar": bar}


def _ratios(subject: Subject, parts: tuple[str, ...], rounds: int, *, held: bool) -> list[tuple[str, Ratio, float | None]]:
    """Name, ratio and bar; `held`: the subject is large enough for the bars of extraction and steering to mean something."""
    found: list[tuple[str, Ratio, float | None]] = []
    if "capture" in parts:
        for name, ratio in capturing.measure(subject, rounds).items():
            found.append((name, ratio, capturing.BAR if name.startswith("capture") else None))
    if "extract" in parts:
        found += [(name, ratio, extracting.BAR if held else None) for name, ratio in extracting.measure(subject, rounds).items()]
    if "steer" in parts:
        for group in steering.measure(subject, rounds).values():
            bar = steering.BAR if held else None
            found += [(name, ratio, None if "no steering" in name else bar) for name, ratio in group.items()]
    if "sweep" in parts:
        found += [(name, ratio, bar) for name, (ratio, bar) in sweeping.measure(subject, rounds).items()]
    if "gguf" in parts:
        for name, (ratio, bar) in controlling.measure(subject, rounds).items():
            found.append((f"GGUF: {name}", ratio, bar if held else None))
    return found


def _row(subject: str, name: str, ratio: Ratio, bar: float | None) -> list[str]:
    cpu = "-" if ratio.cpu is None else f"{ratio.cpu:.3f}"
    held = ["-", ""] if bar is None else [f"{bar:.2f}", _verdict(ratio.decisive, bar)]
    return [subject, name, cpu, f"{ratio.wall:.3f}", f"{ratio.seconds:.2f}", *held]


def _verdict(ratio: float, bar: float) -> str:
    return "met" if ratio <= bar else "missed"


if __name__ == "__main__":
    main()
