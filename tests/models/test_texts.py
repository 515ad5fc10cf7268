"""The texts people have at hand are taken as they are, and mean the same in every form."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from persona_interp.errors import InvalidInputError, UnknownNameError
from persona_interp.interventions.graph import Capture, InterventionGraph
from persona_interp.models.sampling import Sampling
from persona_interp.models.steerable import SteerableModel
from persona_interp.models.texts import conversations, plain_row, rows
from persona_interp.monitoring.chats import Chat
from persona_interp.monitoring.project import project
from persona_interp.traits.conversation import Conversation
from persona_interp.vectors.persona_vector import PersonaVector

GREEDY = Sampling(max_new_tokens=6, temperature=0)
MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "How are you?"}]
ANSWERED = [*MESSAGES, {"role": "assistant", "content": "Splendid."}]


@pytest.fixture(scope="module")
def model(tiny_model: Callable[[str], SteerableModel]) -> SteerableModel:
    return tiny_model("qwen2")


def test_every_form_of_a_question_is_the_same_conversation() -> None:
    asked = Conversation.ask("How are you?", system="Be brief.")
    parts = [MESSAGES[0], {"role": "user", "content": [{"type": "text", "text": "How are"}, {"type": "text", "text": " you?"}]}]
    for form in (asked, MESSAGES, [MESSAGES], [asked], {"messages": MESSAGES}, parts, tuple(MESSAGES)):
        assert conversations(form) == [asked]
    assert conversations("Hi") == conversations(["Hi"]) == [Conversation.ask("Hi")]
    assert conversations([MESSAGES, "Hi", asked]) == [asked, Conversation.ask("Hi"), asked]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"prompt": "Hi"}, "is no chat"),
        (ANSWERED, "last message of a conversation is the user's"),
        ([{"role": "user"}], "message 0 is"),
        ([{"role": "user", "content": [{"type": "image"}]}], "with text in both"),
    ],
)
def test_what_is_no_text_is_refused_with_the_forms_there_are(wrong: object, said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        conversations(wrong)  # pyright: ignore[reportArgumentType]


def test_answers_print_as_text(model: SteerableModel) -> None:
    one, two = model.generate(["How are you?", MESSAGES], sampling=GREEDY)
    assert str(one) == one.text
    assert repr(one.text) in repr(one)
    assert two.conversation == Conversation.ask("How are you?", system="Be brief.")
    assert model.generate("How are you?", sampling=GREEDY) == [one]


def test_raw_text_is_gone_on_with_as_it_is(model: SteerableModel) -> None:
    (raw,) = model.generate("How are", raw=True, sampling=GREEDY)
    assert raw.prompt_ids == tuple(model.tokenizer("How are")["input_ids"])
    ids = torch.tensor([raw.prompt_ids])
    expected = model.hf_model.generate(ids, max_new_tokens=6, do_sample=False, pad_token_id=0)[0, ids.shape[1] :].tolist()
    assert list(raw.answer_ids) == expected[: len(raw.answer_ids)]


def test_read_is_capture_as_a_tensor(model: SteerableModel) -> None:
    texts = [ANSWERED, ("How are you?", "Well, thanks."), "Plain text is read as it is."]
    found = model.read(texts, layers=[2, 0])
    assert found.shape == (3, 2, model.d_model)
    capture = Capture("answer", layers=(0, 2))
    by_hand = model.capture(rows(model.chat, texts), InterventionGraph((capture,)))
    torch.testing.assert_close(found, torch.stack([each[capture][[1, 0]] for each in by_hand]))
    every = model.read(texts, layers=2, positions="all")
    assert every.shape[0] == 3
    assert every[0].isnan().any() != every[2].isnan().any() or every[1].isnan().any(), "shorter texts end in NaN"
    last = model.read("Plain text is read as it is.", layers=2, positions="last")
    n_read = len(plain_row(model.tokenizer, "Plain text is read as it is.").ids) - 1
    torch.testing.assert_close(last[0], every[2, n_read - 1])
    prompt = model.read(MESSAGES, layers=1, positions="prompt_last")
    torch.testing.assert_close(prompt, model.read(ANSWERED, layers=1, positions="prompt_last"))


def test_the_first_token_of_plain_text_is_in_no_mean(model: SteerableModel) -> None:
    (row,) = rows(model.chat, "Plain text.")
    assert row.n_prompt == max(1, plain_row(model.tokenizer, "Plain text.").n_prompt)
    every = model.read("Plain text.", layers=1, positions="all")[0]
    torch.testing.assert_close(model.read("Plain text.", layers=1)[0], every[row.n_prompt :].mean(dim=0))


def test_what_cannot_be_read_is_said(model: SteerableModel) -> None:
    with pytest.raises(InvalidInputError, match="no answer to read: use positions='prompt_last'"):
        model.read(MESSAGES)
    with pytest.raises(UnknownNameError, match="Known: all, last, prompt_avg"):
        model.read("a b", positions="middle")
    with pytest.raises(InvalidInputError, match="no layer was given"):
        model.read("a b", layers=[])
    with pytest.raises(InvalidInputError, match="a text is empty"):
        model.read("")


def test_likelihoods_and_projections_take_the_same_forms(model: SteerableModel) -> None:
    (chat,), (pair,) = model.log_likelihood(ANSWERED), model.log_likelihood((MESSAGES, "Splendid."))
    assert chat.total == pair.total
    (plain,) = model.log_likelihood("How are you?")
    assert len(plain.token_log_probs) == len(model.tokenizer("How are you?")["input_ids"]) - 1
    vector = PersonaVector.from_directions(model, {1: torch.ones(model.d_model)}, trait="x")
    seen = [project(model, vector, form).answers(1) for form in (ANSWERED, [ANSWERED], Chat.from_json({"messages": ANSWERED}))]
    assert seen[0] == pytest.approx(seen[1])
    assert seen[0] == pytest.approx(seen[2])
    torch.testing.assert_close(vector.project(model.read(ANSWERED, layers=1)[0]).tolist(), seen[0], check_dtype=False)
