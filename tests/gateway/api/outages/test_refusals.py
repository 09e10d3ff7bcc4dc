"""A service LLM refuses, is left alone, asked again and probed."""

import time

import pytest

from tests.gateway.api.live import Live, chat, refusal
from tests.gateway.api.outages.route import close_breaker
from tests.gateway.dying_upstream import KEY, DyingUpstream


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (429, "upstream_rate_limited"),
        (500, "upstream_500"),
        (503, "upstream_503"),
        (401, "upstream_401"),
        (302, "upstream_302"),
    ],
)
def test_a_refusal_goes_to_the_fallback(
    live: Live, upstream: DyingUpstream, status: int, reason: str, stream: bool
) -> None:
    upstream.status = status
    answer = chat(live, "best", stream=stream)
    assert answer.status_code == 200
    assert answer.headers["x-genplat-served-by"] == "small"
    assert answer.headers["x-genplat-fallback-reason"] == reason
    assert upstream.url not in str(answer.headers) + answer.text


def test_what_the_request_did_wrong_is_told(live: Live, upstream: DyingUpstream) -> None:
    upstream.status = 400
    answer = chat(live, "best")
    assert refusal(answer) == (400, "c")
    assert answer.json()["error"]["message"] == "service: no"


def test_an_upstream_that_fails_is_left_alone_and_probed(
    live: Live, upstream: DyingUpstream
) -> None:
    upstream.status = 500
    for _ in range(5):
        chat(live, "best")
    assert len(upstream.asked) == 3
    assert chat(live, "best").headers["x-genplat-fallback-reason"] == "circuit_open"
    (told,) = live.http.get("/api/upstreams").json()["data"]
    assert (told["state"], told["reason"]) == ("open", "upstream_500")
    assert upstream.url not in str(told) and KEY not in str(told)
    upstream.status = None
    live.services.breakers.of("upstream/service").open_until = 0
    assert chat(live, "best").headers["x-genplat-served-by"] == "upstream/service"
    (told,) = live.http.get("/api/upstreams").json()["data"]
    assert (told["state"], told["reason"]) == ("closed", None)


def test_an_upstream_says_when_to_come_back(live: Live, upstream: DyingUpstream) -> None:
    upstream.status, upstream.headers = 429, {"retry-after": "30"}
    for _ in range(2):
        assert chat(live, "best").status_code == 200
    assert len(upstream.asked) == 1


def test_without_its_key_it_is_not_asked(
    live: Live, upstream: DyingUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SERVICE_KEY")
    assert chat(live, "best").headers["x-genplat-fallback-reason"] == "upstream_without_key"
    assert upstream.asked == []
    (told,) = live.http.get("/api/upstreams").json()["data"]
    assert "SERVICE_KEY is not set" in told["problem"]


@pytest.mark.parametrize("stream", [False, True])
def test_a_short_trouble_is_over_with_the_second_try(
    live: Live, upstream: DyingUpstream, stream: bool
) -> None:
    upstream.status, upstream.times = 503, 1
    answer = chat(live, "best", stream=stream)
    assert answer.headers["x-genplat-served-by"] == "upstream/service"
    assert answer.headers["x-genplat-retries"] == "1"
    assert answer.headers["x-genplat-fallbacks"] == "0"
    assert len(upstream.asked) == 2


def test_retries_have_a_budget(live: Live, upstream: DyingUpstream) -> None:
    upstream.status = 500
    for _ in range(30):
        assert chat(live, "best").headers["x-genplat-served-by"] == "small"
        close_breaker(live)
    # Five failures use half of the budget up; afterwards each request asks once.
    assert 30 < len(upstream.asked) <= 35


def test_a_429_is_waited_for_where_there_is_nobody_else(
    live: Live, upstream: DyingUpstream
) -> None:
    body = {"name": "alone", "targets": [{"upstream": "service"}]}
    assert live.http.post("/api/routes", json=body).status_code == 201
    upstream.status, upstream.times, upstream.headers = 429, 1, {"Retry-After": "1"}
    began = time.monotonic()
    assert chat(live, "alone").headers["x-genplat-retries"] == "1"
    assert 1 <= time.monotonic() - began < 10
