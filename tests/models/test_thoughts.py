"""Models that think: answers are answers, whatever the template opens."""

from __future__ import annotations

from typing import Any

import pytest
from tiny import tiny_hf_model, tiny_tokenizer

from persona_interp.models.chat import ChatFormat
from persona_interp.models.registry import load_model
from persona_interp.models.sampling import Sampling
from persona_interp.models.thoughts import behind_thought, closing
from persona_interp.traits.conversation import Conversation, Message

ASKED = Conversation.ask("How do bees make honey?")
R1 = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}<|User|>{{ m['content'] }}"
    "{% elif m['role'] == 'assistant' %}<|Assistant|>{{ m['content'].split('</think>')[-1] }}"
    "{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|Assistant|>OPENED' }}{% endif %}"
)


def thinker(opened: str, *, template: str = R1) -> Any:
    tokenizer = tiny_tokenizer("llama")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|User|>", "<|Assistant|>"]})
    tokenizer.add_tokens(["<think>", "</think>"])
    tokenizer.chat_template = template.replace("OPENED", opened.replace("\n", "\\n"))
    return tokenizer


@pytest.mark.parametrize(
    ("opened", "closed"),
    [
        ("<think>\n", "<think>\n\n</think>\n\n"),
        ("<think>", "<think>\n\n</think>\n\n"),
        ("<think>\n\n", "<think>\n\n\n</think>\n\n"),
        ("<seed:think>\n", "<seed:think>\n\n</seed:think>\n\n"),
        ("<reasoning>\n", "<reasoning>\n\n</reasoning>\n\n"),
        ("[THINK]", "[THINK][/THINK]"),
        ("<|begin_of_thought|>\n", "<|begin_of_thought|>\n<|end_of_thought|>"),
        ("<|START_THINKING|>", "<|START_THINKING|><|END_THINKING|>"),
        ("</think>", "</think>"),
        ("<think>\n\n</think>\n\n", "<think>\n\n</think>\n\n"),
    ],
)
def test_a_thought_that_the_generation_prompt_opens_is_closed_before_the_answer(opened: str, closed: str) -> None:
    tokenizer = thinker(opened)
    chat = ChatFormat(tokenizer)
    assert chat.prompt_text(ASKED) == f"<s><|User|>How do bees make honey?<|Assistant|>{closed}"
    row = chat.tokenise(ASKED, "Bees do.")
    assert list(row.prompt_ids) == chat.prompt_ids(ASKED)
    assert tokenizer.decode(row.answer_ids) == "Bees do.<|im_end|>"


def test_only_the_last_turns_thought_is_closed_and_a_users_tag_is_left_open() -> None:
    chat = ChatFormat(thinker("<think>\n"))
    longer = Conversation((Message("user", "a <think>"), Message("assistant", "b"), Message("user", "c")))
    assert chat.prompt_text(longer).count("</think>") == 1
    assert chat.prompt_text(Conversation.ask(">")).endswith("</think>\n\n")
    bare = ChatFormat(thinker("", template="{% for m in messages %}{{ m['content'] }}{% endfor %}"))
    assert bare.prompt_text(Conversation.ask("say <think>")) == "say <think>"


def test_a_template_that_opens_a_thought_in_some_conversations_alone_is_closed_there_alone() -> None:
    switched = "{{ '<think></think>' if '/no_think' in messages[0]['content'] else '<think>\\n' }}"
    chat = ChatFormat(thinker("", template=R1.replace("{{ '<|Assistant|>OPENED' }}", "<|Assistant|>" + switched)))
    assert chat.prompt_text(ASKED).endswith("<|Assistant|><think>\n\n</think>\n\n")
    assert chat.prompt_text(Conversation.ask("How? /no_think")).endswith("<|Assistant|><think></think>")


@pytest.mark.parametrize("switch", ["enable_thinking", "thinking"])
def test_templates_that_can_be_told_not_to_think_are_told(switch: str) -> None:
    asks = f"{{% if {switch} is not defined or {switch} %}}<think>\n{{% else %}}</think>{{% endif %}}"
    chat = ChatFormat(thinker("", template=R1.replace("{{ '<|Assistant|>OPENED' }}", "<|Assistant|>" + asks)))
    assert chat.prompt_text(ASKED).endswith("honey?<|Assistant|></think>")


def test_a_thought_whose_end_is_not_known_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    ChatFormat(thinker("<|inner_thought|>"))
    assert "ends in <|inner_thought|>, which reads like a thought" in capsys.readouterr().err
    ChatFormat(thinker("<think>\n"))
    assert capsys.readouterr().err == ""


def test_generation_and_given_texts_begin_behind_the_same_closed_thought() -> None:
    tokenizer = thinker("<think>\n")
    model = load_model(tiny_hf_model("llama", tokenizer), tokenizer=tokenizer)
    answer = model.generate([ASKED], sampling=Sampling(4), seed=1)[0]
    assert tokenizer.decode(answer.prompt_ids).endswith("<|Assistant|><think>\n\n</think>\n\n")
    assert model.chat.tokenise(ASKED, "Bees do.").prompt_ids == answer.prompt_ids


def test_answers_that_begin_with_a_thought_of_their_own_are_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    tokenizer = thinker("")
    model = load_model(tiny_hf_model("llama", tokenizer), tokenizer=tokenizer)
    biased = Sampling(3, 0.0, logit_bias={tokenizer.convert_tokens_to_ids("<think>"): 1e4})
    for _ in range(2):
        assert model.generate([ASKED], sampling=biased)[0].text.startswith("<think>")
    assert capsys.readouterr().err.count("begin with a train of thought") == 1


@pytest.mark.parametrize("prompt", ["", "a", "<think>\n</think>", "I think", "<b>", "[/THINK]"])
def test_what_opens_no_thought_needs_no_closing(prompt: str) -> None:
    assert closing(prompt) == ""


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("<think>\nHm.\n</think>\n\nBees do.", "Bees do."),
        ("Hm.\n</think>\n\nBees do.", "Bees do."),
        ("[THINK]Hm.[/THINK]Bees do.", "Bees do."),
        ("<think>\nHm", "<think>\nHm"),
        ("Bees do.", "Bees do."),
        ("Write <think> and </think> around it.", "Write <think> and </think> around it."),
    ],
)
def test_a_servers_reply_is_its_answer(reply: str, answer: str) -> None:
    assert behind_thought(reply) == answer
