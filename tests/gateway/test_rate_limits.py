"""Limits hold under concurrency, over several gateways, and in every minute."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from gateway.counters import REDIS_SECONDS
from gateway.rate_limits import Kind, Quota, RateLimits, Turn
from tests.gateway.parts import asynchronous
from tests.valkey import Valkey

NO_REDIS = "redis://127.0.0.1:9/0"


class Clock:
    now = 6000.0

    def __call__(self) -> float:
        return self.now


async def admitted(limits: RateLimits, quota: Quota, times: int) -> int:
    asked = [limits.take(quota, {"requests": 1}) for _ in range(times)]
    return sum(turn.refusal is None for turn in await asyncio.gather(*asked))


def remaining(turn: Turn) -> list[int]:
    return [standing.remaining for standing in turn.standings]


def wait(turn: Turn) -> float:
    assert turn.refusal is not None and turn.refusal.retry_after is not None
    return turn.refusal.retry_after


@asynchronous
async def test_many_keys_at_once_each_get_their_own_limit(valkey: Valkey) -> None:
    async with Redis.from_url(valkey.url) as one, Redis.from_url(valkey.url) as other:
        gateways = [RateLimits(one), RateLimits(other)]
        quotas = [Quota(f"key_{number}", requests=5 + number % 3) for number in range(64)]
        counts = await asyncio.gather(
            *(admitted(gateway, quota, 10) for quota in quotas for gateway in gateways)
        )
        sums = [counts[2 * place] + counts[2 * place + 1] for place in range(64)]
        assert sums == [quota.requests for quota in quotas]


@asynchronous
async def test_what_does_not_fit_keeps_nothing_away_from_what_does(valkey: Valkey) -> None:
    async with Redis.from_url(valkey.url) as redis:
        limits, quota = RateLimits(redis), Quota("key_f", tokens=100)
        assert (await limits.take(quota, {"tokens": 50})).refusal is None
        # Those who ask for too much again and again, and in between one with little.
        asked = [limits.take(quota, {"tokens": n}) for n in [60] * 20 + [30] + [60] * 20]
        turns = await asyncio.gather(*asked)
        assert [turn.refusal is None for turn in turns] == [False] * 20 + [True] + [False] * 20
        assert remaining(turns[0]) == [50] and remaining(turns[-1]) == [20]


@asynchronous
async def test_a_minute_slides(valkey: Valkey) -> None:
    async with Redis.from_url(valkey.url) as redis:
        clock, quota = Clock(), Quota("key_s", requests=10)
        limits = RateLimits(redis, clock)
        assert await admitted(limits, quota, 4) == 4
        clock.now += 30
        assert await admitted(limits, quota, 20) == 6
        clock.now += 29.9
        assert await admitted(limits, quota, 20) == 0
        clock.now += 0.1
        assert await admitted(limits, quota, 20) == 4
        clock.now += 30
        assert await admitted(limits, quota, 20) == 6
        clock.now += 3600
        assert await admitted(limits, quota, 20) == 10


@asynchronous
async def test_whoever_waits_as_long_as_told_gets_in_and_no_sooner(valkey: Valkey) -> None:
    async with Redis.from_url(valkey.url) as redis:
        clock, quota = Clock(), Quota("key_w", requests=4)
        limits = RateLimits(redis, clock)
        for offset in (0, 17, 31, 55):
            clock.now += offset
            await admitted(limits, quota, 9)
            told = wait(await limits.take(quota, {"requests": 1}))
            clock.now += told - 0.01
            assert wait(await limits.take(quota, {"requests": 1})) == pytest.approx(0.01, abs=2e-3)
            clock.now += 0.011
            assert (await limits.take(quota, {"requests": 1})).refusal is None


@asynchronous
async def test_a_refusal_tells_what_is_left_of_each(valkey: Valkey) -> None:
    async with Redis.from_url(valkey.url) as redis:
        clock, quota = Clock(), Quota("key_r", requests=10, tokens=100)
        limits = RateLimits(redis, clock)
        await limits.take(quota, {"requests": 1, "tokens": 90})
        clock.now += 20
        for _ in range(5):
            turn = await limits.take(quota, {"requests": 1, "tokens": 50})
            assert turn.refusal is not None and "100 tokens a minute" in turn.refusal.message
            assert wait(turn) == 40
        # What one limit refuses costs nothing of the other.
        assert turn.headers == {
            "x-ratelimit-limit-requests": "10",
            "x-ratelimit-remaining-requests": "9",
            "x-ratelimit-reset-requests": "40.0s",
            "x-ratelimit-limit-tokens": "100",
            "x-ratelimit-remaining-tokens": "10",
            "x-ratelimit-reset-tokens": "40.0s",
        }
        assert turn.beyond == ("tokens",)
        assert remaining(await limits.take(quota, {"requests": 1, "tokens": 10})) == [8, 0]


@pytest.mark.parametrize("away", [False, True])
@asynchronous
async def test_what_was_estimated_is_put_right(valkey: Valkey, away: bool) -> None:
    async with Redis.from_url(NO_REDIS if away else valkey.url) as redis:
        quota, limits = Quota("key_t", tokens=1000), RateLimits(redis, Clock())
        first = await limits.take(quota, {"requests": 1, "tokens": 700})
        assert remaining(first) == [300]
        assert (await limits.take(quota, {"tokens": 400})).refusal is not None
        limits.settle(quota, first, 100)
        then = await limits.take(quota, {"tokens": 400})
        assert remaining(then) == [500]
        # It may have been more than estimated, too, and more than there is.
        limits.settle(quota, then, 1100)
        assert remaining(await limits.take(quota, {"tokens": 1})) == [0]
        # One that could never fit passes where there is nothing else.
        large = Quota("key_l", tokens=1000)
        whole = await limits.take(large, {"tokens": 50_000})
        assert remaining(whole) == [0]
        limits.settle(large, whole, 400)
        assert remaining(await limits.take(large, {"tokens": 600})) == [0]


@asynchronous
async def test_what_is_given_back_late_lets_no_more_pass_in_a_later_minute(valkey: Valkey) -> None:
    async with Redis.from_url(valkey.url) as redis:
        clock, quota = Clock(), Quota("key_g", tokens=1000)
        limits = RateLimits(redis, clock)
        early = await limits.take(quota, {"tokens": 1000})
        clock.now += 60
        assert remaining(await limits.take(quota, {"tokens": 500})) == [500]
        limits.settle(quota, early, 20)
        assert remaining(await limits.take(quota, {"tokens": 500})) == [0]


@asynchronous
async def test_all_gateways_have_the_clock_of_redis(valkey: Valkey) -> None:
    """(Their own may be minutes apart.)"""
    async with Redis.from_url(valkey.url) as redis:
        limits, quota = RateLimits(redis), Quota("key_c", requests=1)
        assert await admitted(limits, quota, 1) == 1
        seconds, _ = await redis.time()
        newest = float(await redis.hget(quota.name("requests"), "newest") or 0) / 1000
        assert seconds - 2 < newest <= seconds + 1
        # What nobody asks for any more goes by itself.
        assert 0 < await redis.pttl(quota.name("requests")) <= 60_000


@asynchronous
async def test_without_a_limit_nothing_is_counted(valkey: Valkey) -> None:
    async with Redis.from_url(valkey.url) as redis:
        limits = RateLimits(redis)
        turn = await limits.take(Quota("key_n"), {"requests": 1, "tokens": 5})
        assert (turn.standings, turn.refusal) == ([], None)
        limits.settle(Quota("key_n"), turn, 2)
        assert not await redis.keys("genplat:limit:key_n*")


@asynchronous
async def test_where_redis_is_away_each_gateway_counts_for_itself(own_valkey: Valkey) -> None:
    async with Redis.from_url(own_valkey.url) as redis:
        clock, quota = Clock(), Quota("key_a", requests=3, tokens=9)
        limits = RateLimits(redis, clock)
        before = await limits.take(quota, {"requests": 1, "tokens": 3})
        own_valkey.stop()
        assert await admitted(limits, quota, 8) == 3
        assert not limits.shared
        # Of what was counted there nothing is given back here.
        limits.settle(quota, before, 0)
        turn = await limits.take(quota, {"tokens": 9})
        assert remaining(turn) == [0]
        clock.now += 61
        assert await admitted(limits, quota, 8) == 3


@contextmanager
def silent(valkey: Valkey) -> Iterator[None]:
    """A server that accepts, and does not answer."""
    with valkey.client() as client:
        client.execute_command("CLIENT", "PAUSE", "60000", "ALL")
        try:
            yield
        finally:
            client.close()


@asynchronous
async def test_a_redis_that_is_silent_is_not_waited_for_by_every_request(
    own_valkey: Valkey,
) -> None:
    async with Redis.from_url(own_valkey.url) as redis:
        limits, quota = RateLimits(redis), Quota("key_p", requests=2)
        with silent(own_valkey):
            began = time.monotonic()
            assert [await admitted(limits, quota, 1) for _ in range(5)] == [1, 1, 0, 0, 0]
            assert time.monotonic() - began < 2 * REDIS_SECONDS


@asynchronous
async def test_what_nobody_foresaw_hangs_nobody() -> None:
    async with Redis.from_url(NO_REDIS) as redis:
        limits = RateLimits(redis, lambda: float("nan"))
        async with asyncio.timeout(5):
            with pytest.raises(ValueError, match="NaN"):
                await limits.take(Quota("key_x", requests=1), {"requests": 1})


Step = tuple[float, list[tuple[int, int | None]]]
STEPS = st.lists(
    st.tuples(
        st.one_of(st.floats(0, 3), st.floats(0, 130), st.floats(-2, 0)),
        st.lists(st.tuples(st.integers(0, 40), st.none() | st.integers(0, 60)), max_size=4),
    ),
    max_size=25,
)


async def played(limits: RateLimits, clock: Clock, quota: Quota, steps: list[Step]) -> list[object]:
    """Each request that came, and what was said to it; some are put right at once."""
    said: list[object] = []
    for pause, asked in steps:
        clock.now += pause
        for tokens, used in asked:
            amounts: dict[Kind, int] = {"requests": 1, "tokens": tokens}
            turn = await limits.take(quota, amounts)
            told = turn.refusal.retry_after if turn.refusal else None
            said.append((round(clock.now, 3), turn.headers, told))
            if used is not None:
                limits.settle(quota, turn, used)
    return said


@hypothesis_settings(deadline=None, max_examples=60)
@given(st.integers(1, 12), st.integers(1, 100), STEPS)
def test_redis_and_a_gateway_alone_count_the_same(
    valkey_server: Valkey, requests: int, tokens: int, steps: list[Step]
) -> None:
    async def scenario() -> None:
        valkey_server.flush()
        quota, said = Quota("key_h", requests, tokens), []
        for url in (valkey_server.url, NO_REDIS):
            clock = Clock()
            async with Redis.from_url(url) as redis:
                said.append(await played(RateLimits(redis, clock), clock, quota, steps))
        assert said[0] == said[1]

    asyncio.run(scenario())


@hypothesis_settings(deadline=None)
@given(st.integers(1, 12), st.lists(st.tuples(st.floats(0, 40), st.integers(1, 8)), max_size=25))
def test_no_sixty_seconds_ever_see_more_than_the_limit(
    limit: int, steps: list[tuple[float, int]]
) -> None:
    async def scenario() -> None:
        async with Redis.from_url(NO_REDIS) as redis:
            clock, quota = Clock(), Quota("key_m", requests=limit)
            limits = RateLimits(redis, clock)
            passed: list[tuple[float, int]] = []
            for pause, times in steps:
                clock.now += pause
                passed.append((clock.now, await admitted(limits, quota, times)))
            for end, _ in passed:
                # (Its clock has milliseconds.)
                within = [count for moment, count in passed if end - 59.998 < moment <= end]
                assert sum(within) <= limit

    asyncio.run(scenario())
