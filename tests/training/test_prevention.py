"""`preventing`: the gradients are those of a forward written by hand, whatever runs it, and nothing is left attached."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor

from persona_interp.errors import IncompatibleError, InvalidInputError, UnsupportedError
from persona_interp.interventions.graph import Capture, InterventionGraph, Write
from persona_interp.interventions.operations import Ablate, Add
from persona_interp.training.callback import PreventionCallback
from persona_interp.training.prevention import preventing

LAYERS = (1, 2)
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # peft asks for it


def batch(seed: int, width: int = 7) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, 60, (3, width), generator=generator)
    mask = torch.ones_like(ids)
    mask[1, -2:] = 0  # right pads
    labels = ids.masked_fill(mask == 0, -100)
    labels[:, :3] = -100
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def graph_for(model: Any, positions: Any = "all", operation: Any = Add) -> InterventionGraph:
    width = model.config.hidden_size
    generator = torch.Generator().manual_seed(0)
    return InterventionGraph(
        tuple(Write(layer, operation(torch.randn(width, generator=generator)), 0.7, positions) for layer in LAYERS)
    )


def by_hand(model: Any, data: dict[str, Tensor], graph: InterventionGraph, where: Tensor) -> Tensor:
    """The loss of a forward in which each write is a plain addition in the blocks' outputs, by bare hooks of this test."""
    blocks = model.get_submodule("transformer.h" if model.config.model_type == "gpt2" else "model.layers")
    handles = [
        blocks[write.layer].register_forward_hook(
            lambda module, args, output, write=write: output + where.unsqueeze(-1) * write.coefficient * write.operation.direction
        )
        for write in graph.writes
    ]
    loss = model(**data).loss
    for handle in handles:
        handle.remove()
    return loss


def gradients(model: Any) -> dict[str, Tensor]:
    found = {name: each.grad.clone() for name, each in model.named_parameters() if each.grad is not None}
    model.zero_grad()
    return found


def hooks_of(model: Any) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


def places(data: dict[str, Tensor], positions: str) -> Tensor:
    real, answer = data["attention_mask"].bool(), data["labels"] != -100
    before = torch.cat([answer[:, 1:], torch.zeros_like(answer[:, :1])], dim=1)
    return {"all": real, "prompt": real & ~answer, "response": real & (answer | before)}[positions]


@pytest.mark.parametrize("positions", ["all", "prompt", "response"])
def test_gradients_are_those_of_a_forward_written_by_hand(tiny_hf: Callable, architecture: str, positions: str) -> None:
    model, _ = tiny_hf(architecture)
    data, graph = batch(0), graph_for(model, positions)
    by_hand(model, data, graph, places(data, positions)).backward()
    expected = gradients(model)
    model(**data).loss.backward()
    plain = gradients(model)
    with preventing(model, graph):
        model(**data).loss.backward()
    found = gradients(model)
    torch.testing.assert_close(found, expected)
    assert any(not torch.allclose(found[name], plain[name]) for name in plain)


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")  # the call without gradients
@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_gradient_checkpointing_changes_nothing_whatever_ran_between(tiny_hf: Callable, family: str, reentrant: bool) -> None:
    model, _ = tiny_hf(family)
    graph, first, second = graph_for(model, "response"), batch(1), batch(2, width=9)
    with preventing(model, graph):
        (model(**first).loss + 2 * model(**second).loss).backward()
        expected = gradients(model)
        model.train()
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        checkpointing = (
            getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
        )  # renamed in 5.23
        checkpointing({"use_reentrant": reentrant})
        model.enable_input_require_grads()
        losses = model(**first).loss, model(**second).loss
        with torch.no_grad():
            model(**first)
        (losses[0] + 2 * losses[1]).backward()
    torch.testing.assert_close(gradients(model), expected)


def test_accumulated_gradients_are_the_sum(tiny_hf: Callable) -> None:
    model, _ = tiny_hf("qwen2")
    graph, parts = graph_for(model), [batch(seed, width) for seed, width in ((1, 7), (2, 5), (3, 8))]
    for data in parts:
        by_hand(model, data, graph, places(data, "all")).backward()
    expected = gradients(model)
    with preventing(model, graph):
        for data in parts:
            model(**data).loss.backward()
    torch.testing.assert_close(gradients(model), expected)


def test_calls_without_gradients_are_left_alone(tiny_hf: Callable) -> None:
    model, _ = tiny_hf("llama")
    data = batch(0)
    with torch.no_grad():
        expected = model(**data).logits
        with preventing(model, graph_for(model)):
            assert torch.equal(model(**data).logits, expected)
            written = model.generate(input_ids=data["input_ids"][:1], max_new_tokens=3, do_sample=False)
    assert torch.equal(written, model.generate(input_ids=data["input_ids"][:1], max_new_tokens=3, do_sample=False))


def test_nothing_is_left_after_an_error(tiny_hf: Callable) -> None:
    model, _ = tiny_hf("llama")
    before = hooks_of(model)
    wrong = {**batch(0), "input_ids": torch.full((3, 7), 10**6)}
    with pytest.raises(IndexError), preventing(model, graph_for(model)):
        model(**wrong)
    assert hooks_of(model) == before


