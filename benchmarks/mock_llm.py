"""A service LLM that costs next to nothing: fixed answers over a hand-written HTTP/1.1.

python -m benchmarks.mock_llm PORT
"""

import asyncio
import json
import sys

CHUNKS = 128
_HEAD = {"id": "chatcmpl-mock", "created": 1, "model": "mock"}


def _answer() -> bytes:
    message = {"role": "assistant", "content": "Hello there, this is an answer of some words."}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    usage = {"prompt_tokens": 12, "completion_tokens": 11, "total_tokens": 23}
    body = _HEAD | {"object": "chat.completion", "choices": [choice], "usage": usage}
    raw = json.dumps(body).encode()
    head = (
        f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(raw)}\r\n\r\n"
    )
    return head.encode() + raw


def _events() -> list[bytes]:
    """Each as a chunk of HTTP's own."""
    events = []
    for place in range(CHUNKS):
        delta = {"content": f"word{place} "} if place else {"role": "assistant", "content": ""}
        finish = "stop" if place == CHUNKS - 1 else None
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        body = _HEAD | {"object": "chat.completion.chunk", "choices": [choice]}
        events.append(b"data: " + json.dumps(body).encode() + b"\n\n")
    events.append(b"data: [DONE]\n\n")
    return [b"%x\r\n%s\r\n" % (len(event), event) for event in events]


ANSWER, EVENTS = _answer(), _events()
_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            length = 0
            for line in head.lower().split(b"\r\n"):
                if line.startswith(b"content-length:"):
                    length = int(line.partition(b":")[2])
            body = await reader.readexactly(length)
            if b'"stream":true' not in body.replace(b" ", b""):
                writer.write(ANSWER)
                await writer.drain()
                continue
            writer.write(_STREAM_HEAD)
            for event in EVENTS:
                writer.write(event)
                await writer.drain()
                # Each leaves by itself, as it does where words are written one after another.
                await asyncio.sleep(0)
            writer.write(b"0\r\n\r\n")
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def main(port: int) -> None:
    server = await asyncio.start_server(_serve, "127.0.0.1", port)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
