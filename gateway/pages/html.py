"""A rendered template as an answer, and errors beside the fields that they are about."""

from collections.abc import Collection
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse, RedirectResponse
from pydantic import ValidationError

from gateway.request_log.entries import Origin
from shared.errors import GenPlatError
from ui.form_errors import field_errors
from ui.rendering import render, render_block

UNPROCESSABLE = 422


def page(template: str, *, status: int = 200, **context: Any) -> HTMLResponse:
    return HTMLResponse(render(template, **context), status_code=status)


def fragment(template: str, block: str, **context: Any) -> HTMLResponse:
    return HTMLResponse(render_block(template, block, **context))


def see_other(path: str) -> RedirectResponse:
    """After a change: the browser goes on with GET, so that a reload repeats nothing."""
    return RedirectResponse(path, status_code=303)


def base_url(request: Request) -> str:
    """Where this gateway is seen from; the host is one of the allowed ones."""
    return str(request.base_url).rstrip("/")


def problems(error: GenPlatError | ValidationError, fields: Collection[str]) -> dict[str, Any]:
    """``error`` for the whole form and ``errors`` by field, for a form that is shown again."""
    if isinstance(error, GenPlatError):
        field = (error.param or "").partition(".")[0]
        found = {field: error.message}
    else:
        found = field_errors(error)
    errors = {name: text for name, text in found.items() if name in fields}
    rest = [text for name, text in found.items() if name not in fields]
    return {"error": " ".join(rest) or None, "errors": errors}


def no_problems() -> dict[str, Any]:
    return {"error": None, "errors": {}}


def page_origin(request: Request) -> Origin:
    """What is asked in a browser."""
    return Origin(
        client=request.client.host if request.client is not None else None,
        request_id=request.scope.get("request_id"),
    )
