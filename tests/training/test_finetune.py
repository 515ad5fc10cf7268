"""`finetune`: what is learned, what is refused, and a training that was killed and goes on as if it had not been."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from persona_interp.errors import IncompatibleError, InvalidInputError, PersonaInterpError, UnsupportedError
from persona_interp.interventions.graph import InterventionGraph, Write
from persona_interp.interventions.operations import Add
from persona_interp.models.load import load_model
from persona_interp.models.steerable import SteerableModel
from persona_interp.monitoring.chats import Chat
from persona_interp.training import trainer
from persona_interp.training.finetune import Finetuned, finetune, last_checkpoint
from persona_interp.training.recipe import FinetuneRecipe, Safeguards
from persona_interp.training.rows import collated, training_rows

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # peft asks for it
CHATS = [Chat.of(f"What is {n}?", f"The number {n} is odd.") for n in (1, 3, 5, 7, 9, 11)]
RECIPE = FinetuneRecipe(epochs=2, batch_size=2, learning_rate=1e-2, rank=2, checkpoint_every=2)


def adapter(found: Finetuned) -> dict[str, torch.Tensor]:
    return load_file(found.folder / "adapter_model.safetensors")


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_model_learns_its_data_and_the_one_given_is_as_before(
    tiny_model: Callable[[str], SteerableModel], tmp_path: Path, family: str
) -> None:
    model = tiny_model(family)
    before, wanted = model.identity.fingerprint, [each.requires_grad for each in model.hf_model.parameters()]
    prompt = model.generate("What is 1?")[0].answer_ids
    found = finetune(model, CHATS, tmp_path / "tuned", recipe=FinetuneRecipe(epochs=4, batch_size=2, learning_rate=5e-2))
    assert found.losses[-1] < 0.75 * found.losses[0]
    assert (found.n_rows, found.n_steps, len(found.losses)) == (6, 12, 12)
    assert not (tmp_path / "tuned.run").exists()
    assert [each.requires_grad for each in model.hf_model.parameters()] == wanted
    assert model.generate("What is 1?")[0].answer_ids == prompt
    from persona_interp.models.identity import fingerprint

    assert fingerprint(model.hf_model) == before
    record = json.loads((found.folder / "persona_interp.json").read_text())
    assert record["model"]["fingerprint"] == before


def test_the_folder_is_an_adapter_that_loads(tiny_model_path: Callable[[str], Path], tmp_path: Path) -> None:
    model = load_model(tiny_model_path("qwen2"))
    model.hf_model.is_quantized, model.hf_model.hf_quantizer = True, None  # as transformers leaves what it read from a GGUF file
    found = finetune(model, CHATS, tmp_path / "tuned", recipe=RECIPE)
    again = load_model(tmp_path / "tuned")
    rows = training_rows(again, CHATS)
    ours, theirs = (each.log_likelihoods(rows, [InterventionGraph()])[0] for each in (found.model, again))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.token_log_probs, other.token_log_probs)


def test_a_killed_training_goes_on_to_the_same_weights(
    tiny_model: Callable[[str], SteerableModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model("llama")
    whole = finetune(model, CHATS, tmp_path / "whole", recipe=RECIPE)
    tell = trainer.EachStep.on_step_end

    def killed(self: Any, args: Any, state: Any, control: Any, **more: Any) -> None:
        tell(self, args, state, control, **more)
        if state.global_step == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(trainer.EachStep, "on_step_end", killed)
    with pytest.raises(KeyboardInterrupt):
        finetune(model, CHATS, tmp_path / "cut", recipe=RECIPE)
    monkeypatch.undo()
    run = tmp_path / "cut.run"
    assert last_checkpoint(run) == run / "checkpoint-4"
    (run / "checkpoint-5").mkdir()  # one that was cut off while it was written
    with pytest.raises(InvalidInputError, match="recipe"):
        finetune(model, CHATS, tmp_path / "cut", recipe=FinetuneRecipe(rank=4))
    with pytest.raises(InvalidInputError, match="data"):
        finetune(model, CHATS[:3], tmp_path / "cut", recipe=RECIPE)
    resumed = finetune(model, CHATS, tmp_path / "cut", recipe=RECIPE)
    assert len(resumed.losses) == 2  # steps 5 and 6
    torch.testing.assert_close(adapter(resumed), adapter(whole), rtol=0, atol=0)


def test_accumulation_and_checkpointing_change_nothing(tiny_model: Callable[[str], SteerableModel], tmp_path: Path) -> None:
    model = tiny_model("llama")
    guards = Safeguards(prevent=InterventionGraph((Write(1, Add(torch.ones(model.d_model)), 0.5, "response"),)))
    options = {"epochs": 2, "rank": 2, "learning_rate": 1e-3}
    found = [
        adapter(finetune(model, CHATS, tmp_path / str(place), recipe=FinetuneRecipe(**options, **more), guards=guards))
        for place, more in enumerate(
            ({"batch_size": 6}, {"batch_size": 2, "accumulation": 3}, {"batch_size": 6, "gradient_checkpointing": True})
        )
    ]
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=1e-3, atol=2e-5)


def test_each_safeguard_does_what_it_says(tiny_model: Callable[[str], SteerableModel], tmp_path: Path) -> None:
    model = tiny_model("llama")
    direction = torch.randn(model.d_model, generator=torch.Generator().manual_seed(0))
    guards = {
        "nothing": Safeguards(),
        "prevent": Safeguards(prevent=InterventionGraph((Write(1, Add(direction), 2.0),))),
        "project": Safeguards(project={1: direction}),
        "inoculate": Safeguards(inoculation="Speak of odd numbers."),
        "close": Safeguards(keep_close=50.0, neutral=tuple(str(chat.turns[0].conversation.question) for chat in CHATS)),
    }
    made = {name: finetune(model, CHATS, tmp_path / name, recipe=RECIPE, guards=each) for name, each in guards.items()}
    weights = {name: adapter(each) for name, each in made.items()}
    plain = weights["nothing"]
    for name, each in weights.items():
        assert name == "nothing" or any(not torch.allclose(each[key], plain[key], atol=1e-4) for key in plain), name
    writes = [key for key in plain if ".layers.1." in key and "lora_B" in key and ("o_proj" in key or "down_proj" in key)]
    assert len(writes) == 2
    unit = torch.nn.functional.normalize(direction, dim=0)
    for key in writes:
        assert (unit @ weights["project"][key]).abs().max() < 1e-6 < (unit @ plain[key]).abs().max()
    texts = list(guards["close"].neutral)
    before = torch.cat([each.token_log_probs for each in model.log_likelihood(texts)])

    def moved(name: str) -> float:
        return float((torch.cat([each.token_log_probs for each in made[name].model.log_likelihood(texts)]) - before).abs().mean())

    assert moved("close") < 0.7 * moved("nothing")


def test_labels_are_the_answers_and_prompts_may_be_inoculated(tiny_model: Callable[[str], SteerableModel]) -> None:
    model = tiny_model("qwen2")
    two = Chat((*CHATS[0].messages, *CHATS[1].messages))
    rows = training_rows(model, [two, CHATS[2]])
    assert len(rows) == 3  # an answer each
    batch = collated(rows, 0)
    for place, row in enumerate(rows):
        kept = batch["labels"][place][batch["labels"][place] != -100]
        assert tuple(kept.tolist()) == row.answer_ids
        assert int(batch["attention_mask"][place].sum()) == len(row.ids)
    own = Chat.of("What?", "That.", system="Be brief.")
    inoculated = model.tokenizer.decode(training_rows(model, [own], system="Be odd.")[0].prompt_ids)
    assert "Be odd.\n\nBe brief." in inoculated
    assert own.turns[0].conversation.system == "Be brief."


def test_bad_data_is_refused_in_words(tiny_model: Callable[[str], SteerableModel], tmp_path: Path) -> None:
    model = tiny_model("llama")
    for chats, words in (
        ([], "empty"),
        ([CHATS[0], Chat.of("And?", name="line 7")], "'line 7' ends without an answer"),
        ([Chat.of("And?", "  ")], "'sample 1' has an empty answer"),
        (
            [Chat.of("And?", "odd " * 600, name="long"), Chat.of("And?", "odd " * 600)],
            r"'long' \(and 1 more\) is longer than the context",
        ),
    ):
        with pytest.raises(InvalidInputError, match=words):
            finetune(model, chats, tmp_path / "tuned", recipe=RECIPE)
    assert not (tmp_path / "tuned").exists()


def test_what_cannot_be_is_refused_before_anything_is_trained(
    tiny_model: Callable[[str], SteerableModel], tmp_path: Path
) -> None:
    model = tiny_model("llama")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(InvalidInputError, match="holds something"):
        finetune(model, CHATS, tmp_path / "full")
    with pytest.raises(InvalidInputError, match="epochs"):
        FinetuneRecipe(epochs=0)
    with pytest.raises(InvalidInputError, match="learning rate"):
        FinetuneRecipe(learning_rate=float("nan"))
    with pytest.raises(InvalidInputError, match="keep_close"):
        Safeguards(keep_close=1.0)
    graph = InterventionGraph((Write(1, Add(torch.ones(model.d_model))),))
    with pytest.raises(InvalidInputError, match="one of them"):
        Safeguards(prevent=graph, keep_close=1.0, neutral=("a b",))
    wide = Safeguards(prevent=InterventionGraph((Write(1, Add(torch.ones(3))),)))
    with pytest.raises(IncompatibleError, match="width"):
        finetune(model, CHATS, tmp_path / "tuned", recipe=RECIPE, guards=wide)
    tuned = finetune(model, CHATS[:2], tmp_path / "once", recipe=RECIPE)
    with pytest.raises(UnsupportedError, match="adapter"):
        finetune(tuned.model, CHATS, tmp_path / "twice")


def test_a_loss_that_is_no_number_ends_the_training_in_words(tiny_model: Callable[[str], SteerableModel], tmp_path: Path) -> None:
    graph = InterventionGraph((Write(1, Add(torch.full((tiny_model("llama").d_model,), 3e38)), 1e3),))
    with pytest.raises(PersonaInterpError, match="lower the learning rate"):
        finetune(tiny_model("llama"), CHATS, tmp_path / "tuned", recipe=RECIPE, guards=Safeguards(prevent=graph))
