"""A hand-written inference service for tests: speaks the wire, writes text from a script."""

import asyncio
import base64
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from tests.gateway.parts import LONG
from tests.gateway.threaded_server import ThreadedServer

USAGE = {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}
SOURCE = "@startuml\nAlice -> Bob: hello\n@enduml"
DRAWN = {
    "source": SOURCE,
    "rendered": True,
    "attempts": 1,
    "svg": "<svg xmlns='http://www.w3.org/2000/svg'></svg>",
    "png": base64.b64encode(b"\x89PNG fake").decode(),
    "error": None,
}
BROKEN = {
    "source": "@startuml\nnonsense\n@enduml",
    "rendered": False,
    "attempts": 3,
    "svg": None,
    "png": None,
    "error": {"line": 2, "message": "Syntax Error?"},
}


def error(status: int, code: str, **headers: str) -> JSONResponse:
    body = {"error": {"message": f"Said {code}.", "type": "t", "param": None, "code": code}}
    return JSONResponse(body, status_code=status, headers=headers)


def asked_in(body: dict[str, Any]) -> str:
    """The last message, or the prompt."""
    return str(body["messages"][-1]["content"] if "messages" in body else body["prompt"])


def rest_of(words: list[str], body: dict[str, Any]) -> list[str]:
    """The words, or what is left of them behind what was begun."""
    whole, begun = "".join(words), 0
    if "prompt" in body:
        # As much of the prompt's end as is the beginning of the words.
        # (Whoever said it may have said it in other letters.)
        prompt, said = body["prompt"].lower(), whole.lower()
        begun = next(n for n in range(len(said), -1, -1) if prompt.endswith(said[:n]))
    elif body.get("continue_final_message"):
        begun = len(body["messages"][-1]["content"])
    return words if not begun else [rest for rest in [whole[begun:]] if rest]


