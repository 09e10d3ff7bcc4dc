"""Limits of keys over HTTP: headers, refusals, and what an answer really cost."""

from collections.abc import AsyncGenerator, Iterator
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest
from redis.asyncio import Redis
from starlette.requests import Request

from gateway.api.metering import Meter
from gateway.closing import Stream
from gateway.rate_limits import Quota, RateLimits
from gateway.settings import GatewaySettings
from shared.model_library import BUNDLED_MODEL
from tests.gateway.api.live import CHAT, Live, live_gateway
from tests.gateway.parts import asynchronous, until_true
from tests.valkey import Valkey

MESSAGES = [{"role": "user", "content": "Hi"}]


@pytest.fixture
def live(settings: GatewaySettings) -> Iterator[Live]:
    with live_gateway(settings) as live:
        yield live


def make_key(live: Live, **limits: object) -> dict[str, str]:
    made = live.http.post("/api/keys", json={"name": "n", "scopes": ["infer"]} | limits)
    assert made.status_code == 201, made.text
    return {"Authorization": f"Bearer {made.json()['key']}"}


def remaining(live: Live, headers: dict[str, str], **changes: object) -> int:
    body = CHAT | {"model": BUNDLED_MODEL, "max_tokens": 100} | changes
    answer = live.http.post("/v1/chat/completions", json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    return int(answer.headers["x-ratelimit-remaining-tokens"])


def test_a_key_without_limits_is_told_of_none(live: Live) -> None:
    body = CHAT | {"model": BUNDLED_MODEL}
    answer = live.http.post("/v1/chat/completions", json=body, headers=make_key(live))
    assert answer.status_code == 200
    assert not [name for name in answer.headers if name.startswith("x-ratelimit")]


def test_requests_beyond_the_limit_are_told_when_to_come_back(live: Live) -> None:
    headers = make_key(live, requests_per_minute=5)
    body = CHAT | {"model": BUNDLED_MODEL}

    def ask(_: int) -> tuple[int, str | None]:
        answer = live.http.post("/v1/chat/completions", json=body, headers=headers)
        assert answer.headers.get("x-ratelimit-limit-requests", "5") == "5"
        return answer.status_code, answer.headers.get("retry-after")

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, range(30)))
    assert sum(status == 200 for status, _ in answers) == 5
    refused = [after for status, after in answers if status == 429]
    assert len(refused) == 25 and all(after and 58 <= int(after) <= 60 for after in refused)
    refusal = live.http.post("/v1/chat/completions", json=body, headers=headers)
    assert refusal.headers["x-ratelimit-remaining-requests"] == "0"
    reset = float(refusal.headers["x-ratelimit-reset-requests"].removesuffix("s"))
    # (Both are of the same moment, one of them in whole seconds.)
    assert 0 <= int(refusal.headers["retry-after"]) - reset < 2
    # The list of models is no request to a model.
    assert live.http.get("/v1/models", headers=headers).status_code == 200


def test_the_openai_client_knows_what_happened(live: Live) -> None:
    secret = make_key(live, requests_per_minute=1)["Authorization"].removeprefix("Bearer ")
    with openai.OpenAI(base_url=f"{live.url}/v1", api_key=secret, max_retries=0) as client:
        client.chat.completions.create(model=BUNDLED_MODEL, messages=MESSAGES)
        with pytest.raises(openai.RateLimitError, match="1 requests a minute") as caught:
            client.chat.completions.create(model=BUNDLED_MODEL, messages=MESSAGES)
    assert caught.value.code == "rate_limit_exceeded"


def test_tokens_cost_what_the_answer_says(live: Live) -> None:
    headers = make_key(live, tokens_per_minute=1000)
    assert remaining(live, headers) == 1000 - 101
    # It was 8 (see the fake inference service) and not 101.
    assert remaining(live, headers) == 1000 - 8 - 101
    assert remaining(live, headers, stream=True) == 1000 - 16 - 101
    # A stream of three words and an end.
    until_true(lambda: remaining(live, headers) > 1000 - 101 - 101)


async def nothing() -> None:
    pass


async def pieces(*chunks: bytes) -> AsyncGenerator[bytes, None]:
    for chunk in chunks:
        yield chunk


@pytest.mark.parametrize(
    ("chunks", "tokens"),
    [
        ([b'data: {"choices":[]}\n\n', b"data: {}\n\ndata: [DONE]\n\n"], 10 + 3),
        ([b'data: {"usage":null}\n\n', b'data: {"usage":{"total_tokens":21}}\n\n'], 21),
        ([b'data: {"usage": {"total_tokens":7}}\n\n', b"data: [DONE]\n\n"], 7),
        ([b'data: {"usage":{"total_tokens":-7}}\n\n'], 10 + 1),
        ([b'data: {"usage":{"a":{"b":1},"total_tokens":9,"c":{}}}\n\ndata: [DONE]\n\n'], 9),
        ([b'data: {"content":"\\"usage\\":{\\"total_tokens\\":7}"}\n\n'], 10 + 1),
        ([b'data: {"usage":{"total_tokens":true}}\n\n', b'data: {"usage":{\n\n'], 10 + 2),
        ([], 10),
    ],
)
@asynchronous
async def test_a_stream_costs_what_it_says_or_its_events(
    valkey: Valkey, chunks: list[bytes], tokens: int
) -> None:
    async with Redis.from_url(valkey.url) as redis:
        limits, quota = RateLimits(redis), Quota("key_m", tokens=1000)
        meter = Meter(Request({"type": "http"}), limits, quota)
        async with meter.taking(reads=10, writes=100):
            stream = meter.along(Stream(pieces(*chunks), nothing))
        assert [chunk async for chunk in stream] == chunks
        (standing,) = (await limits.take(quota, {"tokens": 0})).standings
        assert standing.remaining == 1000 - tokens


def test_what_fails_costs_no_tokens(live: Live) -> None:
    headers = make_key(live, tokens_per_minute=150)
    live.inference.dead = {f"base/{BUNDLED_MODEL}"}
    body = CHAT | {"model": BUNDLED_MODEL, "max_tokens": 100}
    for _ in range(3):
        answer = live.http.post("/v1/chat/completions", json=body, headers=headers)
        assert answer.status_code == 503
    live.inference.dead = set()
    assert remaining(live, headers) == 150 - 101


def test_predictions_and_diagrams_count_too(live: Live) -> None:
    live.deploy("small")
    headers = make_key(live, requests_per_minute=2)
    predict = live.http.post(
        "/api/deployments/small/predict", json={"inputs": ["a", "b"]}, headers=headers
    )
    assert predict.status_code == 200
    draw = {"scenario": "A calls B.", "model": "small"}
    assert live.http.post("/api/diagrams", json=draw, headers=headers).status_code == 201
    assert live.http.post("/api/diagrams", json=draw, headers=headers).status_code == 429
