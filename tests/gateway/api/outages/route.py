"""What tests of a route over a dying service LLM do again and again."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
from openai import OpenAI

from tests.gateway.api.live import Live
from tests.gateway.conftest import ADMIN_KEY

MESSAGES: Any = [{"role": "user", "content": "Tell me."}]


def close_breaker(live: Live) -> None:
    live.services.breakers.of("upstream/service").close()


class _Listening(httpx.SyncByteStream):
    def __init__(self, stream: httpx.SyncByteStream, heard: bytearray) -> None:
        self.stream, self.heard = stream, heard

    def __iter__(self) -> Iterator[bytes]:
        for piece in self.stream:
            self.heard += piece
            yield piece

    def close(self) -> None:
        self.stream.close()


class _Wire(httpx.HTTPTransport):
    """Keeps what the client beyond it was sent."""

    def __init__(self) -> None:
        super().__init__()
        self.heard = bytearray()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        answer = super().handle_request(request)
        assert isinstance(answer.stream, httpx.SyncByteStream)
        answer.stream = _Listening(answer.stream, self.heard)
        return answer


@dataclass
class Heard:
    """What the unmodified client made of a stream, and the bytes that it was made of."""

    text: str = ""
    ends: list[str] = field(default_factory=list)
    heads: set[tuple[str, int, str]] = field(default_factory=set)
    roles: int = 0
    usages: int = 0
    raw: bytes = b""


def heard(live: Live, kind: str = "chat", *, usage: bool = False, **more: Any) -> Heard:
    """A streamed answer of the route to a ``chat``, or to a ``text``."""
    found, wire = Heard(), _Wire()
    asked = {"model": "best", "stream": True} | more
    if usage:
        asked["stream_options"] = {"include_usage": True}
    http = httpx.Client(transport=wire, timeout=20)
    with OpenAI(
        base_url=f"{live.url}/v1", api_key=ADMIN_KEY, max_retries=0, http_client=http
    ) as client:
        chunks: Any
        if kind == "chat":
            chunks = client.chat.completions.create(messages=MESSAGES, **asked)
        else:
            chunks = client.completions.create(prompt="Tell me. ", **asked)
        for chunk in chunks:
            found.heads.add((chunk.id, chunk.created, chunk.model))
            found.usages += chunk.usage is not None
            for choice in chunk.choices:
                said = choice.delta.content if kind == "chat" else choice.text
                found.text += said or ""
                found.roles += kind == "chat" and choice.delta.role is not None
                if choice.finish_reason:
                    found.ends.append(choice.finish_reason)
    found.raw = bytes(wire.heard)
    return found
