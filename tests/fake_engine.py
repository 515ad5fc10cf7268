"""An engine in memory: a few matrices in plain PyTorch, one row at a time, without pads, cache or hooks.

What a new engine looks like at its smallest. `register` makes it known, as an entry point of another package would.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from persona_interp.interventions.graph import Capture, InterventionGraph, Write
from persona_interp.interventions.operations import Ablate, Add
from persona_interp.models.chat import TokenisedAnswer
from persona_interp.models.engines.capabilities import Capabilities
from persona_interp.models.engines.protocol import Answered, Engine, ModelConfig, OnStep, Step
from persona_interp.models.engines.registry import register_engine
from persona_interp.models.row_sampler import RowSampler
from persona_interp.models.sampling import Sampling
from persona_interp.models.source import ModelSource
from persona_interp.models.steerable import SteerableModel

LAYERS, WIDTH, CONTEXT = 3, 16, 256
SIGNS = ["<unk>", "<end>", *map(chr, range(32, 127)), "\n"]
TEMPLATE = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '<end>' }}{% endfor %}{{ 'assistant: ' }}"
CAPABILITIES = Capabilities(
    "memory",
    first_layer=1,
    operations=frozenset({Add, Ablate}),
    positions=("all", "response"),
    conditions=False,
    unembedding=False,
    module=False,
    restarts=False,
)


class FakeEngine(Engine):
    capabilities = CAPABILITIES
    n_layers, n_ctx, name = LAYERS, CONTEXT, "fake"
    dtype, device = torch.float32, torch.device("cpu")  # type: ignore[assignment]

    def __init__(self, seed: int = 0) -> None:
        drawn = torch.Generator().manual_seed(seed)
        self.seed = seed
        self.config = ModelConfig("fake", "fake", WIDTH, LAYERS, 1, 1, CONTEXT, len(SIGNS))
        self.embedding, self.head = (torch.randn(len(SIGNS), WIDTH, generator=drawn) for _ in range(2))
        self.head /= 8
        self.mixing = torch.randn(LAYERS, 2, WIDTH, WIDTH, generator=drawn)

    @property
    def fingerprint(self) -> str:
        return f"fake-{self.seed}"

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        graph: InterventionGraph,
        sampling: Sampling,
        seeds: Sequence[int],
        *,
        end_ids: frozenset[int],
        on_step: OnStep | None = None,
    ) -> list[Answered]:
        return [
            self._answer(place, list(prompt), graph.for_rows([place]), RowSampler(sampling, [seed]), end_ids, on_step)
            for place, (prompt, seed) in enumerate(zip(prompts, seeds, strict=True))
        ]

    def _answer(
        self,
        place: int,
        prompt: list[int],
        graph: InterventionGraph,
        sampler: RowSampler,
        end_ids: frozenset[int],
        on_step: OnStep | None,
    ) -> Answered:
        answer: list[int] = []
        read = self._captured(TokenisedAnswer(tuple(prompt), len(prompt)), graph)
        for _ in range(sampler.most):
            row = TokenisedAnswer((*prompt, *answer, 0), len(prompt))  # what comes last is not looked at
            logits = self._pass(row, graph)[-1][-1:] @ self.head.T
            token = int(sampler(torch.zeros(1, 1, dtype=torch.long), logits).argmax())
            read = self._captured(row, graph)
            answer.append(token)
            over = on_step(Step([place], lambda token=token: [token], lambda _place, read=read: read)) if on_step else ()
            if token in end_ids or any(over):
                break
        return Answered(answer, read)

    def next_logits(self, prompts: Sequence[Sequence[int]], graph: InterventionGraph) -> Tensor:
        rows = [TokenisedAnswer(tuple(ids), len(ids)) for ids in prompts]
        return torch.stack([self._pass(row, graph.for_rows([place]))[-1][-1] @ self.head.T for place, row in enumerate(rows)])

    def capture(self, rows: Sequence[TokenisedAnswer], graph: InterventionGraph) -> list[Any]:
        return [self._captured(row, graph.for_rows([place])) for place, row in enumerate(rows)]

    def log_probs(self, rows: Sequence[TokenisedAnswer], graphs: Sequence[InterventionGraph]) -> list[list[Tensor]]:
        return [
            [self._log_probs(row, self._pass(row, graph.for_rows([place]))) for place, row in enumerate(rows)] for graph in graphs
        ]

    def gradient(self, rows: Sequence[TokenisedAnswer], layers: Sequence[int], weights: Sequence[Tensor]) -> Tensor:
        found: list[Tensor] = []
        for row, own in zip(rows, weights, strict=True):
            added = torch.zeros(LAYERS, WIDTH, requires_grad=True)
            (slope,) = torch.autograd.grad(self._log_probs(row, self._pass(row, InterventionGraph(), added)) @ own, added)
            found.append(slope[list(layers)])
        return torch.stack(found)

    def _pass(self, row: TokenisedAnswer, graph: InterventionGraph, added: Tensor | None = None) -> Tensor:
        """Residuals ``[layer pos d_model]`` of the tokens that pass."""
        resid = self.embedding[list(row.fed)]
        seen: list[Tensor] = []
        for layer, (own, before) in enumerate(self.mixing):
            average = resid.cumsum(dim=0) / torch.arange(1, len(resid) + 1).unsqueeze(1)
            resid = resid + torch.tanh(resid @ own / 4 + average @ before / 4)
            for write in graph.writes:
                if write.layer == layer:
                    resid = self._written(resid, write, row.n_prompt)
            if added is not None:
                resid = resid + added[layer]
            seen.append(resid)
        return torch.stack(seen)

    def _written(self, resid: Tensor, write: Write, n_prompt: int) -> Tensor:
        place = torch.arange(len(resid))
        factors = [write.schedule.factor(max(0, int(at) - n_prompt + 1)) if write.schedule else 1.0 for at in place]
        coefficient = (write.coefficient * torch.tensor(factors)).view(1, -1, 1)
        moved = write.operation.transform(resid[None], write.operation.direction.view(1, 1, -1), coefficient)[0]
        where = place >= (0 if write.positions == "all" else n_prompt - 1)
        return torch.where(where.unsqueeze(1), moved, resid)

    def _captured(self, row: TokenisedAnswer, graph: InterventionGraph) -> dict[Capture, Tensor]:
        resid = self._pass(row, graph) if graph.captures else torch.zeros(0)
        parts = {"all": slice(None), "prompt": slice(row.n_prompt), "answer": slice(row.n_prompt, None)}
        parts["prompt_last"] = slice(row.n_prompt - 1, row.n_prompt)
        found: dict[Capture, Tensor] = {}
        for capture in graph.captures:
            read = resid[list(capture.layers_of(LAYERS)), parts[capture.positions]]
            if read.shape[1]:
                whole = read[:, 0] if capture.positions == "prompt_last" else read
                mean, norm = read.mean(dim=1), read.norm(dim=-1, keepdim=True).mean(dim=1)
                found[capture] = {"none": whole, "mean": mean, "norm": norm}[capture.reduction]
        return found

    def _log_probs(self, row: TokenisedAnswer, resid: Tensor) -> Tensor:
        scores = (resid[-1, row.n_prompt - 1 :] @ self.head.T).log_softmax(dim=-1)
        return scores[range(len(row.answer_ids)), list(row.answer_ids)]


def fake_tokenizer() -> PreTrainedTokenizerFast:
    """A token a sign."""
    signs = Tokenizer(models.WordLevel({sign: index for index, sign in enumerate(SIGNS)}, unk_token="<unk>"))
    signs.pre_tokenizer = pre_tokenizers.Split(Regex(r"<end>|[\s\S]"), "isolated")
    return PreTrainedTokenizerFast(tokenizer_object=signs, eos_token="<end>", chat_template=TEMPLATE)


def load(source: ModelSource, options: Any, tokenizer: Any, remote: bool | str) -> SteerableModel:
    """A file holds the seed of the weights."""
    with open(source.location) as file:  # noqa: PTH123
        return SteerableModel(FakeEngine(int(file.read())), tokenizer or fake_tokenizer(), name=source.name)


def register() -> None:
    register_engine(
        "memory",
        opens=lambda source: source.location.endswith(".fake"),
        load=load,
        capabilities=CAPABILITIES,
        runs="seeds of random matrices",
    )
