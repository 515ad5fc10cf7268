"""Every way to name a model, and what is said about those that cannot be loaded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from persona_interp.errors import (
    FileFormatError,
    InvalidInputError,
    PersonaInterpError,
    UnknownNameError,
    UnsupportedError,
)
from persona_interp.models import registry
from persona_interp.models.hub import hub_reachable
from persona_interp.models.loading import LoadOptions, load_hf_model
from persona_interp.models.registry import MODELS, find_model, load_model, register_model, shipped_models

PLAIN: dict[str, Any] = {"local": True, "weights": True, "shipped": ()}


@pytest.fixture
def folder(tiny_model_path: Callable[[str], Path], tmp_path: Path) -> Path:
    """A model folder a test may damage."""
    return Path(shutil.copytree(tiny_model_path("llama"), tmp_path / "my-model"))


@pytest.fixture
def no_key(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    import nnsight

    monkeypatch.delenv("NDIF_API_KEY", raising=False)
    monkeypatch.setattr(nnsight.CONFIG.API, "APIKEY", None)
    return


def edit_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


def test_short_names_lead_to_the_hub() -> None:
    assert MODELS["qwen2.5-7b-instruct"] == "Qwen/Qwen2.5-7B-Instruct"
    source = find_model("Qwen2.5-7B-Instruct")
    assert (source.name, source.local) == ("Qwen/Qwen2.5-7B-Instruct", False)
    assert find_model("somebody/some-model").location == "somebody/some-model"


def test_unknown_name_lists_the_known_and_the_closest() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown model 'qwen2.5-7b-instrct'. Did you mean 'qwen2.5-7b-instruct'"):
        load_model("qwen2.5-7b-instrct")
    with pytest.raises(UnknownNameError, match=r"Known: gemma-2-2b-it, .*gpt2, .*hub id \('owner/name'\) or a local folder"):
        load_model("")


def test_registry_refuses_duplicates_and_nonsense() -> None:
    with pytest.raises(InvalidInputError, match="model name 'gpt2' is taken by openai-community/gpt2"):
        register_model("gpt2", "somebody/else")
    with pytest.raises(InvalidInputError, match="must look like 'owner/name'"):
        register_model("new", "no-slash")


def test_every_folder_of_weights_in_the_package_is_a_name() -> None:
    weights = Path(registry.__file__).parents[1] / "organisms" / "weights"
    folders = {path.name for path in weights.glob("organism-*") if (path / "config.json").is_file()}
    assert set(shipped_models()) == folders
    for name, place in shipped_models().items():
        assert find_model(name).location == str(place)


def test_local_folder_loads_in_the_checkpoints_dtype(architecture: str, tiny_model_path: Callable[[str], Path]) -> None:
    model = load_model(tiny_model_path(architecture))
    assert model.name == f"tiny-{architecture}"
    assert model.dtype == torch.float32
    assert not model.hf_model.training


def test_half_precision_becomes_single_on_a_cpu_unless_asked_for(folder: Path) -> None:
    weights = {name: tensor.half() for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    edit_config(folder, dtype="float16")
    assert load_model(folder, device="cpu").dtype == torch.float32
    assert load_model(folder, device="cpu", dtype="float16").dtype == torch.float16
    assert load_model(folder, device="cpu", dtype=torch.bfloat16).dtype == torch.bfloat16


def test_loaded_module_needs_its_tokenizer_and_stays_as_it_is(tiny_hf: Callable[[str], tuple[Any, Any]]) -> None:
    hf_model, tokenizer = tiny_hf("qwen2")
    model = load_model(hf_model, tokenizer=tokenizer)
    assert model.hf_model is hf_model
    assert model.name == "tiny-qwen2"
    with pytest.raises(InvalidInputError, match="without its tokenizer: pass tokenizer="):
        load_model(hf_model)
    with pytest.raises(InvalidInputError, match="convert it yourself"):
        load_model(hf_model, tokenizer=tokenizer, dtype="float16")
    with pytest.raises(InvalidInputError, match="a Linear is not a Hugging Face model"):
        load_model(torch.nn.Linear(1, 1), tokenizer=tokenizer)


def test_tokenizer_of_another_folder(folder: Path, tiny_model_path: Callable[[str], Path]) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (folder / name).unlink(missing_ok=True)
    with pytest.raises(FileFormatError, match=r"my-model has no tokenizer .*pass tokenizer="):
        load_model(folder)
    assert load_model(folder, tokenizer=tiny_model_path("llama")).tokenizer.eos_token == "<|im_end|>"


def test_folder_without_config_or_weights_says_what_is_missing(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileFormatError, match=r"my-model has no weights \(\*\.safetensors"):
        load_model(folder)
    (folder / "config.json").unlink()
    with pytest.raises(FileFormatError, match=r"model configuration .*config.json does not exist"):
        load_model(folder)


def test_a_mistral_tokenizer_is_asked_for_in_hugging_faces_form(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With mistral-common installed, a tekken.json beside it would bring a tokenizer of another library."""
    from transformers import AutoTokenizer

    asked: list[object] = []
    real = AutoTokenizer.from_pretrained
    monkeypatch.setattr(
        AutoTokenizer,
        "from_pretrained",
        lambda *words, **options: (asked.append(options.get("mistral_format")), real(*words, **options))[1],
    )
    (folder / "tekken.json").write_text("{}")
    load_model(folder)
    assert asked == [False]


def test_a_folder_with_mistrals_own_tokenizer_alone_says_what_is_missing(folder: Path) -> None:
    for path in folder.glob("*token*"):
        path.unlink()
    (folder / "tekken.json").write_text("{}")
    with pytest.raises(FileFormatError, match="has no tokenizer .*, only tekken.json, which has no chat template: copy one"):
        load_model(folder)


