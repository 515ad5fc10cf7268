"""What llama.cpp cannot do is said before anything runs, nothing lasts, and no file brings the interpreter down."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading

import pytest
import torch
from gguf_organisms import pytorch

import persona_interp.models.engines.llama_cpp.session as session
from persona_interp.errors import FileFormatError, IncompatibleError, InvalidInputError, PersonaInterpError, UnsupportedError
from persona_interp.interventions.graph import Capture, InterventionGraph, Write
from persona_interp.interventions.operations import Add
from persona_interp.models.chat import TokenisedAnswer
from persona_interp.models.engines.llama_cpp.model import LlamaCppModel
from persona_interp.models.sampling import Sampling
from persona_interp.organisms.gguf_export import export_gguf
from persona_interp.traits.conversation import Conversation

ASKED = [Conversation.ask("Please tell me about bees."), Conversation.ask("How are you?")]
TEXT = [TokenisedAnswer(tuple(range(20, 40)), 8)]
GREEDY = Sampling(8, 0)
V = torch.randn(128, generator=torch.Generator().manual_seed(0))


def steering(coefficient: float = 2.0, **settings) -> InterventionGraph:
    return InterventionGraph((Write(2, Add(V), coefficient, **settings),))


@pytest.fixture
def native(gguf_model):
    return gguf_model("organism-qwen2")


def test_wrong_widths_layers_and_values_are_refused(native):
    for write, error in (
        (Write(2, Add(torch.ones(64))), IncompatibleError),
        (Write(99, Add(V)), IncompatibleError),
        (Write(2, Add(V * torch.nan)), InvalidInputError),
    ):
        with pytest.raises(error):
            native.generate(ASKED, graph=InterventionGraph((write,)))


def test_texts_that_do_not_fit_and_ids_that_do_not_exist_leave_the_model_usable(native):
    before = native.next_token_logits([[5, 6, 7]])
    with pytest.raises(InvalidInputError, match="does not fit into the context"):
        native.generate(ASKED, sampling=Sampling(600))
    with pytest.raises(PersonaInterpError, match="llama.cpp failed"):
        native.next_token_logits([[5, 999999]])
    assert torch.equal(native.next_token_logits([[5, 6, 7]]), before)


def test_a_shorter_context_can_be_asked_for(gguf_path):
    with LlamaCppModel(gguf_path("organism-qwen2"), n_ctx=16, n_threads=1, name="short") as model:
        assert (model.n_ctx, model.name) == (16, "short")
        with pytest.raises(InvalidInputError, match="the context is 16"):
            model.next_token_logits([[5] * 17])
    for wrong in ({"n_ctx": 0}, {"n_ctx": 513}, {"n_threads": 0}):
        with pytest.raises(InvalidInputError, match="takes 1 to 512 tokens and at least 1 thread"):
            LlamaCppModel(gguf_path("organism-qwen2"), **wrong)


A_THOUSAND_TIMES = """
import ctypes, gc, pathlib, resource, sys, torch
from persona_interp.interventions.graph import Capture, InterventionGraph, Write
from persona_interp.interventions.operations import Add
from persona_interp.models.chat import TokenisedAnswer
from persona_interp.models.sampling import Sampling
from persona_interp.models.engines.llama_cpp.model import LlamaCppModel
from persona_interp.traits.conversation import Conversation

class MallInfo(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in ("arena", "b", "c", "d", "mapped", "f", "g", "in_use", "i", "j")]

library = ctypes.CDLL(None)
library.mallinfo2.restype = MallInfo

def held():
    gc.collect()
    info, pages = library.mallinfo2(), int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return torch.tensor([info.in_use + info.mapped, pages * resource.getpagesize()])

model, text = LlamaCppModel(sys.argv[1], n_threads=1), [TokenisedAnswer(tuple(range(20, 40)), 8)]
reading, vector = InterventionGraph((Capture("all", "none"),)), torch.randn(model.d_model)
asked = [Conversation.ask("Please tell me about bees."), Conversation.ask("How are you?")]

def unsteered():
    answers = [model.generate(asked, sampling=Sampling(12, heat), seed=3) for heat in (0.0, 1.0)]
    tokens = torch.tensor([answer.answer_ids + (-1,) * (12 - len(answer.answer_ids)) for some in answers for answer in some])
    return model.next_token_logits([[5, 6, 7]]), model.capture(text, reading)[0][reading.captures[0]], tokens

def steer(number):
    steering = InterventionGraph((Write(2, Add(vector), number % 7 - 3.0, ("all", "response")[number % 2]),))
    model.next_token_logits([[5, 6, 7]], graph=steering)
    if number % 100 == 50:
        model.generate(asked, graph=steering, sampling=Sampling(12, 1.0), seed=number)
        assert all(torch.equal(*pair) for pair in zip(before, unsteered())), number