@pytest.mark.parametrize("when", ["before", "inside"])
def test_layers_wrapped_by_lora_and_frozen_ones_are_written_to_alike(tiny_hf: Callable, when: str) -> None:
    config = LoraConfig(target_modules=["q_proj", "down_proj"], r=2, init_lora_weights=False, layers_to_transform=[2])
    graphs, found = [], []
    for hand in (True, False):
        model, _ = tiny_hf("llama")
        torch.manual_seed(0)
        data, graph = batch(0), graph_for(model)
        graphs.append(graph)
        if hand:
            peft = get_peft_model(model, config)
            by_hand(model, data, graph, places(data, "all")).backward()
        elif when == "before":
            peft = get_peft_model(model, config)
            with preventing(peft, graph):
                peft(**data).loss.backward()
        else:
            with preventing(model, graph):
                peft = get_peft_model(model, config)
                peft(**data).loss.backward()
        found.append(gradients(peft))
        assert found[-1]
        assert all("lora" in name for name in found[-1])  # all else is frozen
    torch.testing.assert_close(found[1], found[0])


def test_ablation_works_at_every_step_too(tiny_hf: Callable) -> None:
    model, _ = tiny_hf("llama")
    graph = graph_for(model, operation=Ablate)
    with preventing(model, graph):
        model(**batch(0)).loss.backward()
    assert gradients(model)


def test_what_does_not_fit_is_refused_in_words(tiny_hf: Callable) -> None:
    model, _ = tiny_hf("llama")
    for graph, error, words in (
        (InterventionGraph((Write(1, Add(torch.ones(7))),)), IncompatibleError, "width"),
        (InterventionGraph((Write(99, Add(torch.ones(model.config.hidden_size))),)), IncompatibleError, "layer 99"),
        (InterventionGraph(), InvalidInputError, "no Write"),
        (InterventionGraph((Capture("all"),)), UnsupportedError, "only writes"),
    ):
        with pytest.raises(error, match=words), preventing(model, graph):
            pass
    data = {name: value for name, value in batch(0).items() if name != "labels"}
    with preventing(model, graph_for(model, "response")), pytest.raises(UnsupportedError, match="labels="):
        model(**data)
    with pytest.raises(InvalidInputError, match="no config"), preventing(torch.nn.Linear(2, 2), graph_for(model)):
        pass


def trainer_of(model: Any, folder: Any, *callbacks: Any, steps: int = 2) -> Any:
    from transformers import Trainer, TrainingArguments

    args = TrainingArguments(
        str(folder), max_steps=steps, per_device_train_batch_size=1, report_to=[], use_cpu=True, disable_tqdm=True,
        save_strategy="no", learning_rate=1e-2, optim="sgd", lr_scheduler_type="constant",
        gradient_accumulation_steps=2, dataloader_pin_memory=False,
    )  # fmt: skip
    rows = [{name: value[row] for name, value in batch(seed).items()} for seed in range(4) for row in (0, 2)]
    return Trainer(model, args, train_dataset=rows, callbacks=list(callbacks))


def test_the_callback_trains_as_the_context_manager_does_and_is_gone_afterwards(tiny_hf: Callable, tmp_path: Any) -> None:
    weights = []
    for how in ("callback", "context", "nothing"):
        model, _ = tiny_hf("llama")
        before, graph = hooks_of(model), graph_for(model)
        if how == "context":
            with preventing(model, graph):
                trainer_of(model, tmp_path).train()
        else:
            trainer_of(model, tmp_path, *([PreventionCallback(graph)] if how == "callback" else [])).train()
        assert hooks_of(model) == before
        weights.append(torch.cat([each.detach().reshape(-1) for each in model.parameters()]))
    assert torch.equal(weights[0], weights[1])
    assert not torch.allclose(weights[0], weights[2])


def test_training_that_ends_in_an_error_leaves_no_vector_behind(tiny_hf: Callable, tmp_path: Any) -> None:
    from transformers import TrainerCallback

    class Failing(TrainerCallback):
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            raise RuntimeError("disk full")

    model, _ = tiny_hf("llama")
    data = batch(0)
    prevention = PreventionCallback(graph_for(model))
    before = hooks_of(model)
    with pytest.raises(RuntimeError, match="disk full"):
        trainer_of(model, tmp_path, prevention, Failing()).train()
    fresh, _ = tiny_hf("llama")
    fresh.load_state_dict(model.state_dict())
    model.eval()
    assert torch.equal(model(**data).logits, fresh(**data).logits)  # with gradients on
    assert not prevention.attached
    assert hooks_of(model) == before


def test_the_callback_is_for_a_trainer(tiny_hf: Callable) -> None:
    model, _ = tiny_hf("llama")
    with pytest.raises(InvalidInputError, match="with preventing"):
        PreventionCallback(graph_for(model)).on_train_begin(None, None, None, model=model)
