"""A service LLM refuses, is left alone, asked again and probed."""

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

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


def test_of_many_at_once_one_probes(live: Live, upstream: DyingUpstream) -> None:
    upstream.status = 500
    for _ in range(3):
        chat(live, "best")
    live.services.breakers.of("upstream/service").open_until = 0
    before, upstream.status, upstream.slow = len(upstream.asked), None, 0.5
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: chat(live, "best"), range(16)))
    assert len(upstream.asked) == before + 1
    served = Counter(answer.headers["x-genplat-served-by"] for answer in answers)
    assert served == {"small": 15, "upstream/service": 1}
    assert live.services.breakers.of("upstream/service").state == "closed"


@pytest.mark.parametrize("status", [429, 503])
def test_how_long_it_wants_to_be_left_alone_is_heard(
    live: Live, upstream: DyingUpstream, status: int
) -> None:
    upstream.status, upstream.headers = status, {"retry-after": "30"}
    for _ in range(3):
        assert chat(live, "best").status_code == 200
    assert len(upstream.asked) == 1
    breaker = live.services.breakers.of("upstream/service")
    assert 25 < breaker.open_until - time.monotonic() <= 30


def test_what_an_upstream_would_refuse_is_not_sent(live: Live, upstream: DyingUpstream) -> None:
    tags = {"metadata": {"team": "a"}}
    chat(live, "best", **tags, store=False, frequency_penalty=0, top_k=3)
    chat(live, "best", **tags)
    chat(live, "best", **tags, store=True)
    kept = [
        asked.keys() & {"metadata", "store", "frequency_penalty", "top_k"}
        for asked in upstream.asked
    ]
    assert kept == [set(), set(), {"metadata", "store"}]
    # Another GenPlat keeps no words of the first either.
    assert upstream.log_headers == ["metadata", None, None]


def test_half_a_character_is_passed_on(live: Live, upstream: DyingUpstream) -> None:
    upstream.words = ["a\ud83d"]
    answer = chat(live, "best")
    assert answer.headers["x-genplat-served-by"] == "upstream/service"
    assert answer.json()["choices"][0]["message"]["content"] == "a\ud83d"
    (row,) = live.http.get("/api/requests").json()["data"]
    assert row["status"] == 200


def test_a_key_from_a_file_ends_without_its_line(
    live: Live, upstream: DyingUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVICE_KEY", f"{KEY}\n")
    assert chat(live, "best").headers["x-genplat-served-by"] == "upstream/service"
    assert upstream.keys == [f"Bearer {KEY}"]
    monkeypatch.setenv("SERVICE_KEY", "two\nlines")
    assert chat(live, "best").headers["x-genplat-fallback-reason"] == "upstream_without_key"


def test_the_one_that_rests_is_not_the_fastest(live: Live, upstream: DyingUpstream) -> None:
    rules = {
        "targets": [{"upstream": "service"}, {"deployment": "small"}],
        "balance": "fastest",
    }
    assert live.http.put("/api/routes/best", json=rules).status_code == 200
    live.services.breakers.of("upstream/service").visit().failed("down", retry_after=60)
    for _ in range(6):
        answer = chat(live, "best")
        assert answer.headers["x-genplat-served-by"] == "small"
        assert answer.headers["x-genplat-fallbacks"] == "0"
