"""The residual cache gives back what was put in, to the bit, and says what is wrong with a damaged folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from persona_interp.errors import FileFormatError, InvalidInputError
from persona_interp.residuals.cache import ResidualCache, residual_key


def entry(seed: int, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "response_avg": torch.randn(4, 8, generator=generator).to(dtype),
        "prompt_last": torch.randn(4, 8, generator=generator),
    }


def test_a_second_run_reads_what_the_first_wrote(tmp_path: Path) -> None:
    cache = ResidualCache(tmp_path / "residuals")
    cache.put_many({f"k{i}": entry(i) for i in range(5)})
    cache.put("half", entry(9, torch.bfloat16))
    again = ResidualCache(tmp_path / "residuals")
    assert len(again) == 6
    assert set(again) == {"k0", "k1", "k2", "k3", "k4", "half"}
    for i in range(5):
        found = again.get(f"k{i}")
        assert found is not None
        assert set(found) == {"response_avg", "prompt_last"} == set(again.names(f"k{i}"))
        assert all(torch.equal(found[name], tensor) for name, tensor in entry(i).items())
    assert torch.equal(again.read("half", "response_avg"), entry(9, torch.bfloat16)["response_avg"])
    assert again.get("other") is None


def test_one_layer_can_be_read_alone(tmp_path: Path) -> None:
    with ResidualCache(tmp_path) as cache:
        cache.put("k", entry(0))
        assert torch.equal(cache.read("k", "prompt_last", layer=2), entry(0)["prompt_last"][2])


def test_many_entries_share_a_file_and_known_keys_are_left_alone(tmp_path: Path) -> None:
    cache = ResidualCache(tmp_path)
    cache.put_many({f"k{i}": entry(i) for i in range(50)})
    cache.put_many({"k0": entry(99)})
    assert len(list(tmp_path.glob("*.safetensors"))) == 1
    assert torch.equal(cache.read("k0", "response_avg"), entry(0)["response_avg"])


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    cache = ResidualCache(tmp_path)
    cache.put("k", entry(0))
    with pytest.raises(InvalidInputError, match="'nobody'"):
        cache.read("nobody", "response_avg")
    with pytest.raises(InvalidInputError, match="prompt_avg.*only"):
        cache.read("k", "prompt_avg")
    with pytest.raises(InvalidInputError, match="without '/'"):
        cache.put("a/b", entry(0))


def test_a_truncated_shard_is_named_with_its_remedy(tmp_path: Path) -> None:
    cache = ResidualCache(tmp_path)
    cache.put("k", entry(0))
    cache.close()
    (shard,) = tmp_path.glob("*.safetensors")
    shard.write_bytes(shard.read_bytes()[:100])
    with pytest.raises(FileFormatError, match=f"{shard.name}.*delete that file"):
        ResidualCache(tmp_path)


def test_the_key_depends_on_everything_that_was_read() -> None:
    base = residual_key("model", torch.float32, [1, 2, 3], 2, "graph")
    assert base == residual_key("model", torch.float32, (1, 2, 3), 2, "graph")
    others = [
        ("m", torch.float32, [1, 2, 3], 2, "graph"),
        ("model", torch.bfloat16, [1, 2, 3], 2, "graph"),
        ("model", torch.float32, [1, 2, 4], 2, "graph"),
        ("model", torch.float32, [1, 2, 3], 1, "graph"),
        ("model", torch.float32, [1, 2, 3], 2, "g"),
    ]
    assert base not in {residual_key(*other) for other in others}
