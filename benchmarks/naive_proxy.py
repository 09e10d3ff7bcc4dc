"""The proxy that everybody writes first: FastAPI and httpx, no keys, no limits, no log.

UPSTREAM=http://127.0.0.1:9000/v1 python -m uvicorn benchmarks.naive_proxy:app
"""

import os
from collections.abc import AsyncIterator
from typing import Any

import httpx
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

app = FastAPI()
client = httpx.AsyncClient(timeout=60, limits=httpx.Limits(max_connections=None))


@app.get("/livez")
async def livez() -> dict[str, str]:
    return {"status": "ok"}


@app.post("/v1/chat/completions")
async def chat(request: Request) -> Response:
    body: dict[str, Any] = await request.json()
    url = f"{os.environ['UPSTREAM']}/chat/completions"
    if not body.get("stream"):
        answer = await client.post(url, json=body)
        return JSONResponse(answer.json(), status_code=answer.status_code)

    async def lines() -> AsyncIterator[bytes]:
        async with client.stream("POST", url, json=body) as answer:
            async for chunk in answer.aiter_bytes():
                yield chunk

    return StreamingResponse(lines(), media_type="text/event-stream")
