"""What every request must pass before a route sees it, and the headers every answer carries.

Plain ASGI middlewares, so that streams flow through. Knows no route and no database.
"""

import asyncio
import logging
import re
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.auth import COOKIE
from gateway.errors import render_error
from shared import request_id as request_ids
from shared.errors import (
    Forbidden,
    GenPlatError,
    InvalidRequest,
    TooLarge,
    Unavailable,
    UnsupportedMedia,
)

log = logging.getLogger(__name__)

HTTP_ERRORS = 400
# Where in the scope lie headers that tell a key's limits (`gateway.api.metering`).
LIMIT_HEADERS = "limit_headers"
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
# Multipart adds boundaries and the form's other fields to the file's own bytes.
UPLOAD_PATHS = ("/api/datasets", "/api/datasets/inspect", "/datasets", "/v1/files", "/batches")
UPLOAD_MARGIN = 256 * 1024
BODY_TYPES = ("application/json", "multipart/form-data")

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
SECURITY_HEADERS = {
    "content-security-policy": CSP,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "cache-control": "no-store",
}


async def _refuse(scope: Scope, receive: Receive, send: Send, error: GenPlatError) -> None:
    answer = render_error(
        error,
        path=scope["path"],
        accept=Headers(scope=scope).get("accept", ""),
        request_id=scope.get("request_id"),
    )
    await answer(scope, receive, send)


class Envelope:
    """Request id in and out, security headers, and the last catch: no traceback gets out."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = request_ids.begin(Headers(scope=scope).get(request_ids.HEADER, ""))
        scope["request_id"] = request_id
        started = False

        async def send_with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                headers[request_ids.HEADER] = request_id
                headers.update(scope.get(LIMIT_HEADERS, {}))
                if scope["path"].startswith("/static/") and message["status"] < HTTP_ERRORS:
                    headers.setdefault("cache-control", _static_caching(scope))
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            await self.app(scope, receive, send_with_headers)
        except asyncio.CancelledError:
            # The server stops, and this took too long to end by itself.
            log.warning("%s %s was broken off by the end.", scope["method"], scope["path"])
            if not started:
                await _refuse(scope, receive, send_with_headers, _stopping())
        except Exception:
            # The route is logged, not the query: it may hold a login token.
            log.exception("%s %s failed.", scope["method"], scope["path"])
            if started:
                raise
            await _refuse(scope, receive, send_with_headers, _internal_error(request_id))


def _static_caching(scope: Scope) -> str:
    """Pages name static files with a hash of their content, which may be kept for ever."""
    hashed = scope["query_string"].startswith(b"v=")
    return "public, max-age=31536000, immutable" if hashed else "no-cache"


def _stopping() -> Unavailable:
    return Unavailable("GenPlat is being stopped. Ask again in a moment.", code="stopping")


def _internal_error(request_id: str) -> GenPlatError:
    return GenPlatError(
        f"Something went wrong here. The gateway's log tells more under {request_id}."
    )


class HostAllowList:
    """Refuses requests for other host names: a page elsewhere may point its own name here."""

    def __init__(self, app: ASGIApp, hosts: tuple[str, ...]) -> None:
        self.app = app
        self.hosts = {host.lower() for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self._allowed(Headers(scope=scope).getlist("host")):
            error = InvalidRequest(
                "This host name is not served here. Add it to GENPLAT_ALLOWED_HOSTS.",
                code="host_not_allowed",
            )
            await _refuse(scope, receive, send, error)
            return
        await self.app(scope, receive, send)

    def _allowed(self, hosts: list[str]) -> bool:
        return len(hosts) == 1 and re.sub(r":\d{1,5}$", "", hosts[0]).lower() in self.hosts


class RequestShape:
    """Refuses what no route here reads: compressed bodies, two lengths, NUL in addresses."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (error := self._problem(scope)) is not None:
            await _refuse(scope, receive, send, error)
            return
        await self.app(scope, receive, send)

    def _problem(self, scope: Scope) -> GenPlatError | None:
        encoding = Headers(scope=scope).get("content-encoding", "identity")
        if encoding.strip().lower() not in ("", "identity"):
            return UnsupportedMedia("Compressed requests are not read: send the body as it is.")
        if {"content-length", "transfer-encoding"} <= set(Headers(scope=scope).keys()):
            # Two lengths: a proxy in front may believe the other one.
            return InvalidRequest("Send either Content-Length or Transfer-Encoding, not both.")
        if "\0" in scope["path"] or b"%00" in scope["query_string"]:
            return InvalidRequest("The address holds a NUL character.")
        return None


