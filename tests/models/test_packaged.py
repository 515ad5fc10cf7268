"""Weights that distributions on the package index carry: fetched from a local index, checked, joined, or refused in words."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest

from persona_interp.errors import FileFormatError, InvalidInputError, PersonaInterpError, UnknownNameError
from persona_interp.models import packaged, packaged_fetch
from persona_interp.models.packaged import PACKAGED, PackagedModel, Part, fetched_path, find_packaged, local_file, models_folder
from persona_interp.models.packaged_fetch import fetch, remove
from persona_interp.models.registry import MODELS, find_model, load_model

PIECES = (b"GGUF" + bytes(range(256)) * 40, b"middle" * 999, b"end")


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def part(number: int, content: bytes) -> Part:
    return Part(f"made-up-part{number}", "1.0", f"made_up_part{number}/data/{number}.bin", len(content), digest(content))


def model_of(pieces: tuple[bytes, ...] = PIECES, *, ask: bool = False) -> PackagedModel:
    parts = tuple(part(number, content) for number, content in enumerate(pieces, start=1))
    return PackagedModel(
        "made-up", "nobody/Made-Up", "Made-Up-1.0", "example.org/terms", digest(b"".join(pieces)), parts, ask=ask
    )


def write_wheel(folder: Path, number: int, content: bytes, *, member: str | None = None) -> Path:
    name = f"made_up_part{number}"
    path = folder / f"{name}-1.0-py3-none-any.whl"
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        wheel.writestr(f"{name}/__init__.py", "raise SystemExit('nobody may import this')\n")
        wheel.writestr(member or f"{name}/data/{number}.bin", content)
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: made-up-part{number}\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    return path


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder pip finds wheels in, and nowhere else; an empty home; a made-up model in the registry."""
    folder = tmp_path / "index"
    folder.mkdir()
    for number, content in enumerate(PIECES, start=1):
        write_wheel(folder, number, content)
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    monkeypatch.setenv("PERSONA_INTERP_HOME", str(tmp_path / "home"))
    monkeypatch.setitem(packaged._packaged, "made-up", model_of())
    return folder


def left() -> list[str]:
    """What lies in the folder of models, but for the lock and the licences."""
    found = sorted(path.name for path in models_folder().iterdir()) if models_folder().is_dir() else []
    return [name for name in found if not name.endswith(".lock") and "licences.json" not in name]


def test_parts_are_joined_in_order_and_nothing_else_stays(index: Path) -> None:
    path = fetch(model_of())
    assert path == fetched_path(model_of())
    assert path.read_bytes() == b"".join(PIECES)
    assert left() == ["made-up.gguf"]
    assert local_file(model_of()) == path
    assert "made_up_part1" not in sys.modules


