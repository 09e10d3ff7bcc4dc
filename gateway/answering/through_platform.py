"""A model of a GenPlat that runs somewhere, asked through its public REST API alone."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httpx

from gateway.answering.answerer import Answerer, AnswersEnded, Body
from gateway.client import Client, CommandFailed
from gateway.completion_requests import CHAT_PATH
from gateway.inference_client import RETRY_SECONDS, refused
from shared.errors import Unavailable

# The gateway gives up before this, and says so.
_ANSWER_SECONDS = 3600
# What a proxy says, in its own words, while the gateway is being started again.
_AWAY = (502, 503, 504)


@contextlib.asynccontextmanager
async def through_platform(client: Client, model: str) -> AsyncIterator[Answerer]:
    """``model``: whatever chat accepts there, or a run's id."""
    async with httpx.AsyncClient(
        base_url=client.url,
        headers=client.http.headers,
        timeout=httpx.Timeout(_ANSWER_SECONDS, connect=30),
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=64),
        trust_env=False,
    ) as http:
        name = await asyncio.to_thread(_name_of, client, model)
        found = await asyncio.to_thread(_described, client, name)

        async def ask(body: Body) -> Body:
            return await _ask(http, body)

        if found["sha256"] is None and found["loads"]:
            # A base model that is not ready yet is made ready by its first request.
            nobody = Answerer(name, "", 1, ask)
            hello = [{"role": "user", "content": "Hello"}]
            await nobody.answer({"messages": hello, "max_tokens": 1})
            found = await asyncio.to_thread(_described, client, name)
        yield Answerer(name, found["sha256"] or "", found["capacity"], ask)


def _name_of(client: Client, model: str) -> str:
    if not model.startswith("run_"):
        return model
    run = client.ask("GET", f"/api/runs/{model}")
    if run["fine_tuned_model"] is None or run["status"] != "succeeded":
        raise CommandFailed(f"model: the run {model} is {run['status']}: it has made no model.")
    return str(run["fine_tuned_model"])


def _described(client: Client, name: str) -> dict[str, Any]:
    return client.ask("GET", "/api/answering", params={"model": name})


async def _ask(http: httpx.AsyncClient, body: Body) -> Body:
    try:
        response = await http.post(CHAT_PATH, json=body)
    except httpx.HTTPError as error:
        # It may be being started again.
        raise Unavailable(
            f"{http.base_url} cannot be reached ({type(error).__name__}).",
            retry_after=RETRY_SECONDS,
        ) from error
    if response.is_success:
        answer: Body = response.json()
        return answer
    if response.status_code in (401, 403):
        raise AnswersEnded(refused(response).message)
    if response.status_code in _AWAY and "json" not in response.headers.get("content-type", ""):
        raise Unavailable(f"{http.base_url} answered {response.status_code}.")
    raise refused(response)
