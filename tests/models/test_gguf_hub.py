"""Downloads from a stand-in for the hub on this machine, which cuts connections, loses bytes, and is not always there."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from persona_interp.cli import main
from persona_interp.errors import FileFormatError, InvalidInputError, PersonaInterpError, UnknownNameError
from persona_interp.models.gguf_hub import GGUF_FILES, GgufOnHub, download_gguf, find_gguf, sha256_of

CONTENT = bytes(number * 7 % 251 for number in range(300_000))
WANTED = GgufOnHub("tea/tea-GGUF", "tea-q8_0.gguf")


class Hub(ThreadingHTTPServer):
    """One repository with one file; `cuts` are the numbers of bytes after which each next answer breaks off."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.content, self.sent = CONTENT, CONTENT
        self.cuts: list[int] = []
        self.broken = False
        self.missing = False
        self.lfs = True
        self.ranges: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that was cut is no news."""


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        asked = self.rfile.read(int(self.headers["Content-Length"])).decode()
        if not re.fullmatch(r"/api/models/tea/tea-GGUF/paths-info/main", self.path):
            self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"})
            return
        size = len(self.server.content)
        entry: dict[str, Any] = {"type": "file", "path": WANTED.filename, "size": size, "oid": "0" * 40}
        if self.server.lfs:
            entry["lfs"] = {"oid": hashlib.sha256(self.server.content).hexdigest(), "size": size, "pointerSize": 130}
        known = WANTED.filename in asked and not self.server.missing
        self._send(200, json.dumps([entry] if known else []).encode(), {"Content-Type": "application/json"})

    def do_GET(self) -> None:
        self.server.ranges.append(self.headers.get("Range"))
        if self.server.broken:
            self._send(500, b"on fire")
            return
        first = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").split("-")[0])
        body, whole = self.server.sent[first:], len(self.server.sent)
        cut = self.server.cuts.pop(0) if self.server.cuts else None
        self.send_response(206 if first else 200)
        self.send_header("Content-Length", str(len(body)))
        if first:
            self.send_header("Content-Range", f"bytes {first}-{whole - 1}/{whole}")
        self.end_headers()
        self.wfile.write(body[:cut])
        self.close_connection = cut is not None

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing on stderr."""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 8192)  # what a cut loses at most, 10 MB else
    monkeypatch.setattr("huggingface_hub.file_download.time", SimpleNamespace(sleep=lambda seconds: None))
    monkeypatch.setenv("NO_PROXY", "*")
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def fetch(hub: Hub, tmp_path: Path) -> Callable[[], Path]:
    return lambda: download_gguf(WANTED, tmp_path / "models", endpoint=hub.url)


def left(path: Path) -> list[str]:
    return sorted(file.name for file in (path / "models").iterdir())


def test_a_file_is_fetched_whole_and_only_once(fetch: Callable[[], Path], hub: Hub, tmp_path: Path) -> None:
    path = fetch()
    assert path.read_bytes() == CONTENT
    assert left(tmp_path) == ["tea-q8_0.gguf"]
    assert fetch() == path
    assert hub.ranges == [None]


def test_cut_connections_are_gone_on_with(fetch: Callable[[], Path], hub: Hub) -> None:
    hub.cuts = [100_000, 50_000]
    assert fetch().read_bytes() == CONTENT
    assert hub.ranges[0] is None
    assert len(hub.ranges) == 3
    firsts = [int(asked.removeprefix("bytes=").split("-")[0]) for asked in hub.ranges[1:] if asked]
    assert 0 < firsts[0] <= 100_000
    assert firsts[0] < firsts[1] <= 150_000