def test_what_is_there_is_not_downloaded_again(index: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = fetch(model_of())
    shutil.rmtree(index)
    assert fetch(model_of()) == path
    assert "is there already" in capsys.readouterr().err


def test_a_file_that_was_changed_is_fetched_again(index: Path) -> None:
    path = fetch(model_of())
    path.write_bytes(b"x" * path.stat().st_size)
    assert fetch(model_of()).read_bytes() == b"".join(PIECES)


def test_an_interrupted_fetch_goes_on_with_the_part_that_is_missing(index: Path, capsys: pytest.CaptureFixture[str]) -> None:
    last = index / "made_up_part3-1.0-py3-none-any.whl"
    kept = last.read_bytes()
    last.unlink()
    with pytest.raises(PersonaInterpError, match=r"no wheel of made-up-part3==1.0 is to be had"):
        fetch(model_of())
    (unfinished,) = left()
    assert (models_folder() / unfinished).read_bytes() == b"".join(PIECES[:2])
    last.write_bytes(kept)
    for number in (1, 2):
        (index / f"made_up_part{number}-1.0-py3-none-any.whl").unlink()
    assert fetch(model_of()).read_bytes() == b"".join(PIECES)
    assert "are here already" in capsys.readouterr().err


def test_half_a_part_that_a_killed_fetch_left_is_written_anew(index: Path) -> None:
    unfinished = models_folder() / f".made-up.gguf.{model_of().sha256[:16]}.part"
    models_folder().mkdir(parents=True)
    unfinished.write_bytes(PIECES[0] + b"half of the sec")
    assert fetch(model_of()).read_bytes() == b"".join(PIECES)


def test_a_changed_part_is_refused_and_not_kept(index: Path) -> None:
    write_wheel(index, 2, PIECES[1][::-1])
    with pytest.raises(FileFormatError, match=r"2.bin from made-up-part2==1.0 is not the file .* Nothing of it was kept"):
        fetch(model_of())
    (unfinished,) = left()
    assert (models_folder() / unfinished).read_bytes() == PIECES[0]


@pytest.mark.parametrize("content", [PIECES[0][:-1], PIECES[0] + b"x", PIECES[0] * 50])
def test_a_part_of_another_length_is_refused(index: Path, content: bytes) -> None:
    write_wheel(index, 1, content)
    with pytest.raises(FileFormatError, match=rf"is not the file this package knows: .* expected {len(PIECES[0])} with"):
        fetch(model_of())
    assert [(models_folder() / name).read_bytes() for name in left()] == [b""]


def test_a_distribution_that_no_longer_holds_the_file_is_named(index: Path) -> None:
    write_wheel(index, 1, PIECES[0], member="made_up_part1/renamed.bin")
    with pytest.raises(FileFormatError, match=r"no longer holds made_up_part1/data/1.bin \(it holds .*renamed.bin"):
        fetch(model_of())


def test_a_damaged_archive_is_told_as_such(index: Path) -> None:
    wheel = index / "made_up_part1-1.0-py3-none-any.whl"
    raw = bytearray(wheel.read_bytes())
    at = raw.index(b"made_up_part1/data/1.bin") + len("made_up_part1/data/1.bin") + 20
    raw[at : at + 40] = bytes(40)
    wheel.write_bytes(raw)
    with pytest.raises(
        FileFormatError, match="made-up-part1==1.0 (arrived damaged|is not the file)|from made-up-part1==1.0 is not"
    ):
        fetch(model_of())
    assert [(models_folder() / name).read_bytes() for name in left()] == [b""]


def test_a_download_that_is_cut_short_says_so(index: Path) -> None:
    wheel = index / "made_up_part1-1.0-py3-none-any.whl"
    wheel.write_bytes(wheel.read_bytes()[:500])
    with pytest.raises(PersonaInterpError, match="made-up-part1==1.0"):
        fetch(model_of())
    assert [(models_folder() / name).read_bytes() for name in left()] == [b""]


def test_an_index_that_cannot_be_reached_is_told_with_the_ways_out(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")  # nothing listens there
    monkeypatch.setenv("PIP_RETRIES", "1")  # pip says nothing of what it did not try again
    with pytest.raises(PersonaInterpError, match=r"index cannot be reached\. Connect, .*pip config list.*PIP_FIND_LINKS"):
        fetch(model_of())


def test_without_pip_the_ways_out_are_named(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packaged_fetch.PathFinder, "find_spec", lambda name: None)
    with pytest.raises(PersonaInterpError, match=r"has no pip: run `python -m ensurepip`, or install made-up-part1==1.0"):
        fetch(model_of())


def test_too_little_space_is_seen_before_anything_is_downloaded(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(index)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10_000))
    with pytest.raises(PersonaInterpError, match="10000 bytes free, about .* needed"):
        fetch(model_of())
    assert left() == []


def test_parts_that_do_not_add_up_are_removed(index: Path) -> None:
    stated = model_of()
    wrong = PackagedModel(stated.name, stated.hub_id, stated.licence, stated.terms, "0" * 64, stated.parts)
    with pytest.raises(FileFormatError, match="the parts of made-up do not add up"):
        fetch(wrong)
    assert left() == []


def test_a_licence_that_must_be_accepted_is_asked_for_once(index: Path) -> None:
    model, asked = model_of(ask=True), []

    def no(text: str) -> bool:
        asked.append(text)
        return False

    with pytest.raises(InvalidInputError, match=r"Made-Up-1.0: example.org/terms. .* give --accept-licence"):
        fetch(model)
    with pytest.raises(InvalidInputError, match="must be accepted"):
        fetch(model, accept=no)
    assert left() == []
    assert len(asked) == 1
    fetch(model, accept=lambda text: True)
    remove(model)
    assert fetch(model, accept=no).is_file()
    assert len(asked) == 1


def test_a_licence_that_need_not_be_accepted_is_shown_once(index: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fetch(model_of())
    assert capsys.readouterr().err.count("under Made-Up-1.0") == 1
    remove(model_of())
    fetch(model_of())
    assert "Made-Up-1.0" not in capsys.readouterr().err


def command(*words: str) -> subprocess.Popen[str]:
    code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import test_packaged
from persona_interp.models.packaged_fetch import fetch
print(fetch(test_packaged.model_of()))
"""
    return subprocess.Popen(
        [sys.executable, "-c", code, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def test_two_fetches_at_once_take_turns(index: Path) -> None:
    both = [command(), command()]
    done = [running.communicate(timeout=300) for running in both]
    assert [running.returncode for running in both] == [0, 0], done
    assert fetched_path(model_of()).read_bytes() == b"".join(PIECES)
    assert sum("is there already" in err for _, err in done) == 1
    assert left() == ["made-up.gguf"]


def test_a_fetch_that_is_killed_leaves_nothing_that_looks_whole(index: Path) -> None:
    running = command()
    deadline = time.monotonic() + 120
    while not left() and time.monotonic() < deadline and running.poll() is None:
        time.sleep(0.01)
    os.killpg(running.pid, signal.SIGKILL)
    running.communicate()
    assert "made-up.gguf" not in left() or fetched_path(model_of()).read_bytes() == b"".join(PIECES)
    assert fetch(model_of()).read_bytes() == b"".join(PIECES)
    assert left() == ["made-up.gguf"]


def test_remove_takes_unfinished_parts_too(index: Path) -> None:
    fetch(model_of())
    assert remove(model_of()) == [fetched_path(model_of())]
    assert left() == []
    assert remove(model_of()) == []


def test_names_resolve_to_the_hubs_cache_then_the_fetched_file_then_the_hub(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from persona_interp.models import catalogue

    assert (find_model("made-up").location, find_model("made-up").local) == ("nobody/Made-Up", False)
    with pytest.raises(PersonaInterpError, match=r"made-up can be had without the hub too: persona-interp models fetch made-up"):
        load_model("made-up")
    path = fetch(model_of())
    found = find_model("Made-Up")
    assert (found.name, found.location, found.gguf, found.engine) == ("made-up", str(path), True, "torch")
    monkeypatch.setattr(catalogue, "cached_weights", lambda hub_id: hub_id == "nobody/Made-Up")
    assert not find_model("made-up").local


def test_the_registry_is_whole() -> None:
    for name, model in PACKAGED.items():
        assert MODELS[name] == model.hub_id
        assert {len(each.sha256) for each in (model, *model.parts)} == {64}
        assert len({each.distribution for each in model.parts}) == len(model.parts)
    assert [PACKAGED[name].ask for name in ("smollm2-135m-instruct", "qwen2.5-coder-0.5b-instruct", "gemma-3-270m")] == [
        False, False, True,
    ]  # fmt: skip
    with pytest.raises(UnknownNameError, match=r"Did you mean 'gemma-3-270m'"):
        find_packaged("gemma-3-270")


def test_the_commands_fetch_list_path_and_remove(
    index: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from persona_interp.cli import main

    def run(*words: str) -> tuple[int, str, str]:
        code = main(["models", *words])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    assert "persona-interp models fetch made-up" in run("path", "made-up")[2]
    code, out, err = run("fetch", "made-up")
    assert (code, out.strip(), "use it as --model made-up" in err) == (0, str(fetched_path(model_of())), True)
    assert run("path", "made-up")[:2] == (0, out)
    assert any("made-up" in line and "fetched" in line for line in run("list")[1].splitlines())
    assert run("remove", "made-up")[0] == 0
    code, _, err = run("remove", "made-up")
    assert (code, "nothing was fetched of made-up" in err) == (2, True)
    code, _, err = run("fetch", "made-down")
    assert (code, "Did you mean 'made-up'" in err) == (2, True)


def test_an_installed_distribution_is_found_without_being_imported(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    site = tmp_path / "site"
    with zipfile.ZipFile(index / "made_up_part1-1.0-py3-none-any.whl") as wheel:
        wheel.extractall(site)
    monkeypatch.syspath_prepend(str(site))
    single = model_of(PIECES[:1])
    assert local_file(single) == site / "made_up_part1" / "data" / "1.bin"
    assert "made_up_part1" not in sys.modules
    (index / "made_up_part1-1.0-py3-none-any.whl").unlink()
    assert fetch(model_of()).read_bytes() == b"".join(PIECES)  # what is installed need not be downloaded
    (site / "made_up_part1" / "data" / "1.bin").write_bytes(PIECES[0][::-1])
    remove(single)
    assert local_file(single) is None


def test_a_folder_that_pip_removes_meanwhile_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tracker").mkdir()
    (tmp_path / "wheel").mkdir()
    (tmp_path / "wheel" / "a.whl").write_bytes(b"x" * 7)
    listed = os.scandir

    def scandir(path: Any) -> Any:
        if Path(path).name == "tracker":
            raise FileNotFoundError(path)
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert packaged_fetch._bytes_in(tmp_path) == 7
