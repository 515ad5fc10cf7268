"""What a client is told when something is wrong: OpenAI's form, so that its clients raise what they always raise."""

from __future__ import annotations

from typing import Any

from persona_interp.errors import PersonaInterpError

_KINDS = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}


class ApiError(PersonaInterpError):
    """An answer that is an error.

    Args:
        message: what failed, the values, what to do.
        status: of HTTP.
        code: a word programs go by.
        param: the field of the request that is meant.
    """

    def __init__(self, message: str, status: int = 400, *, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.param = status, code, param

    def to_json(self) -> dict[str, Any]:
        """``{"error": {"message", "type", "param", "code"}}``."""
        kind = _KINDS.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}


def api_error(error: BaseException) -> ApiError:
    """Any error as one for clients: ours are the request's fault and say what to do, others are not shown."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, PersonaInterpError):
        return ApiError(str(error))
    return ApiError(f"the server failed to answer ({type(error).__name__}): its log says more", 500, code="internal_error")