@dataclass
class FakeInference:
    """What the service holds, and how it is to misbehave, by a model's name."""

    token: str = "the-services-own-token"
    models: dict[str, dict[str, Any]] = field(default_factory=dict)
    words: list[str] = field(default_factory=lambda: ["Hello", " there", "!"])
    # What is said instead, by the request.
    says: Callable[[dict[str, Any]], str] | None = None
    dead: set[str] = field(default_factory=set)
    # What the dead ones answer: as the real service does where its queue is full.
    dies_with: tuple[int, str] = (503, "queue_full")
    # Streams that end, or break, before their first byte; and those that break after a word.
    ends_at_once: set[str] = field(default_factory=set)
    breaks_at_once: set[str] = field(default_factory=set)
    breaks_off: set[str] = field(default_factory=set)
    unprepared: set[str] = field(default_factory=set)
    refuses_to_load: set[str] = field(default_factory=set)
    # Whole answers say what was asked; a request that holds one of these words is refused,
    # or answered with what is no answer.
    echoes: bool = False
    refused_word: str = ""
    garbled_word: str = ""
    drawing: dict[str, Any] = field(default_factory=lambda: DRAWN)
    cannot_draw: str = ""
    no_renderer: bool = False
    seconds_a_word: float = 0.0
    capacity: int = 8
    # Whole answers are held back until so many are being written at once.
    holds_for: int = 0
    asked: list[dict[str, Any]] = field(default_factory=list)
    loads: Counter[str] = field(default_factory=Counter)
    left_early: int = 0
    at_once: int = 0
    most_at_once: int = 0
    server: ThreadedServer | None = None

    @property
    def url(self) -> str:
        assert self.server is not None
        return self.server.url

    def start(self) -> None:
        """Serve; again on the same port where it was stopped."""
        self.server = self.server or ThreadedServer(self.app())
        self.server.start()

    def stop(self) -> None:
        """Go away, and forget what was loaded: so does the real service when it ends."""
        assert self.server is not None
        self.server.stop()
        self.models.clear()

    def app(self) -> FastAPI:
        app = FastAPI()
        app.put("/models/{name:path}")(self.load)
        app.delete("/models/{name:path}")(self.unload)
        app.get("/models")(self.list)
        app.post("/v1/chat/completions")(self.chat)
        app.post("/v1/completions")(self.chat)
        app.post("/likelihood")(self.likelihood)
        app.post("/diagrams")(self.draw)
        app.get("/readyz")(self.readyz)
        return app

    def refusal(self, request: Request, name: str | None = None) -> Response | None:
        if request.headers.get("authorization") != f"Bearer {self.token}":
            return error(401, "invalid_api_key")
        if name in self.dead:
            status, code = self.dies_with
            return error(status, code, **{"retry-after": "7"})
        if name is not None and self.models.get(name, {}).get("state") != "ready":
            return error(404, "model_not_loaded")
        return None

    def readyz(self) -> dict[str, str]:
        return {"status": "ok"} | ({"renderer": self.cannot_draw} if self.cannot_draw else {})

    async def load(self, name: str, request: Request) -> Response:
        ref = await request.json()
        if (refused := self.refusal(request)) is not None:
            return refused
        self.loads[name] += 1
        if ref["base_model"] in self.unprepared:
            return error(404, "model_not_prepared")
        if name in self.refuses_to_load:
            # The real service lists what it could not load.
            failed = {"name": name, "ref": ref, "state": "failed", "error": "Said bad_adapter."}
            self.models[name] = failed
            return error(422, "bad_adapter")
        self.models[name] = {"name": name, "ref": ref, "state": "ready", "precision": "fp32"}
        return JSONResponse(self.models[name])

    async def unload(self, name: str) -> Response:
        if self.models.pop(name, None) is None:
            return error(404, "model_not_loaded")
        return Response(status_code=204)

    async def list(self, request: Request) -> Response:
        held = {"data": list(self.models.values()), "capacity": self.capacity}
        return self.refusal(request) or JSONResponse(held)

    async def draw(self, request: Request) -> Response:
        body = await request.json()
        self.asked.append(body)
        name = body.get("model")
        if (refused := self.refusal(request, name)) is not None:
            return refused
        if self.no_renderer:
            return error(503, "renderer_unavailable")
        return JSONResponse(self.drawing)

    async def likelihood(self, request: Request) -> Response:
        body = await request.json()
        if (refused := self.refusal(request, body["model"])) is not None:
            return refused
        tokens = len(body["answer"].split()) + 1
        return JSONResponse({"log_likelihood": -float(2 * tokens), "tokens": tokens})

    async def chat(self, request: Request) -> Response:
        body = await request.json()
        self.asked.append(body)
        if (refused := self.refusal(request, body["model"])) is not None:
            return refused
        if self.refused_word and self.refused_word in asked_in(body):
            return error(400, "too_long")
        if self.garbled_word and self.garbled_word in asked_in(body):
            return Response("{", media_type="application/json")
        served_as = request.headers["x-genplat-served-as"]
        if body.get("stream"):
            chunks = self.chunks(body, served_as)
            return StreamingResponse(chunks, media_type="text/event-stream")
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await self.until_held()
        for _ in self.words:
            await asyncio.sleep(self.seconds_a_word)
            if await request.is_disconnected():
                self.left_early += 1
                break
        self.at_once -= 1
        return JSONResponse(self.whole(body, served_as))

    async def until_held(self) -> None:
        deadline = time.monotonic() + LONG
        while self.most_at_once < self.holds_for and time.monotonic() < deadline:
            await asyncio.sleep(0.01)

    def whole(self, body: dict[str, Any], served_as: str) -> dict[str, Any]:
        text = "".join(self.words) if self.says is None else self.says(body)
        text = f"to {asked_in(body)}" if self.echoes else text
        message: dict[str, Any] = {"role": "assistant", "content": text}
        if "diagram" in body:
            message |= {"content": self.drawing["source"], "diagram": self.drawing}
        choice = {"index": 0, "finish_reason": "stop", "logprobs": None}
        choice |= {"message": message} if "messages" in body else {"text": message["content"]}
        return self.head(served_as) | {
            "object": "chat.completion" if "messages" in body else "text_completion",
            "choices": [choice],
            "usage": USAGE,
        }

    def head(self, served_as: str) -> dict[str, Any]:
        return {"id": "chatcmpl-1", "created": 1, "model": served_as}

    async def chunks(self, body: dict[str, Any], served_as: str) -> AsyncIterator[bytes]:
        def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
            choice: dict[str, Any] = {"index": 0, "finish_reason": finish}
            if "messages" in body:
                kind, choice["delta"] = "chat.completion.chunk", delta
            else:
                kind, choice["text"] = "text_completion", delta.get("content", "")
            data = self.head(served_as) | {"object": kind, "choices": [choice]}
            return f"data: {json.dumps(data)}\n\n".encode()

        done = False
        try:
            if body["model"] in self.ends_at_once:
                done = True
                return
            if body["model"] in self.breaks_at_once:
                raise ConnectionError("the test wants it so")
            if "diagram" in body:
                yield chunk({"role": "assistant", "draft": {"attempt": 1, "text": "@start"}})
                yield chunk({"content": self.drawing["source"]})
                last = chunk({"diagram": self.drawing}, "stop")
                # A long event comes in pieces.
                yield last[:40]
                await asyncio.sleep(0.02)
                yield last[40:]
            else:
                for word in rest_of(self.words, body):
                    yield chunk({"content": word})
                    await asyncio.sleep(self.seconds_a_word)
                    if body["model"] in self.breaks_off:
                        raise ConnectionError("the test wants it so")
                yield chunk({}, "stop")
            if (body.get("stream_options") or {}).get("include_usage"):
                counted = self.head(served_as) | {"choices": [], "usage": USAGE}
                yield f"data: {json.dumps(counted)}\n\n".encode()
            yield b"data: [DONE]\n\n"
            done = True
        finally:
            self.left_early += not done


@contextmanager
def fake_inference(fake: FakeInference | None = None) -> Iterator[FakeInference]:
    fake = fake or FakeInference()
    fake.start()
    try:
        yield fake
    finally:
        fake.stop()
