"""What a server counts, in the text format that Prometheus reads."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

BOUNDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper ends of the bins of times, seconds."""
_PREFIX = "persona_interp_"
_COUNTERS = {
    "requests_total": "Requests by route and status.",
    "persona_requests_total": "Requests by persona; none: unsteered.",
    "answers_total": "Answers by how they ended.",
    "prompt_tokens_total": "Tokens of prompts.",
    "completion_tokens_total": "Tokens of answers.",
}
_TIMES = {
    "time_to_first_token_seconds": "From the arrival of a request to its first token.",
    "request_seconds": "From the arrival of a request to the end of its last answer.",
}


class Metrics:
    """Counters and times; safe from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[str, dict[tuple[tuple[str, str], ...], float]] = {name: {} for name in _COUNTERS}
        self._bins: dict[str, list[int]] = {name: [0] * (len(BOUNDS) + 1) for name in _TIMES}
        self._sums = dict.fromkeys(_TIMES, 0.0)

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        """Add to a counter."""
        key = tuple(sorted(labels.items()))
        with self._lock:
            self._counts[name][key] = self._counts[name].get(key, 0) + amount

    def time(self, name: str, seconds: float) -> None:
        """Note a time."""
        with self._lock:
            self._bins[name][sum(seconds > bound for bound in BOUNDS)] += 1
            self._sums[name] += seconds

    def text(self, gauges: Mapping[str, float]) -> str:
        """All of it, and what is so now."""
        lines: list[str] = []
        with self._lock:
            for name, about in _COUNTERS.items():
                lines += _head(name, about, "counter")
                lines += [_line(name, labels, value) for labels, value in sorted(self._counts[name].items())]
            for name, about in _TIMES.items():
                lines += _head(name, about, "histogram")
                total = 0
                for bound, number in zip((*map(str, BOUNDS), "+Inf"), self._bins[name], strict=True):
                    total += number
                    lines.append(_line(f"{name}_bucket", (("le", bound),), total))
                lines += [_line(f"{name}_sum", (), self._sums[name]), _line(f"{name}_count", (), total)]
        for name, value in gauges.items():
            lines += [*_head(name, f"Answers {name.removeprefix('answers_')} now.", "gauge"), _line(name, (), value)]
        return "\n".join(lines) + "\n"


def _head(name: str, about: str, kind: str) -> list[str]:
    return [f"# HELP {_PREFIX}{name} {about}", f"# TYPE {_PREFIX}{name} {kind}"]


def _line(name: str, labels: Sequence[tuple[str, str]], value: float) -> str:
    escaped = [(key, word.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")) for key, word in labels]
    listed = ",".join(f'{key}="{word}"' for key, word in escaped)
    return f"{_PREFIX}{name}{{{listed}}} {value!r}" if listed else f"{_PREFIX}{name} {value!r}"
