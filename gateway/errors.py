"""Every error of the gateway as one JSON shape, or as a page for a browser."""

import errno
import logging
import math
import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from pydantic import BaseModel, Field
from sqlalchemy.exc import DataError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnectionFree
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from shared.errors import (
    GenPlatError,
    InvalidData,
    InvalidRequest,
    NotFound,
    StorageFull,
    TooLarge,
    Unauthorized,
    Unavailable,
)
from ui.rendering import error_page

log = logging.getLogger(__name__)

_MACHINE_PATHS = ("/api/", "/v1/", "/static/")
_MACHINE_NAMES = ("/api", "/v1", "/livez", "/readyz", "/metrics", "/openapi.json")
# How pydantic names the member of a union that a value was held against, behind the field: not for
# readers.
_MEMBER = re.compile(r"(constrained|function)-.*|[a-z]*\[.*\]|int|float|bool|str")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class ErrorPublic(BaseModel):
    """What went wrong: a sentence, the field at fault, and a code for machines."""

    message: str
    type: str
    param: str | None
    code: str
    details: list[dict[str, Any]] = Field(
        default=[], description="Places in a file: line, column, message."
    )


class ErrorAnswer(BaseModel):
    """The shape of every error."""

    error: ErrorPublic


class LoginRequired(Exception):
    """A page was asked for by nobody that we know."""


class MethodNotAllowed(GenPlatError):
    status, code, type = 405, "method_not_allowed", "invalid_request_error"


def install_error_handlers(app: FastAPI) -> None:
    app.add_exception_handler(GenPlatError, _answer)
    app.add_exception_handler(LoginRequired, _to_login)
    app.add_exception_handler(RequestValidationError, _answer_validation)
    app.add_exception_handler(HTTPException, _answer_http)
    app.add_exception_handler(ClientDisconnect, _answer_nobody)
    app.add_exception_handler(OSError, _answer_os)
    app.add_exception_handler(OperationalError, _answer_database)
    app.add_exception_handler(NoConnectionFree, _answer_database)
    app.add_exception_handler(DataError, _answer_database)


def is_page(path: str) -> bool:
    """Whether people look at this path in a browser."""
    return not (path.startswith(_MACHINE_PATHS) or path in _MACHINE_NAMES)


def render_error(
    error: GenPlatError, *, path: str, accept: str = "", request_id: str | None = None
) -> Response:
    """An error's answer, in the form that its reader understands."""
    headers = {}
    if error.retry_after is not None:
        # (Whole seconds: rounded down it would be too soon.)
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = "Bearer"
    if is_page(path) and "application/json" not in accept:
        html = error_page(status=error.status, message=error.message, request_id=request_id)
        return HTMLResponse(html, status_code=error.status, headers=headers)
    return JSONResponse(error.body(), status_code=error.status, headers=headers)


def _render(request: Request, error: GenPlatError) -> Response:
    return render_error(
        error,
        path=request.url.path,
        accept=request.headers.get("accept", ""),
        request_id=request.scope.get("request_id"),
    )


async def _answer(request: Request, error: Exception) -> Response:
    assert isinstance(error, GenPlatError)  # noqa: S101 - registered for this class
    return _render(request, error)


async def _to_login(request: Request, _error: Exception) -> Response:
    target = "/login"
    if request.method == "GET" and request.url.path != "/":
        query = f"?{request.url.query}" if request.url.query else ""
        target += f"?next={quote(request.url.path + query, safe='')}"
    if "hx-request" in request.headers:
        # A redirect would be followed in the background and swapped into a corner of the page.
        return Response(status_code=401, headers={"HX-Redirect": "/login"})
    return RedirectResponse(target, status_code=303)


async def _answer_validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for this class
    message, param = describe_validation(error.errors())
    kind = InvalidRequest if request.url.path.startswith("/v1/") else InvalidData
    return _render(request, kind(message, code="invalid_request", param=param))


def describe_validation(errors: Sequence[Any]) -> tuple[str, str | None]:
    """A sentence for the first of pydantic's errors, and the field at fault. What was sent is
    not repeated: it may be long, secret, or no text at all."""
    first = errors[0]
    location = [str(part) for part in first["loc"]]
    if location and location[0] in ("body", "query", "path", "header", "cookie"):
        location = location[1:]
    param = _clean(".".join(part for part in location if not _MEMBER.fullmatch(part))) or None
    said = _clean(str(first["msg"])).removeprefix("Value error, ")
    if first["type"] == "json_invalid":
        return "The body is not valid JSON.", None
    return (f"{param}: {said}." if param else f"{said}."), param


def _clean(text: str) -> str:
    return text.encode("utf-8", "replace").decode()[:200]


async def _answer_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this class
    named: GenPlatError
    match error.status_code:
        case 404:
            named = NotFound("There is nothing at this address.")
        case 405:
            named = MethodNotAllowed(f"{request.method} is not possible here.")
        case 413:
            named = TooLarge("The request is too large.")
        case status if status < 500:
            named = InvalidRequest("The request could not be understood.")
        case _:
            named = Unavailable("The service cannot answer at the moment.")
    answer = _render(request, named)
    for name, value in (error.headers or {}).items():
        answer.headers[name] = value
    return answer


async def _answer_nobody(request: Request, _error: Exception) -> Response:
    log.info("%s %s broke off before its end.", request.method, request.url.path)
    return _render(request, InvalidRequest("The request broke off before its end."))


async def _answer_os(request: Request, error: Exception) -> Response:
    assert isinstance(error, OSError)  # noqa: S101 - registered for this class
    if error.errno not in _FULL:
        raise error
    log.error("The disk is full: %s", error)
    return _render(request, disk_full())


def disk_full() -> StorageFull:
    return StorageFull("The disk is full. Free some space in the data folder and try again.")


async def _answer_database(request: Request, error: Exception) -> Response:
    if isinstance(error, DataError):
        return _render(request, InvalidRequest("The request holds text that cannot be stored."))
    log.error("The database did not answer: %s", getattr(error, "orig", error))
    if "full" in str(getattr(error, "orig", "")):
        return _render(request, disk_full())
    return _render(
        request, Unavailable("The database is busy. Try again in a moment.", retry_after=2)
    )
