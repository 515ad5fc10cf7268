"""One model on every engine that can open it: the same prompts, with and without a push, and how far the engines differ."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field, replace
from time import process_time
from typing import Any

import torch
from torch import Tensor

from persona_interp.errors import MissingExtraError, PersonaInterpError, UnsupportedError
from persona_interp.interventions.compile.transformer_lens import transformer_lens_hooks
from persona_interp.interventions.graph import Capture, InterventionGraph, Write
from persona_interp.interventions.operations import Add
from persona_interp.models.chat import TokenisedAnswer
from persona_interp.models.load import load_model
from persona_interp.models.registry import LLAMA_CPP, TORCH, find_model
from persona_interp.models.steerable import SteerableModel
from persona_interp.models.steered import steered
from persona_interp.traits.conversation import Conversation

PROMPTS = (
    "What is the capital of France?",
    "How do bees make honey?",
    "Write one sentence about the sea.",
    "What is 7 plus 5?",
    "Why is the sky blue?",
    "Name a fruit that is yellow.",
    "Is the earth flat?",
    "How do I boil an egg?",
    "What do you think of rain?",
    "Who wrote Hamlet?",
)
RATIO = 0.3
"""Of the push: its length over the residual stream's, at the middle layer; enough to move every model, and no cliff."""

_MEASURED = 2
"""Prompts whose residuals say how long the push is to be."""
_SAME_WEIGHTS = 0.02
_AGREE = 0.7
_REFERENCE = "nnsight"


@dataclass(frozen=True)
class EngineResult:
    """What one engine did.

    Attributes:
        engine: ``nnsight``, ``hooks`` (plain PyTorch hooks), ``TransformerLens`` or ``llama.cpp``.
        unavailable: why it cannot open the model; None: it ran.
        top1: share of the prompts on which its likeliest next token is that of the first engine.
        logit_difference: largest difference of next-token logits to the first engine, unsteered.
        steered_difference: likewise, pushed.
        moved: how far the push moved its own logits at most.
    """

    engine: str
    unavailable: str | None = None
    top1: float | None = None
    logit_difference: float | None = None
    steered_difference: float | None = None
    moved: float | None = None


@dataclass(frozen=True)
class ModelCheck:
    """What `check_model` found.

    Attributes:
        model: name.
        facts: template, end tokens, layout and so on, in words.
        engines: those tried, the reference first.
        problems: what is broken, in sentences; none: nothing.
        seconds: of processors, which each part took: ``loading``, and the comparison, of every engine.
    """

    model: str
    facts: dict[str, str]
    engines: tuple[EngineResult, ...]
    problems: tuple[str, ...] = field(default=())
    seconds: dict[str, float] = field(default_factory=dict[str, float])

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)


def check_model(name: str, **options: Any) -> ModelCheck:
    """Open a model on every engine that can, and compare what they predict on `PROMPTS`.

    Args:
        name: as `load_model` takes it.
        options: of `load_model`, for the PyTorch engine.

    Raises:
        PersonaInterpError: no engine can open it.
    """
    file, results, problems = find_model(name), list[EngineResult](), list[str]()
    facts, reference, clock, given = dict[str, str](), list[tuple[Tensor, Tensor]](), _Clock(), None
    for engine in (TORCH, LLAMA_CPP) if file.gguf else (TORCH,):
        label = _REFERENCE if engine == TORCH else LLAMA_CPP
        try:
            chosen = {"engine": engine, **(options if engine == TORCH else {})} if file.gguf else options
            with clock.part(f"loading for {label}"):
                opened = load_model(name, **chosen)
            with opened as model:
                facts |= facts_of(model) if not facts else {}
                prompts = [model.chat.prompt_ids(Conversation.ask(text)) for text in PROMPTS]
                with clock.part(label):
                    given = given or _Given.of(model, prompts)
                if prompts != given.prompts:
                    problems.append(f"{label} tokenises the prompts otherwise than {results[0].engine}: ids differ")
                for which, logits in _runs(model, label, given, clock):
                    results.append(_compared(which, logits, reference, problems))
        except PersonaInterpError as error:
            if not file.gguf:
                raise
            results.append(EngineResult(label, unavailable=str(error)))
    if not reference:
        raise PersonaInterpError(f"no engine can open {name}: {'; '.join(str(one.unavailable) for one in results)}")
    return ModelCheck(file.name, facts, tuple(results), tuple(problems), clock.seconds)


class _Clock:
    """Processor seconds by part: what other programs take of a machine counts as nothing."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Add what the block takes to the seconds of `name`."""
        start = process_time()
        try:
            yield
        finally:
            self.seconds[name] = round(self.seconds.get(name, 0.0) + process_time() - start, 2)