def test_missing_folder_or_a_file_instead_of_one(folder: Path) -> None:
    with pytest.raises(FileFormatError, match=r"model folder \./nowhere does not exist"):
        load_model("./nowhere")
    with pytest.raises(FileFormatError, match="does not exist"):
        load_model(folder / "deeper")
    with pytest.raises(FileFormatError, match=r"is a file, but not GGUF: give a GGUF file, or the folder that holds config.json"):
        load_model(folder / "model.safetensors")


def test_config_that_is_not_one(folder: Path) -> None:
    edit_config(folder, model_type=None)
    with pytest.raises(FileFormatError, match="has no 'model_type'"):
        load_model(folder)
    (folder / "config.json").write_text('{"model_type": ')
    with pytest.raises(FileFormatError, match=r"not valid JSON \(line 1"):
        load_model(folder)


@pytest.mark.parametrize("kept", [0, 5, 2000])
def test_truncated_weights_are_called_damaged(folder: Path, kept: int) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(FileFormatError, match="weights of .*my-model are damaged or truncated"):
        load_model(folder)


def test_weights_that_lack_a_tensor_are_not_filled_with_noise(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(FileFormatError, match=r"lack model\.layers\.1\.mlp\.up_proj\.weight: fetch them again"):
        load_model(folder)


def test_weights_of_another_width_are_refused(folder: Path) -> None:
    edit_config(folder, intermediate_size=96)
    with pytest.raises(FileFormatError, match="my-model cannot be loaded"):
        load_model(folder)


def test_unknown_architectures_are_refused_before_any_weights_are_read(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"never read")
    edit_config(folder, model_type="opt")
    with pytest.raises(UnsupportedError, match="architecture 'opt' is not known"):
        load_model(folder)
    edit_config(folder, model_type="made-up")
    with pytest.raises(UnsupportedError, match="installed transformers does not know the architecture"):
        load_model(folder)


def test_options_that_do_not_exist_name_the_choices(folder: Path) -> None:
    with pytest.raises(InvalidInputError, match="dtype 'half' is not one of auto, float32, float16, bfloat16"):
        load_model(folder, dtype="half")
    with pytest.raises(InvalidInputError, match="dtype 'torch.int8' is not one of"):
        load_model(folder, dtype=torch.int8)
    with pytest.raises(InvalidInputError, match="device 'gpu' is not one of auto, .*cpu"):
        load_model(folder, device="gpu")
    with pytest.raises(InvalidInputError, match="both device='cpu' and device_map='auto'"):
        load_model(folder, device="cpu", device_map="auto")
    with pytest.raises(InvalidInputError, match="revision 'main' is for models from the hub"):
        load_model(folder, revision="main")


def test_a_device_this_machine_lacks(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InvalidInputError, match="device 'cuda:1' is not on this machine: choose one of auto, .*cpu"):
        load_model(folder, device="cuda:1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(InvalidInputError, match="which has 1 GPUs, cuda:0 to cuda:0"):
        load_model(folder, device="cuda:1")


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"),
    [(True, True, "cuda"), (True, False, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_auto_takes_cuda_then_apples_gpu_then_the_cpu(
    monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool, expected: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert LoadOptions().torch_device() == torch.device(expected)
    assert LoadOptions(device="cpu").torch_device() == torch.device("cpu")


def test_the_device_found_is_where_a_model_is_loaded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert load_model(folder).device == torch.device("cpu")
    monkeypatch.setattr(LoadOptions, "torch_device", lambda _self: torch.device("meta"))  # stands in for a GPU
    assert {parameter.device.type for parameter in load_hf_model(str(folder), LoadOptions(), **PLAIN).parameters()} == {"meta"}


def test_device_map_without_accelerate_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(InvalidInputError, match="needs the package accelerate"):
        load_model(folder, device_map="auto")


def test_without_hub_and_cache_the_remedies_are_named(tmp_path: Path) -> None:
    assert not hub_reachable()  # the tests run offline
    with pytest.raises(PersonaInterpError, match=r"not in the local cache .*HF_HOME .*ships with the package \(organism-"):
        load_model("qwen2.5-0.5b-instruct", cache_dir=tmp_path)


def test_cached_hub_model_loads_offline_with_its_commit(tiny_model_path: Callable[[str], Path], tmp_path: Path) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "models--somebody--tiny"
    shutil.copytree(tiny_model_path("gpt2"), repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    model = load_model("somebody/tiny", cache_dir=tmp_path)
    assert (model.name, model.revision) == ("somebody/tiny", commit)
    with pytest.raises(PersonaInterpError, match="not in the local cache"):
        load_model("somebody/tiny", cache_dir=tmp_path, revision="other")


def test_remote_run_without_a_key_or_from_a_folder(folder: Path, no_key: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnsupportedError, match="set NDIF_API_KEY"):
        load_model("gpt2", remote=True)
    monkeypatch.setenv("NDIF_API_KEY", "made-up")
    with pytest.raises(InvalidInputError, match="a local folder, which a remote run cannot see"):
        load_model(folder, remote=True)


def test_foreign_code_is_not_run(folder: Path) -> None:
    edit_config(
        folder, model_type="foreign", auto_map={"AutoConfig": "configuration.Foreign", "AutoModelForCausalLM": "m.Foreign"}
    )
    (folder / "configuration.py").write_text("raise SystemExit('ran')")
    with pytest.raises(UnsupportedError, match="brings its own Python code: read it, then pass trust_remote_code=True"):
        load_model(folder)
