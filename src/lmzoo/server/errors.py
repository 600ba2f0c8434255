"""Errors in the form of OpenAI's API: a status, and a JSON object with message, type, param and code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from lmzoo.errors import LmzooError, TokenizerError, UnknownNameError, UsageError
from lmzoo.server.schemas import UNSUPPORTED

_TYPES = {401: "authentication_error", 429: "rate_limit_error"}
_PROMPT_FORMS = "prompt must be a string, a list of strings, a list of token ids, or a list of lists of token ids"

_UNREADABLE_JSON = (
    "the request cannot be read as JSON: send UTF-8 text, without deep nesting and without numbers of thousands of "
    "digits"
)


class ApiError(LmzooError):
    """An error that is answered with an HTTP status."""

    def __init__(
        self,
        message: str,
        status: int = 400,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.param, self.code, self.headers = status, param, code, headers

    @property
    def body(self) -> dict[str, Any]:
        """The JSON object that describes the error."""
        return error_body(str(self), self.status, self.param, self.code)


def too_busy() -> ApiError:
    """Returns the error for a request that arrives when too many are waiting already."""
    return ApiError(
        "too many requests are waiting for this model: try again in a second", 429, code="queue_full",
        headers={"Retry-After": "1"},
    )  # fmt: skip


def too_large(n_bytes: int) -> ApiError:
    """Returns the error for a request that has more than the `n_bytes` bytes that are allowed."""
    return ApiError(f"the request has more than {n_bytes:,} bytes: split it into several requests", 413)


def as_api_error(error: Exception) -> ApiError:
    """Returns the answer to a request that failed with an exception."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, UnknownNameError) and error.kind == "model":
        return ApiError(str(error), 404, param="model", code="model_not_found")
    if isinstance(error, UsageError | TokenizerError):  # such as a text that is not valid Unicode
        return ApiError(str(error))
    if isinstance(error, LmzooError):  # for example a damaged file of a model
        return ApiError(str(error), 500)
    return ApiError("the server has failed to answer this request", 500)


def error_body(message: str, status: int, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """Returns the JSON object of an error."""
    kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    message = message.encode("utf-8", "backslashreplace").decode()
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def add_error_handlers(app: FastAPI) -> None:
    """Gives all errors of an application the form of OpenAI's API."""

    def answer(error: ApiError) -> JSONResponse:
        return JSONResponse(error.body, error.status, headers=error.headers)

    @app.exception_handler(LmzooError)
    async def failed(request: Request, error: LmzooError) -> JSONResponse:
        return answer(as_api_error(error))

    @app.exception_handler(Exception)
    async def broken(request: Request, error: Exception) -> JSONResponse:
        return answer(as_api_error(error))

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> JSONResponse:
        if error.status_code == 400:
            return answer(_unreadable(request) or ApiError(_UNREADABLE_JSON))
        if error.status_code == 413:
            return answer(too_large(request.app.state.service.limits.body_bytes))
        message = f"{request.method} {request.url.path}: {error.detail}"
        return answer(ApiError(message, error.status_code, headers=error.headers))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return answer(_unreadable(request) or _validation_error(error.errors()))


def _unreadable(request: Request) -> ApiError | None:
    """Returns the error for a request whose headers say that its body is compressed or not JSON; None for others."""
    encoding, kind = (request.headers.get(name, "") for name in ("content-encoding", "content-type"))
    if encoding and encoding != "identity":
        return ApiError(f"the request has Content-Encoding {encoding[:20]}: send it without compression", 415)
    if request.method == "POST" and "json" not in kind.lower():
        return ApiError("send the request as JSON, with the header 'Content-Type: application/json'", 415)
    return None


def _validation_error(problems: Sequence[Mapping[str, Any]]) -> ApiError:
    """Returns the error for a request whose JSON is not valid, from the problems that pydantic lists."""
    problem = problems[0]
    path = [part for part in problem["loc"] if part not in ("body", "query", "path")]
    if problem["type"] == "json_invalid":
        return ApiError(f"the request is not valid JSON: {problem['ctx']['error']}")
    if problem["type"] == UNSUPPORTED:
        return ApiError(problem["msg"], param=problem["ctx"]["name"], code=UNSUPPORTED)
    if not path:
        return ApiError(f"the request must be a JSON object: {problem['msg']}")
    param = str(path[0])
    if param == "prompt" and len(path) > 1:  # none of several forms
        return ApiError(_PROMPT_FORMS, param=param)
    message = problem["msg"].removeprefix("Value error, ")
    return ApiError(f"{'.'.join(map(str, path))}: {message[:1].lower()}{message[1:]}", param=param)
