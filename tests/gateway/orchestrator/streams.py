"""What tests of streamed answers are made of."""

import json
from typing import Any

from hypothesis import strategies as st
from openai._streaming import SSEDecoder

from gateway.orchestrator.answer_reader import DONE, AnswerReader
from gateway.orchestrator.transcript import Said


def event(delta: dict[str, Any], finish: str | None = None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    body = {"id": "chatcmpl-a", "created": 7, "model": "m", "choices": [choice]} | more
    return b"data: " + json.dumps(body).encode() + b"\n\n"


def stream(*words: str) -> bytes:
    parts = [event({"role": "assistant", "content": ""})]
    parts += [event({"content": word}) for word in words]
    return b"".join([*parts, event({}, "stop"), DONE])


TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)


GOOD = event({"content": "fine"})


def read(raw: bytes, kind: str = "chat") -> tuple[AnswerReader, bytes, Said]:
    """What a reader makes of a stream, what it passes on, and what was said."""
    reader, said = AnswerReader(kind), Said(kind)
    piece = reader.add(raw)
    said.hear(piece.events)
    return reader, piece.raw, said


def as_the_client_reads(raw: bytes) -> list[dict[str, Any]]:
    """The events that OpenAI's client makes of bytes."""
    found = [event.data for event in SSEDecoder().iter_bytes(iter([raw]))]
    return [json.loads(data) for data in found if not data.startswith("[DONE]")]
