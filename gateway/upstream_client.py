"""Service LLMs over HTTP: the only module that speaks to them. Knows no database.

What goes wrong comes out as GenPlat's named errors; nothing of an upstream's address or key does.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.request import getproxies, proxy_bypass

import aiohttp
import httpx
from yarl import URL

from gateway.completion_requests import kind_of_path
from gateway.orchestrator.upstreams import Upstream, key_of, missing_key
from gateway.request_log.entries import LOG_HEADER
from gateway.upstream_answers import refusal, whole_answer
from shared import request_id
from shared.errors import TimedOut, Unavailable, UpstreamFailed

MAX_ANSWER_BYTES = 32 * 1024 * 1024
# Service LLMs and what stands before them close idle connections after a minute or more.
KEPT_SECONDS = 30.0
# GenPlat's own fields, which other services would not know; and those that may be nothing but 0
# here, which changes nothing, and which Google refuses.
_NOT_SENT = (
    "diagram", "top_k", "continue_final_message", "frequency_penalty", "presence_penalty",
)  # fmt: skip


@dataclass
class UpstreamStream:
    """An answer that is still coming, up to the moment ``until`` by which something must have been
    said; whoever holds it closes it."""

    upstream: Upstream
    response: aiohttp.ClientResponse
    until: float

    async def chunks(self) -> AsyncIterator[bytes]:
        """Bytes as they come. `TimedOut` after too long a silence."""
        read = self.response.content.readany
        while True:
            with _named_errors(self.upstream):
                async with asyncio.timeout_at(self.until):
                    piece = await read()
            if not piece:
                return
            yield piece

    def heard(self) -> None:
        """Something was said: bytes alone may be comments that keep a connection up."""
        self.until = asyncio.get_running_loop().time() + self.upstream.stall_seconds

    async def aclose(self) -> None:
        self.response.close()


class UpstreamClient:
    """Calls of the declared upstreams. Keys are read from the environment when they are used, and
    go nowhere but to their upstream."""

    def __init__(
        self, upstreams: Mapping[str, Upstream], environment: Mapping[str, str] = os.environ
    ) -> None:
        self.upstreams = dict(upstreams)
        self._environment = environment
        self._lines: dict[tuple[str, str], _Line] = {}

    @cached_property
    def _session(self) -> aiohttp.ClientSession:
        # aiohttp takes a fifth of httpx's time for a request, and every request to a service LLM
        # passes here. It may be made on an event loop only.
        return aiohttp.ClientSession(
            # Of certificates httpx knows where they lie, and what the environment says of them.
            connector=aiohttp.TCPConnector(
                limit=0, ssl=httpx.create_ssl_context(), keepalive_timeout=KEPT_SECONDS
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            # Compressed streams would come in lumps, and cannot be passed on as they are.
            headers={"accept-encoding": "identity", "user-agent": "GenPlat"},
            auto_decompress=False,
        )

    async def close(self) -> None:
        if "_session" in self.__dict__:
            await self._session.close()

    def problem(self, upstream: Upstream) -> str | None:
        return missing_key(upstream, self._environment)

    async def complete(self, upstream: Upstream, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """The whole answer. ``path`` as GenPlat names it: ``/v1/chat/completions``."""
        with _named_errors(upstream):
            async with asyncio.timeout(upstream.timeout_seconds):
                response = await self._accepted(upstream, path, body)
                try:
                    content = await _read(upstream, response)
                finally:
                    response.close()
        return whole_answer(upstream, kind_of_path(path), content)

    async def stream(self, upstream: Upstream, path: str, body: dict[str, Any]) -> UpstreamStream:
        """The same, as it is being written; returns when the upstream has accepted it."""
        until = asyncio.get_running_loop().time() + upstream.first_token_seconds
        with _named_errors(upstream):
            async with asyncio.timeout_at(until):
                return UpstreamStream(upstream, await self._accepted(upstream, path, body), until)

    async def _accepted(
        self, upstream: Upstream, path: str, body: dict[str, Any]
    ) -> aiohttp.ClientResponse:
        """An answer whose body is still to come; a named error where it is a refusal."""
        if (problem := self.problem(upstream)) is not None:
            raise Unavailable(problem, code="upstream_without_key")
        line = self._line(upstream, path)
        response = await self._session.post(
            line.url,
            data=json.dumps(_sent(upstream, body)).encode(),
            headers=self._headers(upstream) | _log_header(body),
            timeout=line.timeout,
            proxy=line.proxy,
            # A redirect could carry the key elsewhere.
            allow_redirects=False,
        )
        if 200 <= response.status < 300:
            return response
        try:
            content = await _read(upstream, response)
        finally:
            response.close()
        raise refusal(upstream, response.status, response.headers, content)

    def _line(self, upstream: Upstream, path: str) -> "_Line":
        found = self._lines.get((upstream.name, path))
        if found is None:
            url = URL(upstream.base_url + path.removeprefix("/v1")).with_query(upstream.query)
            patience = aiohttp.ClientTimeout(total=None, sock_connect=upstream.connect_seconds)
            found = _Line(url, patience, _proxy_of(url))
            self._lines[upstream.name, path] = found
        return found

    def _headers(self, upstream: Upstream) -> dict[str, str]:
        headers = {"content-type": "application/json"} | request_id.headers()
        if upstream.api_key_env is None:
            return headers
        key = key_of(upstream, self._environment)
        value = f"Bearer {key}" if upstream.key_header == "authorization" else key
        return headers | {upstream.key_header: value}


@dataclass(frozen=True)
class _Line:
    """How one path of an upstream is reached."""

    url: URL
    timeout: aiohttp.ClientTimeout
    proxy: str | None


def _log_header(body: dict[str, Any]) -> dict[str, str]:
    """Another GenPlat keeps no words either of a request that is not to be stored."""
    return {LOG_HEADER: "metadata"} if body.get("store") is False else {}


def _proxy_of(url: URL) -> str | None:
    """The proxy that the environment names for an address."""
    if url.host is None or proxy_bypass(url.host):
        return None
    proxies = getproxies()
    return proxies.get(url.scheme) or proxies.get("all")


def _sent(upstream: Upstream, body: dict[str, Any]) -> dict[str, Any]:
    """A request's body as the upstream knows it."""
    sent = {key: value for key, value in body.items() if key not in _NOT_SENT}
    if not sent.get("store"):
        # Here they concern our log. OpenAI takes metadata for what it shall store alone, and Google
        # knows neither.
        sent.pop("store", None)
        sent.pop("metadata", None)
    if upstream.continues and "continue_final_message" in body:
        sent["continue_final_message"] = body["continue_final_message"]
        # (vLLM refuses both at once.)
        sent["add_generation_prompt"] = False
    return sent | {"model": upstream.model}


async def _read(upstream: Upstream, response: aiohttp.ClientResponse) -> bytes:
    content = bytearray()
    while piece := await response.content.readany():
        content += piece
        if len(content) > MAX_ANSWER_BYTES:
            raise UpstreamFailed(
                f"{upstream.name} sent an answer without an end.", code="upstream_too_long"
            )
    return bytes(content)


@contextmanager
def _named_errors(upstream: Upstream) -> Iterator[None]:
    """What goes wrong on the way, as what GenPlat calls it."""
    try:
        yield
    except TimeoutError as error:
        raise TimedOut(
            f"{upstream.name} did not answer in time.", code="upstream_timeout"
        ) from error
    except aiohttp.ClientConnectorError as error:
        raise Unavailable(
            f"{upstream.name} cannot be reached.", code="upstream_unreachable"
        ) from error
    except aiohttp.ClientError as error:
        raise UpstreamFailed(f"{upstream.name} broke off.", code="upstream_cut") from error
