"""The one name of a request on its whole way: in headers between services, and in every log."""

import re
import secrets
from contextvars import ContextVar

HEADER = "x-request-id"
# What a caller may name it: nothing that could forge a line of a log.
_ACCEPTED = re.compile(r"[A-Za-z0-9._-]{1,64}")

_current: ContextVar[str | None] = ContextVar("request_id", default=None)


def begin(asked: str) -> str:
    """The id of a request that begins in this task: as its caller named it, else a new one."""
    request_id = asked if _ACCEPTED.fullmatch(asked) else f"req_{secrets.token_hex(12)}"
    _current.set(request_id)
    return request_id


def go_on(request_id: str | None) -> None:
    """Work for a request that another service has begun, in this task and those it starts."""
    if request_id is not None and _ACCEPTED.fullmatch(request_id):
        _current.set(request_id)


def current() -> str | None:
    """That of the request that this task, or thread, works for."""
    return _current.get()


def headers() -> dict[str, str]:
    """What another service is told of it."""
    request_id = _current.get()
    return {} if request_id is None else {HEADER: request_id}
