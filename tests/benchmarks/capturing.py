"""(a) Reading every block from given texts, against one forward of the same batch that reads nothing."""

from __future__ import annotations

import torch
from measuring import Ratio, compare
from subjects import Subject

from persona_interp.interventions.graph import Capture, InterventionGraph
from persona_interp.models.batching import pad
from persona_interp.models.chat import TokenisedAnswer

N_TEXTS = 32
N_ANSWER = 48
BAR = 1.10


def measure(subject: Subject, rounds: int) -> dict[str, Ratio]:
    model, bare = subject.model, subject.bare
    prompts = [model.chat.prompt_ids(conversation) for conversation in subject.conversations(N_TEXTS)]
    answers = torch.randint(5, 500, (N_TEXTS, N_ANSWER), generator=torch.Generator().manual_seed(0)).tolist()
    texts = [TokenisedAnswer((*prompt, *answer), len(prompt)) for prompt, answer in zip(prompts, answers, strict=True)]
    graph = InterventionGraph((Capture("answer"),))
    read = [text.ids[:-1] for text in texts]  # the last id is never read
    batch = pad(read, [text.n_prompt for text in texts], 0, model.device)

    def forward() -> None:
        with torch.no_grad():
            bare.base_model(batch.ids, attention_mask=batch.attention_mask, position_ids=batch.position_ids, use_cache=False)

    def capture() -> None:
        model.capture(texts, graph, batch_size=N_TEXTS)

    def one_by_one() -> None:
        with torch.no_grad():
            for text, ids in zip(texts, read, strict=True):
                states = bare(torch.tensor([ids], device=model.device), output_hidden_states=True).hidden_states
                torch.stack([state[0, text.n_prompt :].float().mean(dim=0) for state in states[1:]])

    return compare(
        forward,
        {"capture of all layers": capture, "one text at a time, output_hidden_states": one_by_one},
        rounds,
        accelerator=model.device.type == "cuda",
    )
