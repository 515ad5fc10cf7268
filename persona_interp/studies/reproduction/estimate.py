"""What a preset will need, before anything is loaded: memory, disk, tokens and time of each step, from written assumptions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from persona_interp.errors import InvalidInputError
from persona_interp.measure.evaluate_transfer import N_RANDOM, N_SHUFFLED
from persona_interp.models.registry import find_model
from persona_interp.studies.reproduction.preset import COEFFICIENTS, RATIOS, Preset

PAIRS_PER_TRAIT = 5
"""Instructions, positive and negative, of a trait."""
QUESTIONS = 20
"""Questions of a trait, for extraction and for evaluation each."""
CONTROL_CURVES = N_RANDOM + N_SHUFFLED + 4
"""Curves of a transfer beside the methods': random, shuffled, naive, equal depth, another trait's, and the native vector."""
PROMPT_TOKENS = 100
ANCHOR_TOKENS = 120


@dataclass(frozen=True)
class Size:
    """A model in numbers.

    Attributes:
        parameters: all weights.
        layers: blocks.
        d_model: width of the residual stream.
        key_share: key and value heads over attention heads, which the cache shrinks by.
        bytes_each: of a number in memory.
        on_disk: whether its files are here already.
    """

    parameters: float
    layers: int
    d_model: int
    key_share: float
    bytes_each: int
    on_disk: bool


_PUBLISHED = {
    "Qwen/Qwen2.5-7B-Instruct": (7.62e9, 28, 3584, 4 / 28),
    "meta-llama/Llama-3.1-8B-Instruct": (8.03e9, 32, 4096, 8 / 32),
    "mistralai/Mistral-7B-Instruct-v0.3": (7.25e9, 32, 4096, 8 / 32),
}
"""Parameters, layers, width and share of key heads as their makers publish them, for a plan without the hub."""


@dataclass(frozen=True)
class Machine:
    """Assumptions about where it runs.

    Attributes:
        name: of the machine.
        flops: floating-point operations a second that large products reach.
        bandwidth: bytes a second weights are read with.
        rows: answers generated together.
        per_step: seconds a generated token takes at least, all rows together.
        download: bytes a second from the hub.
    """

    name: str
    flops: float
    bandwidth: float
    rows: int
    per_step: float
    download: float


MACHINES = {
    "organisms": Machine("two CPU cores", 4e10, 1e10, 256, 0.02, 1e7),
    "paper": Machine("a GPU of 24 GB (60 TFLOP/s reached in bfloat16, 700 GB/s)", 6e13, 7e11, 64, 0.03, 2e7),
}


@dataclass(frozen=True)
class Step:
    """A step of the plan.

    Attributes:
        name: of the step.
        generated: tokens drawn.
        read: tokens run through the model without drawing any; those with a backward pass count three times.
        memory: bytes at the peak.
        disk: bytes kept or downloaded.
        seconds: about.
    """

    name: str
    generated: float
    read: float
    memory: float
    disk: float
    seconds: float


def plan(preset: Preset, n_anchors: int, machine: Machine | None = None) -> tuple[Step, ...]:
    """The steps of `preset` in their order. Nothing is loaded, and the network is not touched.

    Args:
        preset: what would be run.
        n_anchors: texts that carry vectors.
        machine: assumptions; None: those of the preset.

    Raises:
        InvalidInputError: nothing is known of a model's size.
    """
    machine = MACHINES[preset.name] if machine is None else machine
    return tuple(_steps(preset, n_anchors, machine, {name: model_size(name) for name in preset.models}))


def _steps(preset: Preset, n_anchors: int, machine: Machine, sizes: dict[str, Size]) -> Iterator[Step]:
    answer = preset.sampling.max_new_tokens * 0.6
    questions = QUESTIONS if preset.questions is None else preset.questions
    for name, size in sizes.items():
        if not size.on_disk:
            wanted = size.parameters * 2
            yield Step(f"download {name}", 0, 0, 0, wanted, wanted / machine.download)
    for name, size in sizes.items():
        for trait in preset.traits:
            rows = 2 * PAIRS_PER_TRAIT * QUESTIONS * preset.extraction_samples
            scoring = 32 * (answer + PROMPT_TOKENS) * size.layers
            judging = _judged(preset, rows, answer)
            read = rows * (answer + PROMPT_TOKENS) + scoring + judging
            yield _step(f"extract {trait} from {name}", size, machine, rows, answer, read)
    for name, size in sizes.items():
        for trait in preset.traits:
            arms = 3 + (len(COEFFICIENTS) - 1) * (2 + preset.n_random)
            rows = arms * questions * preset.samples
            yield _step(f"steer {trait} in {name}", size, machine, rows, answer, _judged(preset, 2 * rows, answer))
    for name, size in sizes.items():
        kept = 2.0 * n_anchors * size.layers * size.d_model * 4
        read = 4.0 * n_anchors * (ANCHOR_TOKENS + PROMPT_TOKENS / 4)
        yield _step(f"read {n_anchors} anchors with {name}", size, machine, 0, 0, read, disk=kept, more=kept)
    for source, target in preset.pairs:
        size = sizes[target]
        for trait in preset.traits:
            rows = (3 + (CONTROL_CURVES + len(preset.methods)) * len(RATIOS)) * questions * preset.samples
            kept = 2.0 * n_anchors * 4 * (sizes[source].layers * sizes[source].d_model + size.layers * size.d_model)
            judging = _judged(preset, rows, answer)
            yield _step(f"carry {trait} from {source} to {target}", size, machine, rows, answer, judging, more=kept)


def _step(
    name: str, size: Size, machine: Machine, rows: float, answer: float, read: float, *, disk: float = 0.0, more: float = 0.0
) -> Step:
    """Generation reads the weights once a token for all rows together; reading is bound by the products."""
    generated = rows * answer
    weights = size.parameters * size.bytes_each
    a_step = max(machine.per_step, weights / machine.bandwidth, 2 * size.parameters * machine.rows / machine.flops)
    seconds = generated / machine.rows * a_step + 2 * size.parameters * (read + rows * PROMPT_TOKENS) / machine.flops
    cache = 2.0 * size.bytes_each * machine.rows * (PROMPT_TOKENS + answer) * size.layers * size.d_model * size.key_share
    return Step(name, generated, read, weights * 1.1 + cache + more, disk + generated * 6, seconds)


def _judged(preset: Preset, answers: float, tokens: float) -> float:
    """Tokens a judge reads; the grammar's is a parser."""
    return 0.0 if preset.judge == "grammar" else 2 * answers * (tokens + 300)


def model_size(name: str) -> Size:
    """From the folder of a model that lies here, else as published.

    Raises:
        InvalidInputError: neither is known.
    """
    found = find_model(name)
    folder = Path(found.location)
    config = folder / "config.json"
    if found.local and config.exists():
        told = json.loads(config.read_text(encoding="utf-8"))
        weights = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
        layers = told.get("num_hidden_layers", told.get("n_layer"))
        width = told.get("hidden_size", told.get("n_embd"))
        heads = told.get("num_attention_heads", told.get("n_head"))
        return Size(weights / 2, int(layers), int(width), told.get("num_key_value_heads", heads) / heads, 4, True)
    if found.location in _PUBLISHED:
        return Size(*_PUBLISHED[found.location], bytes_each=2, on_disk=False)
    raise InvalidInputError(f"nothing is known of the size of {name}: load it first, or plan with a preset")
