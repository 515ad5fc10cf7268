"""What a chat template does around a turn: learned by rendering probes, then used to lay out prompts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from persona_interp.errors import FileFormatError, InvalidInputError
from persona_interp.models.next_turn import SPEAKERS
from persona_interp.models.thoughts import closing, opens_unknown
from persona_interp.progress import say

_USER, _ASSISTANT = SPEAKERS
PLAIN_TEMPLATE = (
    "{{ start }}"
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ message['content'] }}\n\n"
    f"{{% elif message['role'] == 'user' %}}{_USER}: {{{{ message['content'] }}}}\n"
    f"{{% else %}}{_ASSISTANT}: {{{{ message['content'] }}}}\n"
    "{% endif %}{% endfor %}"
    f"{{% if add_generation_prompt %}}{_ASSISTANT}:{{% endif %}}"
)
DATE = date(2024, 7, 26)  # what Llama 3.1 and 3.2 templates fall back to
_STOPPED_CLOCK = (  # for templates that ask the clock themselves; `+` keeps a line break they may begin with
    "{% macro strftime_now(format) %}{{ format"
    + "".join(f" | replace('%{code}', '{DATE.strftime('%' + code)}')" for code in "YymdbBaAHMS")
    + " }}{% endmacro +%}"
)
_PROBE = "PersonaProbe7391"
_ASKED = {"role": "user", "content": "Hi"}
_NOTHING_THINKS = {"enable_thinking": False, "thinking": False}
"""What templates ask before they open a thought: Qwen 3, SmolLM 3 and GLM the one, DeepSeek, Granite and Kimi the other."""


@dataclass(frozen=True)
class _Layout:
    """What a template does around a turn.

    Attributes:
        takes_system: whether system texts come through.
        opener: what it puts in front of an answer beyond its generation prompt.
        opener_closes: whether that closes a thought which the generation prompt opens.
        separator: whitespace it puts between the prompt and an answer.
        ending: the text that ends an answer, up to and including its own token.
    """

    takes_system: bool
    opener: str
    opener_closes: bool
    separator: str
    ending: str


class ChatTemplate:
    """The chat template of a tokenizer, or the plain layout where it has none.

    Args:
        tokenizer: as `ChatFormat` takes it.
        added: the texts of its added tokens.

    Attributes:
        plain: whether `PLAIN_TEMPLATE` is used.

    Raises:
        FileFormatError: the template cannot be rendered, or there are several and none is the default.
    """

    def __init__(self, tokenizer: Any, added: Iterable[str]) -> None:
        self._tokenizer = tokenizer
        self._ends_turn = any_of(added)
        self._name = getattr(tokenizer, "name_or_path", "") or "this tokenizer"
        self.plain = not getattr(tokenizer, "chat_template", None)
        self._start = self._own_start() if self.plain else ""
        self._layout = self._learn_layout()

    @property
    def takes_system(self) -> bool:
        """Whether system texts come through as such."""
        return self._layout.takes_system

    @property
    def separator(self) -> str:
        """Whitespace between the prompt and an answer."""
        return self._layout.separator

    @property
    def ending(self) -> str:
        """The text that ends an answer."""
        return self._layout.ending

    def prompt(self, messages: list[dict[str, str]]) -> str:
        """The text up to where an answer begins, a thought that the template opens there closed.

        Raises:
            InvalidInputError: the template refuses the conversation.
        """
        try:
            text = self._render(messages, generation_prompt=True)
        except Exception as error:  # a template is a program of its own, which fails in its own ways
            roles = ", ".join(message["role"] for message in messages)
            raise InvalidInputError(f"the chat template of {self._name} refuses a conversation of {roles}: {error}") from error
        closed = closing(text)
        if closed and text.rstrip().endswith(messages[-1]["content"].rstrip()) and text == self._try_render(messages):
            closed = ""  # the user's own words are the last, and what they open stays open
        if not closed:
            return text if self._layout.opener_closes else text + self._layout.opener
        return text + (self._layout.opener if self._layout.opener_closes else closed)

    def _render(self, messages: list[dict[str, str]], *, generation_prompt: bool) -> str:
        settings: dict[str, Any] = {"date_string": f"{DATE:%d %b %Y}", **_NOTHING_THINKS}
        if self.plain:
            settings = {"chat_template": PLAIN_TEMPLATE, "start": self._start}
        elif "strftime_now" in (template := self._tokenizer.get_chat_template()):
            settings["chat_template"] = _STOPPED_CLOCK + template
        return self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=generation_prompt, **settings)

    def _learn_layout(self) -> _Layout:
        prompt = self._first_prompt()
        answered = self._try_render([_ASKED, {"role": "assistant", "content": _PROBE}])
        before, found, after = answered.rpartition(_PROBE)
        extra = before[len(prompt) :] if found and before.startswith(prompt) else ""
        return _Layout(
            takes_system=_PROBE in self._try_render([{"role": "system", "content": _PROBE}, _ASKED]),
            opener=extra if extra.strip() else "",
            opener_closes=bool(extra.strip() and closing(prompt)),
            separator="" if extra.strip() else extra,
            ending=self._ending(after if found else ""),
        )

    def _first_prompt(self) -> str:
        named = getattr(self._tokenizer, "chat_template", None)
        if isinstance(named, Mapping) and named and "default" not in named:
            raise FileFormatError(
                f"{self._name} has chat templates named {', '.join(map(repr, sorted(named)))}, and none is the 'default': set "
                "its tokenizer's chat_template to the one to use"
            )
        try:
            prompt = self._render([_ASKED], generation_prompt=True)
        except Exception as error:  # a template is a program of its own, which fails in its own ways
            said = f"{type(error).__name__}: {error}"
            raise FileFormatError(
                f"the chat template of {self._name} cannot be rendered ({said:.300}): correct it, download it again, or set the "
                "tokenizer's chat_template to another, or to None for plain 'User:' and 'Assistant:' lines"
            ) from error
        if tag := opens_unknown(prompt):
            say(f"note: the chat template of {self._name} ends in {tag}, which reads like a thought: answers may begin with one")
        return prompt

    def _try_render(self, messages: list[dict[str, str]]) -> str:
        """A rendering without generation prompt, empty where the template refuses the conversation."""
        try:
            return self._render(messages, generation_prompt=False)
        except Exception:  # as above
            return ""

    def _ending(self, after: str) -> str:
        """`after` (what the template puts behind an answer) up to its first added token; without one, the eos token."""
        match = self._ends_turn.search(after)
        if match:
            return after[: match.end()]
        return getattr(self._tokenizer, "eos_token", None) or ""

    def _own_start(self) -> str:
        """The bos token, where the tokenizer puts one before plain text by itself."""
        bos = getattr(self._tokenizer, "bos_token", None)
        if not bos:
            return ""
        ids = self._tokenizer("a")["input_ids"]
        return bos if ids and ids[0] == self._tokenizer.bos_token_id else ""


def any_of(names: Iterable[str]) -> re.Pattern[str]:
    """Finds the longest of `names` at the earliest place; nothing where there are none."""
    longest_first = sorted(names, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
