"""What requests may say: OpenAI's fields, and ours beside them. Fields that nobody here knows are passed over, as others do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from persona_interp.models.sampling import Sampling
from persona_interp.serving.errors import ApiError

MOST_CHOICES = 16
MOST_STOPS = 16
MOST_PERSONAS = 8
_Request = TypeVar("_Request", bound=BaseModel)
_REFUSED = {
    "tools": "tools", "functions": "functions", "audio": "audio", "echo": "echo", "suffix": "suffix",
    "presence_penalty": "penalties but repetition_penalty", "frequency_penalty": "penalties but repetition_penalty",
}  # fmt: skip
"""Fields that would change the answer and cannot be honoured, and what they are."""


class PersonaField(BaseModel):
    """A persona as a request asks for it.

    Attributes:
        name: of a persona the server knows.
        coefficient: multiplies the vector as it is; for ``ablate``, ``clamp`` and ``cap`` a share from 0 to 1.
        ratio: in its place, of the mean residual norm.
        layers: 0-based blocks, or ``all``; left out: the one the vector steers best at.
        operation: of `interventions.operations`.
        positions: tokens that are written to.
        range: of ``cap``: the projections to keep within, null for no bound.
        projection: of ``clamp``: the one to bring to.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    name: str = Field(min_length=1, max_length=100)
    coefficient: float | None = Field(None, ge=-1e6, le=1e6)
    ratio: float | None = Field(None, ge=-100, le=100)
    layers: int | list[int] | Literal["all"] | None = None
    operation: str = "add"
    positions: Literal["all", "prompt", "response"] = "all"
    range: tuple[float | None, float | None] | None = None
    projection: float | None = None


class MonitorField(BaseModel):
    """Projections to be read while answering.

    Attributes:
        personas: whose directions.
        per: a mean for the turn, or every token too.
        layer: 0-based; left out: the one each vector steers best at.
    """

    model_config = ConfigDict(extra="forbid")

    personas: list[str] = Field(min_length=1, max_length=MOST_PERSONAS)
    per: Literal["turn", "token"] = "turn"
    layer: int | None = None


class StreamOptions(BaseModel):
    """Of OpenAI."""

    include_usage: bool = False


class GenerationRequest(BaseModel):
    """What both ways of asking share."""

    model_config = ConfigDict(allow_inf_nan=False)

    model: str = Field(min_length=1, max_length=2000)
    n: int = Field(1, ge=1, le=MOST_CHOICES)
    temperature: float = Field(1.0, ge=0, le=100)
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int | None = Field(None, ge=-1)
    repetition_penalty: float = Field(1.0, gt=0, le=100)
    seed: int | None = None
    stop: list[str] = Field(default=[], max_length=MOST_STOPS)
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()
    logit_bias: dict[int, float] = Field(default={}, max_length=4096)
    max_tokens: int | None = Field(None, ge=1)
    persona: list[PersonaField] = Field(default=[], max_length=MOST_PERSONAS)
    monitor: MonitorField | None = None

    @model_validator(mode="before")
    @classmethod
    def _as_others_do(cls, data: Any) -> Any:
        """Null is as good as nothing; what cannot be honoured is refused."""
        if not isinstance(data, Mapping):
            raise ValueError("the request is no JSON object")
        given = {str(name): value for name, value in data.items() if value is not None}
        for name, what in _REFUSED.items():
            if given.get(name):
                raise ValueError(f"this server has no {what}: leave {name} out")
        form = given.get("response_format")
        if isinstance(form, Mapping) and form.get("type", "text") != "text":
            raise ValueError("this server answers in text only: leave response_format out")
        return given

    @field_validator("stop", "persona", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return value if isinstance(value, list) else [value]

    @field_validator("stop")
    @classmethod
    def _not_empty(cls, value: list[str]) -> list[str]:
        if "" in value:
            raise ValueError("an empty text stops every answer before it begins")
        return value

    @field_validator("monitor", mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:
        return {"personas": [value] if isinstance(value, str) else value} if isinstance(value, list | str) else value

    @field_validator("logit_bias")
    @classmethod
    def _biases(cls, value: dict[int, float]) -> dict[int, float]:
        if wrong := next((bias for bias in value.values() if abs(bias) > 100), None):
            raise ValueError(f"a bias is {wrong}: give -100 to 100")
        return value

    def sampling(self, max_new_tokens: int) -> Sampling:
        """How the answer is drawn."""
        return Sampling(
            max_new_tokens,
            self.temperature,
            self.top_p,
            self.top_k if self.top_k and self.top_k > 0 else None,
            self.repetition_penalty,
            self.logit_bias,
        )


class ChatRequest(GenerationRequest):
    """``/v1/chat/completions``."""

    messages: list[dict[str, Any]] = Field(min_length=1, max_length=10_000)
    logprobs: bool = False
    top_logprobs: int = Field(0, ge=0, le=20)
    max_completion_tokens: int | None = Field(None, ge=1)

    @property
    def n_top(self) -> int | None:
        """Likeliest tokens to be told; None: no chances at all."""
        return self.top_logprobs if self.logprobs else None


class CompletionRequest(GenerationRequest):
    """``/v1/completions``."""

    prompt: str | list[int] | list[str] | list[list[int]]
    logprobs: int | None = Field(None, ge=0, le=20)

    @property
    def n_top(self) -> int | None:
        """Likeliest tokens to be told; None: no chances at all."""
        return self.logprobs

    @property
    def prompts(self) -> list[str | list[int]]:
        """Each of them."""
        if isinstance(self.prompt, str) or (self.prompt and isinstance(self.prompt[0], int)):
            return [self.prompt]  # pyright: ignore[reportReturnType]
        return list(self.prompt)  # pyright: ignore[reportReturnType]


def read_request(kind: type[_Request], data: Any) -> _Request:
    """A request out of JSON.

    Raises:
        ApiError: names the first field that is wrong, and how.
    """
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        param = ".".join(str(part) for part in first["loc"]) or None
        words = first["msg"].removeprefix("Value error, ")
        raise ApiError(f"{param}: {words}" if param else words, code="invalid_value", param=param) from None
