"""What service LLMs answer: their refusals under GenPlat's names, and whole answers that a client
can read. Knows no HTTP client; nothing of an upstream's address or key comes out."""

import json
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from gateway.orchestrator.upstreams import Upstream
from shared.errors import (
    GenPlatError,
    InvalidRequest,
    TooManyRequests,
    Unavailable,
    UpstreamFailed,
)

MAX_SAID = 500
# The request's own fault: another target would say the same.
_REFUSED = {400, 413, 422}
_AWAY = {502, 503, 504, 529}
# How Google says with a 400 that a key is not accepted.
_BAD_KEY = "API_KEY_INVALID"
_LONGEST_WAIT = 86_400.0


def refusal(
    upstream: Upstream, status: int, headers: Mapping[str, str], content: bytes
) -> GenPlatError:
    """The upstream's error under the gateway's own names. What it says of a wrong request is
    passed on; of its own trouble its status is enough."""
    if status in _REFUSED and _BAD_KEY.encode() not in content:
        said, code, param = _said(content)
        return InvalidRequest(f"{upstream.name}: {said}", code=code, param=param)
    if status == 429:
        return TooManyRequests(
            f"{upstream.name} takes no more requests for now.",
            code="upstream_rate_limited",
            retry_after=seconds_to_wait(headers),
        )
    if status in _AWAY:
        return Unavailable(
            f"{upstream.name} is down or overloaded ({status}).",
            code=f"upstream_{status}",
            retry_after=seconds_to_wait(headers),
        )
    # Of 401, 403 and 404 the operator's declaration is the reason, and not the request.
    return UpstreamFailed(f"{upstream.name} answered {status}.", code=f"upstream_{status}")


def _said(content: bytes) -> tuple[str, str | None, str | None]:
    try:
        body = json.loads(content)
        # (Google's compatible endpoint wraps its errors in lists.)
        error = (body[0] if isinstance(body, list) else body)["error"]
        message, code, param = str(error["message"]), error.get("code"), error.get("param")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return "the request was refused.", None, None
    return _clean(message)[:MAX_SAID], _text(code), _text(param)


def _text(value: object) -> str | None:
    return _clean(value)[:100] if isinstance(value, str) else None


def _clean(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def seconds_to_wait(headers: Mapping[str, str]) -> float | None:
    """Of a Retry-After in seconds, or as a date, which is held against the date of the answer:
    clocks differ. Azure's and OpenAI's own header tells milliseconds."""
    exact = _number(headers.get("retry-after-ms", ""))
    if exact is not None:
        return exact / 1000
    told = headers.get("retry-after", "")
    seconds = _number(told)
    if seconds is None and told:
        try:
            then, now = map(parsedate_to_datetime, (told, headers.get("date", "")))
            seconds = (then - now).total_seconds()
        except (ValueError, TypeError, OverflowError):
            return None
    return seconds if seconds is not None and 0 <= seconds <= _LONGEST_WAIT else None


def _number(header: str) -> float | None:
    """A number from 0 up to a day in milliseconds, as headers write it."""
    if len(header) > 12 or not header.isascii():
        return None
    return float(header) if header.replace(".", "", 1).isdecimal() else None


def whole_answer(upstream: Upstream, kind: str, content: bytes) -> dict[str, Any]:
    """An answer in one piece; `UpstreamFailed` where a client could not read it. ``kind``: which
    of OpenAI's two shapes it has."""
    try:
        answer = _JSON.decode(content.decode())
        choices = answer["choices"]
        readable = isinstance(choices, list) and all(_is_readable(one, kind) for one in choices)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _unreadable(upstream) from error
    if not readable or not choices or answer.get("error"):
        raise _unreadable(upstream)
    return dict(answer)


def _is_readable(choice: Any, kind: str) -> bool:
    if kind == "text":
        return isinstance(choice["text"], str)
    return isinstance(choice["message"].get("content"), str | None)


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


_JSON = json.JSONDecoder(parse_constant=_no_number)


def _unreadable(upstream: Upstream) -> UpstreamFailed:
    return UpstreamFailed(
        f"{upstream.name} sent no answer that can be read.", code="upstream_unreadable"
    )