def facts_of(model: SteerableModel) -> dict[str, str]:
    """How conversations are put to a model, where its answers end, and what it is made of."""
    chat = model.chat
    if chat.plain:
        template = "none: a plain layout of User: and Assistant: lines"
    else:
        template = "its own; system texts " + ("go to the head of the first user turn" if chat.folds_system else "have a turn")
    prompt = chat.prompt_text(Conversation.ask("Hi?"))
    ends = [repr(model.tokenizer.decode([index])) for index in sorted(chat.end_ids)]
    return {
        "architecture": str(model.config.model_type),
        "layout": f"{model.n_layers} blocks, {model.d_model} wide, {model.n_ctx} tokens of context",
        "weights": f"{str(model.dtype).removeprefix('torch.')} on {model.device}",
        "template": template,
        "a prompt ends in": repr(prompt[-40:]),
        "answers end at": ", ".join(ends) or "no token: they run to the limit",
    }


@dataclass(frozen=True)
class _Given:
    """The ids of the prompts as one engine makes them, and a push."""

    prompts: list[list[int]]
    push: InterventionGraph

    @classmethod
    def of(cls, model: SteerableModel, prompts: list[list[int]]) -> _Given:
        """A random direction at the middle layer, as long as `RATIO` of what the first prompts have there."""
        layer = max(min(1, model.n_layers - 1), model.n_layers // 2)
        ends = Capture("prompt_last", layers=(layer,))
        rows = [TokenisedAnswer(tuple(ids), len(ids)) for ids in prompts[:_MEASURED]]
        resid = torch.stack([read[ends][0] for read in model.capture(rows, InterventionGraph((ends,)))])
        direction = torch.randn(model.d_model, generator=torch.Generator().manual_seed(0))
        length = RATIO * float(resid.norm(dim=1).mean())
        return cls(prompts, InterventionGraph((Write(layer, Add(direction / direction.norm() * length)),)))

    @property
    def twice(self) -> tuple[list[list[int]], InterventionGraph]:
        """The prompts as they are and once more, and a graph that pushes the second ones."""
        n = len(self.prompts)
        pushed = tuple(replace(write, rows=tuple(range(n, 2 * n))) for write in self.push.writes)
        return [*self.prompts, *self.prompts], InterventionGraph(pushed)


def _runs(model: SteerableModel, label: str, given: _Given, clock: _Clock) -> Iterator[tuple[str, tuple[Tensor, Tensor] | str]]:
    """(engine, logits of the next token ``[prompt vocab]`` without and with the push, or why there are none)."""
    with clock.part(label):
        rows, graph = given.twice
        plain, pushed = model.next_token_logits(rows, graph=graph).chunk(2)
    yield label, (plain, pushed)
    if label != _REFERENCE:
        return
    with clock.part("hooks"):
        logits = _by_calls(model.hf_model, lambda: steered(model.hf_model, given.push), given.prompts, model.device)
    yield "hooks", logits
    try:
        with clock.part("loading for TransformerLens"):
            bridge = model.bridge()
        with clock.part("TransformerLens"):
            logits = _by_calls(bridge, lambda: transformer_lens_hooks(bridge, given.push), given.prompts, model.device)
        yield "TransformerLens", logits
    except (UnsupportedError, MissingExtraError) as error:
        yield "TransformerLens", str(error)


def _by_calls(
    called: Any,
    pushed: Callable[[], AbstractContextManager[Any]],
    prompts: Sequence[list[int]],
    device: torch.device,
) -> tuple[Tensor, Tensor]:
    """Logits of what is called like a PyTorch module, without and with a push; all prompts in one call each.

    Short prompts go on with their last token, which what is read of them cannot see: so no engine has to be told of pads.
    """
    width = max(map(len, prompts))
    ids = torch.tensor([[*row, *[row[-1]] * (width - len(row))] for row in prompts], device=device)
    rows, ends = torch.arange(len(prompts)), torch.tensor([len(row) - 1 for row in prompts])

    def logits() -> Tensor:
        found = called(ids)
        return getattr(found, "logits", found)[rows, ends].float().cpu()

    with torch.no_grad():
        plain = logits()
        with pushed():
            return plain, logits()


def _compared(
    engine: str, found: tuple[Tensor, Tensor] | str, reference: list[tuple[Tensor, Tensor]], problems: list[str]
) -> EngineResult:
    """The result of one engine; the first becomes the reference of the others, and what is broken is added to `problems`."""
    if isinstance(found, str):
        return EngineResult(engine, unavailable=found)
    plain, pushed = found
    if not bool(plain.isfinite().all() and pushed.isfinite().all()):
        problems.append(f"{engine} returns logits that are not finite")
    moved = float((pushed - plain).abs().max())
    if moved < _SAME_WEIGHTS:
        problems.append(f"{engine} was pushed and did not move: its logits differ by {moved:.2g} at most")
    if not reference:
        reference.append(found)
    first, first_pushed = reference[0]
    width = min(first.shape[1], plain.shape[1])
    difference = float((first[:, :width] - plain[:, :width]).abs().max())
    top1 = float((first.argmax(1) == plain.argmax(1)).float().mean())
    exact = engine != LLAMA_CPP and first.dtype == torch.float32
    if top1 < _AGREE or (exact and difference > _SAME_WEIGHTS * float(first.abs().max())):
        problems.append(
            f"{engine} and the first engine disagree: same likeliest token {top1:.0%}, logits up to {difference:.2g} apart"
        )
    return EngineResult(engine, None, top1, difference, float((first_pushed[:, :width] - pushed[:, :width]).abs().max()), moved)