class BodyLimit:
    """Refuses bodies over the limit, by their announced length and by what really comes."""

    def __init__(self, app: ASGIApp, max_bytes: int, max_upload_bytes: int) -> None:
        self.app = app
        self.max_bytes = max_bytes
        self.max_upload_bytes = max_upload_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        limit = self._limit(scope)
        announced = Headers(scope=scope).get("content-length", "0")
        if announced.isdecimal() and int(announced[:20]) > limit:
            await _refuse(scope, receive, send, self._error(limit))
            return
        await _Counted(self.app, scope, receive, send, limit, self._error(limit)).run()

    def _limit(self, scope: Scope) -> int:
        if scope["method"] == "POST" and scope["path"] in UPLOAD_PATHS:
            return self.max_upload_bytes + UPLOAD_MARGIN
        return self.max_bytes

    def _error(self, limit: int) -> TooLarge:
        return TooLarge(f"The request is larger than {limit:,} bytes.", code="body_too_large")


class _Counted:
    """One request whose body is counted; where it grows too long, the route's answer is
    replaced, whatever the route made of the error."""

    def __init__(
        self,
        app: ASGIApp,
        scope: Scope,
        receive: Receive,
        send: Send,
        limit: int,
        error: TooLarge,
    ) -> None:
        self.app, self.scope, self.receive, self.send = app, scope, receive, send
        self.limit, self.error = limit, error
        self.count = 0
        self.started = False

    @property
    def exceeded(self) -> bool:
        return self.count > self.limit

    async def run(self) -> None:
        try:
            await self.app(self.scope, self._receive, self._send)
        except Exception:
            if not self.exceeded or self.started:
                raise
        if self.exceeded and not self.started:
            await _refuse(self.scope, self.receive, self.send, self.error)

    async def _receive(self) -> Message:
        message = await self.receive()
        if message["type"] == "http.request":
            self.count += len(message.get("body", b""))
            if self.exceeded:
                raise self.error
        return message

    async def _send(self, message: Message) -> None:
        if self.exceeded and not self.started:
            return
        self.started = True
        await self.send(message)


class SameOrigin:
    """Refuses what another site makes a browser send.

    Requests with a key and no cookie are exempt: no site can make a browser add the key.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (error := self._problem(scope)) is not None:
            await _refuse(scope, receive, send, error)
            return
        await self.app(scope, receive, send)

    def _problem(self, scope: Scope) -> GenPlatError | None:
        headers = Headers(scope=scope)
        has_cookie = COOKIE in headers.get("cookie", "")
        if "authorization" in headers and not has_cookie:
            return None
        site, unsafe = headers.get("sec-fetch-site"), scope["method"] not in SAFE_METHODS
        if not unsafe:
            follows_link = headers.get("sec-fetch-mode") == "navigate"
            return _cross_site() if site == "cross-site" and not follows_link else None
        if site is not None:
            if site not in ("same-origin", "none"):
                return _cross_site()
        elif "origin" in headers:
            if urlsplit(headers["origin"]).netloc != headers.get("host"):
                return _cross_site()
        elif has_cookie:
            return _cross_site()
        return _body_type_problem(scope["path"], headers) if has_cookie else None


def _cross_site() -> Forbidden:
    return Forbidden("This request came from another site.", code="cross_site")


def _body_type_problem(path: str, headers: Headers) -> UnsupportedMedia | None:
    """Forms of other sites can send text/plain that reads as JSON; ours never do."""
    has_body = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
    if not has_body or not path.startswith(("/api/", "/v1/")):
        return None
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    return None if kind in BODY_TYPES else UnsupportedMedia("Send the body as application/json.")
