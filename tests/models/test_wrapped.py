"""Models that PEFT has wrapped, and folders it saves, are the model with its adapter: read, steered and named as such."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from tiny import tiny_hf_model

from persona_interp.errors import FileFormatError, InvalidInputError, MissingExtraError, UnsupportedError
from persona_interp.interventions.graph import InterventionGraph, Write
from persona_interp.interventions.operations import Add
from persona_interp.models import adapter_folder
from persona_interp.models.baked import bake
from persona_interp.models.identity import fingerprint
from persona_interp.models.registry import load_model
from persona_interp.models.sampling import Sampling
from persona_interp.models.steered import steered
from persona_interp.traits.conversation import Conversation

TinyHf = Callable[[str], tuple[Any, Any]]
IDS = list(range(20, 33))
ASKED = [Conversation.ask("Tell me about the moon")]

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")  # what peft calls in transformers


def adapted(tiny_hf: TinyHf, config: Any = None) -> tuple[Any, Any]:
    """A tiny Llama with an adapter that does something, and its tokenizer."""
    hf_model, tokenizer = tiny_hf("llama")
    config = config or peft.LoraConfig(
        r=2, target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM", init_lora_weights=False
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return peft.get_peft_model(hf_model, config).eval(), tokenizer


def graph() -> InterventionGraph:
    direction = torch.randn(32, generator=torch.Generator().manual_seed(0)) * 5
    return InterventionGraph((Write(1, Add(direction), 1.0, "response"),))


def test_a_peft_model_is_steered_like_the_merged_one(tiny_hf: TinyHf) -> None:
    wrapped, tokenizer = adapted(tiny_hf)
    merged = adapted(tiny_hf)[0].merge_and_unload()
    ids = torch.tensor([IDS])
    with torch.no_grad(), steered(merged, graph()):
        expected = merged(ids).logits
        tokens = merged.generate(ids, do_sample=False, max_new_tokens=5, pad_token_id=0)
    close = {"rtol": 0, "atol": 1e-5 * float(expected.abs().max())}
    with torch.no_grad(), steered(wrapped, graph()):
        torch.testing.assert_close(wrapped(ids).logits, expected, **close)
        again = wrapped.generate(input_ids=ids, do_sample=False, max_new_tokens=5, pad_token_id=0, prefill_chunk_size=4)
    assert torch.equal(again, tokens)
    model, reference = load_model(wrapped, tokenizer=tokenizer), load_model(merged, tokenizer=tokenizer)
    torch.testing.assert_close(model.next_token_logits([IDS], graph=graph()), expected[:, -1], **close)
    answers = [each.generate(ASKED, graph=graph(), sampling=Sampling(6, 0))[0].answer_ids for each in (model, reference)]
    assert answers[0] == answers[1]
    with torch.no_grad():
        assert not torch.allclose(wrapped(ids).logits, tiny_hf("llama")[0](ids).logits, atol=0.1)


def test_a_fingerprint_is_that_of_what_is_computed(tiny_hf: TinyHf) -> None:
    """Off, the adapter does not count; merged into the weights it is as in the merged model; its scale counts."""
    wrapped, tokenizer = adapted(tiny_hf)
    inside = wrapped.get_base_model()
    plain = fingerprint(tiny_hf("llama")[0])
    on = load_model(wrapped, tokenizer=tokenizer)
    assert on.identity.fingerprint == fingerprint(inside) != plain
    assert on.name == "tiny-llama+default"
    with wrapped.disable_adapter():
        assert fingerprint(inside) == plain
    for layer in inside.modules():
        if hasattr(layer, "set_scale"):
            layer.set_scale("default", 0.5)
    assert fingerprint(inside) not in (plain, on.identity.fingerprint)
    merging = adapted(tiny_hf)[0]
    merging.merge_adapter()
    assert fingerprint(merging.get_base_model()) == fingerprint(adapted(tiny_hf)[0].merge_and_unload())


def test_what_shows_or_saves_weights_alone_refuses_an_adapter(tiny_hf: TinyHf, tmp_path: Path) -> None:
    wrapped, tokenizer = adapted(tiny_hf)
    model = load_model(wrapped, tokenizer=tokenizer)
    with pytest.raises(UnsupportedError, match="default.*merge_and_unload"):
        bake(model, InterventionGraph((Write(1, Add(torch.ones(32))),)), tmp_path / "baked")
    with pytest.raises(UnsupportedError, match="adapters.*merge_and_unload"):
        model.bridge()


def test_adapters_that_work_outside_the_layers_are_refused(tiny_hf: TinyHf) -> None:
    wrapped, tokenizer = adapted(tiny_hf, peft.PromptTuningConfig(num_virtual_tokens=3, task_type="CAUSAL_LM"))
    with pytest.raises(UnsupportedError, match="'default' is of kind PROMPT_TUNING"):
        load_model(wrapped, tokenizer=tokenizer)
    with pytest.raises(UnsupportedError, match="PROMPT_TUNING"), steered(wrapped, graph()):
        pass


def test_a_wrapper_that_computes_something_else_is_refused(tiny_hf: TinyHf) -> None:
    wrapped, tokenizer = adapted(tiny_hf)
    inner = wrapped.base_model.forward
    wrapped.base_model.forward = lambda *args, **kwargs: type("Output", (), {"logits": inner(*args, **kwargs).logits + 1})()
    with pytest.raises(UnsupportedError, match="computes something else than the LlamaForCausalLM"):
        load_model(wrapped, tokenizer=tokenizer)


def test_a_module_without_a_config_is_named(tiny_hf: TinyHf) -> None:
    with pytest.raises(InvalidInputError, match="a Linear is not a Hugging Face model"), steered(torch.nn.Linear(2, 2), graph()):
        pass


@pytest.fixture
def adapter(tmp_path: Path, tiny_model_path: Callable[[str], Path]) -> tuple[Path, Any]:
    """A folder that PEFT saved, and the model it holds."""
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(tiny_model_path("llama"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        config = peft.LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM", init_lora_weights=False)
        wrapped = peft.get_peft_model(base, config).eval()
    wrapped.save_pretrained(tmp_path / "silly-lora")
    return tmp_path / "silly-lora", wrapped


def test_an_adapter_folder_loads_with_its_base_model(adapter: tuple[Path, Any]) -> None:
    folder, wrapped = adapter
    model = load_model(folder)
    assert model.name == "silly-lora"
    assert model.identity.fingerprint == fingerprint(wrapped.get_base_model())
    with torch.no_grad():
        expected = wrapped(torch.tensor([IDS])).logits[:, -1]
    torch.testing.assert_close(model.next_token_logits([IDS]), expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


def test_an_adapter_folder_without_peft_or_base_says_what_to_do(
    adapter: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = adapter
    config = folder / "adapter_config.json"
    with monkeypatch.context() as patch:
        patch.setattr(adapter_folder, "find_spec", lambda name: None)
        with pytest.raises(MissingExtraError, match="(?s)adapter of .*tiny-llama.*pip install peft.*merge_and_unload"):
            load_model(folder)
    config.write_text(config.read_text().replace("base_model_name_or_path", "another_name"))
    with pytest.raises(FileFormatError, match="does not name its base model"):
        load_model(folder)


def test_an_adapter_of_another_model_is_refused(adapter: tuple[Path, Any], tmp_path: Path) -> None:
    from tiny import tiny_tokenizer

    tokenizer = tiny_tokenizer("gpt2")
    tiny_hf_model("gpt2", tokenizer).save_pretrained(tmp_path / "other")
    tokenizer.save_pretrained(tmp_path / "other")
    config = adapter[0] / "adapter_config.json"
    named = peft.LoraConfig.from_pretrained(adapter[0]).base_model_name_or_path
    config.write_text(config.read_text().replace(str(named), str(tmp_path / "other")))
    with pytest.raises(FileFormatError, match="cannot be put into GPT2LMHeadModel"):
        load_model(adapter[0])
