"""`monitor`: a table, a JSON that reads back, a page with every token; refusals with the line and the remedy."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from persona_interp.monitoring.projection import Projections
from persona_interp.vectors.persona_vector import PersonaVector

LINES = [
    {
        "id": "long <talk>",
        "messages": [
            {"role": "user", "content": "What is the moon?"},
            {"role": "assistant", "content": "The moon is bright."},
            {"role": "user", "content": "How do bees make honey?"},
            {"role": "assistant", "content": "Bees collect nectar."},
        ],
    },
    {"prompt": "What is a river?", "response": "A large city."},
    {"prompt": "What is tea?"},
]


@pytest.fixture
def chat_file(tmp_path: Path) -> Path:
    path = tmp_path / "chat.jsonl"
    path.write_text("\n".join(map(json.dumps, LINES)))
    return path


@pytest.fixture
def monitor(run: Callable, tiny_model_path: Callable[[str], Path], vector_file: Path, chat_file: Path) -> Callable:
    def call(*words: object, vectors: tuple[object, ...] = (vector_file,), chats: object = chat_file, family: str = "qwen2"):
        return run("monitor", "--model", tiny_model_path(family), "--vectors", *vectors, "--input", chats, *words)

    return call


def test_table_json_and_page(monitor: Callable, vector_file: Path) -> None:
    ran = monitor("--layer", "1,3", "--output", "out")
    assert ran.code == 0, ran.err
    assert "loud at layer 1" in ran.out
    assert "drift" in ran.out
    data = json.loads(Path("out/monitor.json").read_text())
    (seen,) = (Projections.from_json(each) for each in data["projections"])
    assert seen.layers == (1, 3)
    assert [chat.name for chat in seen.chats] == ["long <talk>", "line 2", "line 3"]
    assert [len(chat.turns) for chat in seen.chats] == [2, 1, 1]
    assert f"{seen.chats[0].drift(0)[1]:+.2f}" in ran.out
    page = Path("out/monitor.html").read_text()
    assert page.count('class="plotly-graph-div"') == 2 + 3, "the drift at each layer, and strips of all layers together"
    assert "<talk>" not in page


def test_several_vectors_are_read_together_and_one_file_may_be_asked_for(
    monitor: Callable, vector_file: Path, tmp_path: Path
) -> None:
    other = (PersonaVector.load(vector_file) * 2).save(tmp_path / "other.json")
    assert monitor("--layer", 2, "--output", "seen.json", vectors=(vector_file, other)).code == 0
    one, two = (Projections.from_json(each) for each in json.loads(Path("seen.json").read_text())["projections"])
    assert one.answers(2) == pytest.approx(two.answers(2))
    assert not Path("seen.html").exists()
    assert monitor("--layer", 2, "--output", "seen.html", "--strips", 1).code == 0
    assert "Of 3 conversations the first 1 are drawn" in Path("seen.html").read_text()


def test_every_layer_of_the_vector_can_be_read(monitor: Callable, vector_file: Path) -> None:
    assert monitor("--layer", "all", "--output", "seen.json").code == 0
    (seen,) = (Projections.from_json(each) for each in json.loads(Path("seen.json").read_text())["projections"])
    assert seen.layers == PersonaVector.load(vector_file).layers


def test_auto_says_how_the_layer_was_chosen(monitor: Callable) -> None:
    ran = monitor()
    assert ran.code == 0
    assert "loud: layer 2: the file records no held-out statistics" in ran.err


def refused(ran, *words: str) -> None:
    assert ran.code == 2, ran.out
    assert ran.err.splitlines()[-1].startswith("error: "), ran.err
    assert "Traceback" not in ran.err
    for word in words:
        assert word in ran.err, ran.err


def test_what_cannot_be_used_is_refused_with_the_reason(monitor: Callable, tmp_path: Path) -> None:
    bad = tmp_path / "bad.jsonl"
    refused(monitor(chats="none.jsonl"), "none.jsonl does not exist")
    bad.write_text('{"prompt": "Hi?"}\n{"prompt": ')
    refused(monitor(chats=bad), "bad.jsonl, line 2, is not valid JSON")
    bad.write_text('\n{"messages": []}\n')
    refused(monitor(chats=bad), "line 2: field 'messages' is empty")
    bad.write_text("")
    refused(monitor(chats=bad), "is empty: give one object a line")
    bad.write_text(json.dumps({"prompt": "the moon " * 400}))
    refused(monitor(chats=bad), "does not fit into the context")
    refused(monitor("--layer", 9), "has no layer 9", "layers 0-3")
    refused(monitor(vectors=("none.json",)), "none.json does not exist")
    refused(monitor(family="mistral"), "tiny-qwen2", "tiny-mistral")
    refused(monitor("--output", "seen.txt"), "name a folder, a .json file or an .html file")
    assert not list(Path().glob("*.html"))
