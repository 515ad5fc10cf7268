"""The command: where it serves, what it refuses, what it sends, and how it ends."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from persona_interp.cli import main
from persona_interp.demo.limits import MAX_UPLOAD
from persona_interp.errors import InvalidInputError
from persona_interp.listening import address, bound, is_loopback

PATIENCE = 300
"""Seconds a server may take to start or end on a busy machine."""


@dataclass
class Served:
    """A running ``persona-interp demo``."""

    process: subprocess.Popen[str]
    url: str
    folder: Path


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The command on a free port, ended by a signal, which must leave neither a traceback nor a file."""
    folder = tmp_path_factory.mktemp("served")
    process = start(folder, "--port", "0", "--model", "organism-gpt2")
    url = url_of(process)
    try:
        yield Served(process, url, folder)
    finally:
        # somebody is still looking at the page; Ctrl-C is pressed at the end of the browser's tests
        with urllib.request.urlopen(f"{url}/gradio_api/heartbeat/somebody", timeout=60):  # noqa: S310
            process.terminate()
            out, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, err
        assert "Traceback" not in err + out
        assert "models are closed" in err
        assert list((folder / "tmp").iterdir()) == []


def start(folder: Path, *words: str) -> subprocess.Popen[str]:
    (folder / "tmp").mkdir()
    environment = {**os.environ, "PERSONA_INTERP_HOME": str(folder / "home"), "TMPDIR": str(folder / "tmp")}
    return subprocess.Popen(
        [sys.executable, "-m", "persona_interp", "demo", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def url_of(process: subprocess.Popen[str]) -> str:
    if process.stdout is None:
        raise RuntimeError
    line = process.stdout.readline()
    assert "The page is at http://127.0.0.1:" in line, (line, process.stderr and process.stderr.read())
    return line.split()[4]


def get(url: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    request = urllib.request.Request(url, headers=headers)  # noqa: S310  (our own server)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers), error.read()


def test_the_page_forbids_the_browser_everything_but_its_own_server(served: Served) -> None:
    status, headers, body = get(served.url)
    assert status == 200
    policy = headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "connect-src 'self'" in policy
    assert "http" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert b'lang="en"' in body


def test_only_requests_for_this_machines_own_names_are_answered(served: Served) -> None:
    port = served.url.rsplit(":", 1)[1]
    assert get(served.url, Host=f"localhost:{port}")[0] == 200
    assert get(served.url, Host="evil.example")[0] == 400


@pytest.mark.parametrize("path", ["/etc/passwd", "../../../etc/passwd", "..%2f..%2f..%2fetc%2fpasswd", "/proc/self/environ"])
def test_files_of_the_machine_are_not_served(served: Served, path: str) -> None:
    status, _, body = get(f"{served.url}/gradio_api/file={path}")
    assert status in (403, 404)
    assert b"root:" not in body


def post(url: str, name: str, content: bytes) -> tuple[int, bytes]:
    """Upload a file past the page."""
    head = f'--x\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'.encode()
    body = head + content + b"\r\n--x--\r\n"
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    request = urllib.request.Request(f"{url}/gradio_api/upload", data=body, headers=kind)  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:  # noqa: S310
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_a_huge_upload_is_refused_whoever_sends_it(served: Served) -> None:
    assert post(served.url, "a.json", b"0" * (MAX_UPLOAD + 1))[0] == 413


@pytest.mark.parametrize("name", ["../../../../evil.json", "..\\..\\evil.json", "/etc/cron.d/evil.json", ".evil.json"])
def test_an_upload_lands_in_its_own_folder_whatever_its_name(served: Served, name: str) -> None:
    status, body = post(served.url, name, b"{}")
    assert status == 200
    (path,) = json.loads(body)
    place = Path(path).resolve()
    assert place.is_relative_to(served.folder.resolve() / "tmp")
    assert place.read_bytes() == b"{}"


def test_nothing_is_bound_but_loopback(served: Served) -> None:
    port = int(served.url.rsplit(":", 1)[1])
    own = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)} - {"127.0.0.1"}
    for host in own:
        if not is_loopback(str(host)):
            with pytest.raises(OSError):
                socket.create_connection((str(host), port), timeout=2)


def test_a_taken_port_is_an_error_that_names_it(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    port = served.url.rsplit(":", 1)[1]
    assert main(["demo", "--port", port]) == 2
    said = capsys.readouterr().err
    assert f"cannot serve on 127.0.0.1, port {port}" in said
    assert "--port (0 takes a free one)" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--port", "70000"], "70000"),
        (["--host", "no.such.host.invalid"], "host 'no.such.host.invalid' is not known"),
        (["--port", "0", "--model", "no-such-model"], "unknown model 'no-such-model'"),
    ],
)
def test_what_cannot_be_served_is_refused_in_one_line(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("persona_interp.demo.server._import_libraries", lambda: None)  # nnsight is loaded here already
    assert main(["demo", *words]) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert "Traceback" not in captured.err


def test_without_the_extra_the_error_names_it(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    before = dict(os.environ)
    assert main(["demo", "--port", "0"]) == 2
    assert 'pip install "persona-interp[demo]"' in capsys.readouterr().err
    assert dict(os.environ) == before


def test_port_0_takes_a_free_one_and_addresses_can_be_opened() -> None:
    with bound("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        assert port > 0
        assert address(listener) == f"http://127.0.0.1:{port}"
        with pytest.raises(InvalidInputError, match=str(port)):
            bound("127.0.0.1", port)
    assert is_loopback("localhost")
    assert is_loopback("::1")
    assert not is_loopback("0.0.0.0")  # noqa: S104
    assert not is_loopback("example.org")


FAILING = """
from persona_interp.demo.server import application, quiet_gradio
with quiet_gradio():
    import gradio as gr
    from starlette.testclient import TestClient

    def fail():
        raise RuntimeError("/home/somebody/secret")

    with gr.Blocks() as blocks:
        gr.Button().click(fail, None, None, api_name="fail")
    with TestClient(application(blocks, own_names_only=False)) as client:
        event = client.post("/gradio_api/call/fail", json={"data": []}).json()["event_id"]
        print(client.get(f"/gradio_api/call/fail/{event}").text)
"""


def test_an_unforeseen_error_is_not_shown_to_visitors() -> None:
    """It may hold paths of the machine. In a process of its own: this one has loaded nnsight before Gradio's libraries."""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", FAILING], capture_output=True, text=True, check=True)
    assert "event: error" in done.stdout
    assert "secret" not in done.stdout