before = unsteered()
for number in range(300):
    steer(number)
warm = held()
for number in range(1000):
    steer(number)
allocated, resident = (held() - warm).tolist()
assert all(torch.equal(*pair) for pair in zip(before, unsteered()))
assert allocated < 200 * 1024, allocated
assert resident < 16 * 2**20, resident  # goes up and down by some megabytes, as heaps do whose blocks come and go
"""


@pytest.mark.slow
def test_steering_on_and_off_a_thousand_times_changes_no_bit_and_holds_no_memory(gguf_path):
    """Logits, residuals, likeliest and drawn tokens.

    In a process of its own, because what checks shapes in tests holds memory itself. A control vector has 3.5 kB here: of a
    thousand that stay, sixty would be too many.
    """
    done = subprocess.run(
        [sys.executable, "-c", A_THOUSAND_TIMES, str(gguf_path("organism-qwen2"))], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_overflow_is_an_error_and_leaves_no_trace(native):
    plain = native.generate(ASKED, sampling=GREEDY)
    logits = native.next_token_logits([[5, 6, 7]])
    huge = InterventionGraph((Write(2, Add(torch.full((128,), 3e38)), 100.0),))
    with pytest.raises(PersonaInterpError, match="NaN"):
        native.generate(ASKED, graph=huge, sampling=GREEDY)
    assert torch.equal(native.next_token_logits([[5, 6, 7]]), logits)
    assert [answer.answer_ids for answer in native.generate(ASKED, sampling=GREEDY)] == [a.answer_ids for a in plain]


def test_fewer_rows_are_run_at_a_time_where_memory_is_short(gguf_path, monkeypatch, capsys):
    with LlamaCppModel(gguf_path("organism-qwen2")) as model:
        expected = model.generate(ASKED, sampling=GREEDY)
        model.engine.close_contexts()
        make = session.LlamaContext.__init__

        def short(self, *args, **kwargs):
            if kwargs["n_rows"] > 1:
                raise MemoryError("llama.cpp could not allocate")
            make(self, *args, **kwargs)

        monkeypatch.setattr(session.LlamaContext, "__init__", short)
        assert [a.answer_ids for a in model.generate(ASKED, sampling=GREEDY)] == [a.answer_ids for a in expected]
    assert "going on with 1" in capsys.readouterr().err


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, RuntimeError])
def test_an_interruption_takes_the_vector_off(native, monkeypatch, interruption):
    plain = native.generate(ASKED, sampling=GREEDY)
    calls = []
    call = session.LlamaContext.call

    def interrupted(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == 4:
            raise interruption
        return call(self, *args, **kwargs)

    native.generate(ASKED, graph=steering(), sampling=GREEDY)
    monkeypatch.setattr(session.LlamaContext, "call", interrupted)
    with pytest.raises(interruption):
        native.generate(ASKED, graph=steering(), sampling=GREEDY)
    monkeypatch.undo()
    assert [answer.answer_ids for answer in native.generate(ASKED, sampling=GREEDY)] == [a.answer_ids for a in plain]


def test_an_interruption_in_the_middle_of_reading_is_not_lost(native, monkeypatch):
    reading = InterventionGraph((Capture("all"),))
    expected = native.capture(TEXT, reading)
    with monkeypatch.context() as patched:
        patched.setattr(native.engine._tap, "_copy", lambda tensor, layer: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            native.capture(TEXT, reading)
    again = native.capture(TEXT, reading)
    assert torch.equal(again[0][reading.captures[0]], expected[0][reading.captures[0]])


def test_ctrl_c_that_comes_inside_a_callback_of_llama_cpp_is_raised_all_the_same(native):
    reading = InterventionGraph((Capture("all"),))
    text = [TokenisedAnswer(tuple(range(20, 500)), 8)]
    expected = native.capture(TEXT, reading)

    def read_on():
        for _ in range(10_000):
            native.capture(text, reading)

    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        read_on()
    timer.join()
    assert signal.getsignal(signal.SIGINT) is handler
    again = native.capture(TEXT, reading)
    assert torch.equal(again[0][reading.captures[0]], expected[0][reading.captures[0]])


def test_an_architecture_that_ignores_control_vectors_is_found_out(gguf_path, monkeypatch):
    with LlamaCppModel(gguf_path("organism-qwen2")) as model:
        monkeypatch.setattr(session.LlamaContext, "steer", lambda self, vector: None)
        with pytest.raises(UnsupportedError, match="ignores control vectors.*changed no logit"):
            model.generate(ASKED, graph=steering())
        model.generate(ASKED, sampling=GREEDY)


def test_several_threads_wait_for_each_other(native):
    expected = native.generate(ASKED, graph=steering(), sampling=GREEDY), native.generate(ASKED, sampling=GREEDY)
    found: list[list[tuple[int, ...]]] = []

    def run(steered: bool) -> None:
        for _ in range(3):
            done = native.generate(ASKED, graph=steering() if steered else None, sampling=GREEDY)
            found.append([answer.answer_ids for answer in done])
            assert found[-1] == [answer.answer_ids for answer in expected[not steered]]

    threads = [threading.Thread(target=run, args=(steered,)) for steered in (True, False)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6


def test_a_closed_model_says_so(gguf_path):
    model = LlamaCppModel(gguf_path("organism-qwen2"))
    model.next_token_logits([[5]])
    model.close()
    model.close()
    with pytest.raises(PersonaInterpError, match="closed: load it again"):
        model.next_token_logits([[5]])


def test_an_unclosed_model_ends_quietly_with_the_interpreter(gguf_path):
    code = (
        "import sys; from persona_interp.models.engines.llama_cpp.model import LlamaCppModel\n"
        "model = LlamaCppModel(sys.argv[1]); model.next_token_logits([[5, 6]])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(gguf_path("organism-qwen2"))], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def text(content: bytes) -> bytes:
    """As GGUF stores it."""
    return len(content).to_bytes(8, "little") + content


def damaged(whole: bytes) -> dict[str, bytes]:
    n_tensors = whole[8:16]
    return {
        "empty": b"",
        "no GGUF": b"PK\x03\x04" + whole[4:4000],
        "cut in the header": whole[:1000],
        "cut in the tensors": whole[: len(whole) // 2],
        "of another version": whole[:4] + b"\x07" + whole[5:],
        "more tensors than it has": whole[:8] + b"\xff\xff\xff\x7f" + n_tensors[4:] + whole[16:],
        "no tensors": whole[:8] + bytes(8) + whole[16:],
        "another width": whole.replace(
            b"qwen2.embedding_length\x04\x00\x00\x00\x80", b"qwen2.embedding_length\x04\x00\x00\x00\x81"
        ),
        "no heads": whole.replace(b"head_count\x04\x00\x00\x00\x04", b"head_count\x04\x00\x00\x00\x00"),
        "another architecture": whole.replace(text(b"qwen2"), text(b"qwenX")),
        "a missing tensor": whole.replace(b"blk.3.attn_q.weight", b"blk.3.attn_Z.weight"),
        "a broken chat template": whole.replace(b"{% for message", b"{% fox message"),
        "an unknown tokenizer": whole.replace(text(b"gpt2"), text(b"gptX")),
    }


KINDS = list(damaged(bytes(range(200)) * 100))


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_an_error_that_names_it(kind, gguf_path, tmp_path):
    whole = gguf_path("organism-qwen2").read_bytes()
    content = damaged(whole)[kind]
    assert content != whole
    (tmp_path / "bad.gguf").write_bytes(content)
    with pytest.raises(FileFormatError, match=r"bad\.gguf"):
        LlamaCppModel(tmp_path / "bad.gguf")


def test_bytes_flipped_anywhere_in_the_header_never_end_the_process(gguf_path, tmp_path):
    whole = bytearray(gguf_path("organism-qwen2").read_bytes())
    rng = random.Random(0)
    loaded = 0
    for number in range(12):
        content = bytearray(whole)
        for _ in range(3):
            content[rng.randrange(30000)] = rng.randrange(256)
        (tmp_path / f"{number}.gguf").write_bytes(content)
        try:
            with LlamaCppModel(tmp_path / f"{number}.gguf") as model:
                model.next_token_logits([[5, 6]])
            loaded += 1  # a letter of some token was changed: that is another model, not a damaged file
        except (FileFormatError, UnsupportedError):
            pass
    assert loaded < 12


def test_other_files_that_are_gguf_are_told_apart(gguf_path, tmp_path):
    whole = gguf_path("organism-qwen2").read_bytes()
    (tmp_path / "adapter.gguf").write_bytes(whole.replace(text(b"model"), text(b"lorax")))
    with pytest.raises(FileFormatError, match="of kind 'lorax', not a language model"):
        LlamaCppModel(tmp_path / "adapter.gguf")
    with pytest.raises(FileFormatError, match="does not exist"):
        LlamaCppModel(tmp_path / "missing.gguf")


def test_nothing_of_the_pytorch_model_is_needed_to_run_the_file(tmp_path):
    model = pytorch("organism-llama")
    path = export_gguf(model, tmp_path / "a model with spaces é.gguf")
    with LlamaCppModel(path) as native:
        assert native.name == "a model with spaces é"
        assert native.generate(ASKED[:1], sampling=GREEDY)[0].text == model.generate(ASKED[:1], sampling=GREEDY)[0].text
