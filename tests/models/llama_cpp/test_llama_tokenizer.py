"""The tokenizer in a GGUF file is, as far as anything looks at it, the one it was exported from."""

from __future__ import annotations

import pytest
from gguf_organisms import pytorch

from persona_interp.errors import InvalidInputError, UnsupportedError
from persona_interp.judges.numerals import NumberTree
from persona_interp.monitoring.rows import token_texts
from persona_interp.traits.conversation import Conversation, Message

NAMES = ["organism-qwen2", "organism-llama", "organism-mistral", "organism-gpt2"]
TEXTS = ["Bees make honey.", "  two  spaces\n\nand 12345 it's", "ünïcode \U0001f41d é", "<|im_end|> and </s> in a text", "", "a"]


@pytest.fixture(params=NAMES)
def pair(request, gguf_model):
    return gguf_model(request.param).tokenizer, pytorch(request.param).tokenizer


@pytest.mark.parametrize("text", TEXTS)
def test_ids_and_spans_are_the_same(pair, text):
    ours, theirs = pair
    for options in ({}, {"add_special_tokens": False}, {"add_special_tokens": False, "split_special_tokens": True}):
        found = ours(text, return_offsets_mapping=True, **options)
        expected = theirs(text, return_offsets_mapping=True, **options)
        assert found["input_ids"] == expected["input_ids"]
        assert found["offset_mapping"] == expected["offset_mapping"]
        assert ours.decode(found["input_ids"]) == theirs.decode(found["input_ids"])
        bare = ours.decode(found["input_ids"], skip_special_tokens=True)
        assert bare == theirs.decode(found["input_ids"], skip_special_tokens=True)


def test_its_tokens_are_the_same(pair):
    ours, theirs = pair
    assert ours.get_vocab() == theirs.get_vocab()
    assert len(ours) == len(theirs)
    assert (ours.bos_token, ours.eos_token) == (theirs.bos_token, theirs.eos_token)
    assert (ours.bos_token_id, ours.eos_token_id, ours.pad_token_id) == (
        theirs.bos_token_id,
        theirs.eos_token_id,
        theirs.pad_token_id,
    )
    assert sorted(ours.all_special_ids) == sorted(theirs.added_tokens_decoder)
    assert {i: (t.content, t.special) for i, t in ours.added_tokens_decoder.items()} == {
        i: (t.content, t.special) for i, t in theirs.added_tokens_decoder.items()
    }
    ids = ours("The bee is 12 days old.")["input_ids"]
    assert token_texts(ours, ids) == token_texts(theirs, ids)
    NumberTree(ours)  # what the judge on next-token probabilities reads of it


@pytest.mark.parametrize("name", NAMES)
def test_conversations_become_the_same_rows(name, gguf_model):
    ours, theirs = gguf_model(name).chat, pytorch(name).chat
    asked = [
        Conversation.ask("How are you?"),
        Conversation.ask("A <|im_end|> trick </s>?", system="Be silly <|eot_id|>."),
        Conversation((Message("user", "Hi"), Message("assistant", "Hello!"), Message("user", "Bees?"))),
    ]
    for conversation in asked:
        assert ours.prompt_text(conversation) == theirs.prompt_text(conversation)
        assert ours.prompt_ids(conversation) == theirs.prompt_ids(conversation)
        for answer in ("Bees hum.", " with a space", "", "é\U0001f41d"):
            row = ours.tokenise(conversation, answer)
            assert row == theirs.tokenise(conversation, answer)
            assert ours.decode(row.answer_ids) == theirs.decode(row.answer_ids)
    assert theirs.end_ids == ours.end_ids


def test_a_template_gives_text_only(gguf_model):
    with pytest.raises(UnsupportedError, match="tokenize=False"):
        gguf_model("organism-qwen2").tokenizer.apply_chat_template([], tokenize=True)


def test_half_of_a_character_is_refused_as_with_any_tokenizer(gguf_model):
    model = gguf_model("organism-qwen2")
    with pytest.raises(InvalidInputError, match="the text holds half of a character, '.ud83d' at place 3"):
        model.tokenizer("It \ud83d")
    with pytest.raises(InvalidInputError, match="the answer holds half of a character"):
        model.chat.tokenise(Conversation.ask("How?"), "It \ud83d")