def test_a_later_run_goes_on_where_the_last_one_stopped(fetch: Callable[[], Path], hub: Hub, tmp_path: Path) -> None:
    def cut_then_broken() -> None:
        hub.broken = True

    hub.cuts = [120_000]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("huggingface_hub.file_download.time", SimpleNamespace(sleep=lambda seconds: cut_then_broken()))
        with pytest.raises(PersonaInterpError, match=r"the hub failed on tea-q8_0.gguf.*the same command goes on from there"):
            fetch()
    (part,) = left(tmp_path)
    assert part.endswith(".part")
    kept = (tmp_path / "models" / part).stat().st_size
    assert 0 < kept <= 120_000
    hub.broken = False
    assert fetch().read_bytes() == CONTENT
    assert str(hub.ranges[-1]).startswith(f"bytes={kept}-")
    assert left(tmp_path) == ["tea-q8_0.gguf"]


def test_a_damaged_file_is_refused_and_removed(fetch: Callable[[], Path], hub: Hub, tmp_path: Path) -> None:
    hub.sent = CONTENT[:1000] + b"!" + CONTENT[1001:]
    found, stated = (hashlib.sha256(content).hexdigest() for content in (hub.sent, CONTENT))
    with pytest.raises(
        FileFormatError, match=f"arrived damaged: its sha256 is {found}, the hub states {stated}.*download it again"
    ):
        fetch()
    assert left(tmp_path) == []
    hub.sent = CONTENT
    assert fetch().read_bytes() == CONTENT


def test_a_file_of_another_length_is_an_error(fetch: Callable[[], Path], hub: Hub) -> None:
    hub.sent = CONTENT[:-5]
    with pytest.raises(PersonaInterpError, match="the hub failed on"):
        fetch()


def test_what_is_there_but_differs_is_replaced(fetch: Callable[[], Path], tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / WANTED.filename).write_bytes(bytes(len(CONTENT)))
    assert sha256_of(fetch()) == hashlib.sha256(CONTENT).hexdigest()


def test_a_full_disk_is_told_before_anything_is_fetched(
    fetch: Callable[[], Path], hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(total=10**6, used=0, free=299_999))
    with pytest.raises(PersonaInterpError, match="299999 bytes free, about 300000 needed"):
        fetch()
    assert hub.ranges == []


def test_what_the_hub_does_not_have(fetch: Callable[[], Path], hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="the hub has no model 'tea/coffee'"):
        download_gguf(GgufOnHub("tea/coffee", "x.gguf"), tmp_path, endpoint=hub.url)
    hub.missing = True
    with pytest.raises(InvalidInputError, match=r"has no file 'tea-q8_0.gguf': look there for its name"):
        fetch()
    hub.missing, hub.lfs = False, False
    with pytest.raises(FileFormatError, match="states no sha256"):
        fetch()
    with pytest.raises(PersonaInterpError, match=r"the hub failed on tea-q8_0.gguf of tea/tea-GGUF: .*refused"):
        download_gguf(WANTED, tmp_path, endpoint="http://127.0.0.1:9")


def test_the_command_says_offline_and_names_what_could_not_be_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert main(["download-gptoss"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "cannot be reached, or HF_HUB_OFFLINE is set" in said
    assert "could not be tried against the real hub" in said
    assert not (tmp_path / "models").exists()


def test_the_command_fetches_from_where_hf_endpoint_points(hub: Hub, tmp_path: Path) -> None:
    surroundings = {name: value for name, value in os.environ.items() if name not in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")}
    words = ("download-gptoss", "--repo", WANTED.hub_id, "--file", WANTED.filename, "--output", "here")
    done = subprocess.run(
        [sys.executable, "-m", "persona_interp", *words],
        env={**surroundings, "HF_ENDPOINT": hub.url},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"here/{WANTED.filename}"
    assert (tmp_path / "here" / WANTED.filename).read_bytes() == CONTENT


def test_the_registry_states_no_checksum_and_knows_its_names() -> None:
    assert find_gguf("gpt-oss-20b") is GGUF_FILES["gpt-oss-20b"]
    assert "could not be tried" in find_gguf("gpt-oss-20b").note
    with pytest.raises(UnknownNameError, match="Known: gpt-oss-20b"):
        find_gguf("gpt-oss-21b")
