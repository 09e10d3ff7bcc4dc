"""Limits hold under concurrency, over several gateways, and at the edges of minutes."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis

from gateway.rate_limits import Quota, RateLimits
from shared.errors import TooManyRequests
from tests.gateway.parts import asynchronous
from tests.valkey import Valkey


class Clock:
    now = 6000.0

    def __call__(self) -> float:
        return self.now


async def admitted(limits: RateLimits, quota: Quota, times: int) -> int:
    async def ask() -> bool:
        try:
            await limits.take(quota, {"requests": 1})
        except TooManyRequests:
            return False
        return True

    return sum(await asyncio.gather(*(ask() for _ in range(times))))


@asynchronous
async def test_many_keys_at_once_each_get_their_own_limit(valkey: Valkey) -> None:
    valkey.flush()
    async with Redis.from_url(valkey.url) as one, Redis.from_url(valkey.url) as other:
        gateways = [RateLimits(one, Clock()), RateLimits(other, Clock())]
        quotas = [Quota(f"key_{number}", requests=5 + number % 3) for number in range(64)]
        counts = await asyncio.gather(
            *(admitted(gateway, quota, 10) for quota in quotas for gateway in gateways)
        )
        sums = [counts[2 * place] + counts[2 * place + 1] for place in range(64)]
        assert sums == [quota.requests for quota in quotas]


@asynchronous
async def test_a_minute_slides(valkey: Valkey) -> None:
    valkey.flush()
    async with Redis.from_url(valkey.url) as redis:
        clock, quota = Clock(), Quota("key_s", requests=10)
        limits = RateLimits(redis, clock)
        assert await admitted(limits, quota, 20) == 10
        # At the beginning of the next minute nothing is free yet, halfway five are.
        clock.now += 60
        assert await admitted(limits, quota, 20) == 0
        clock.now += 30
        assert await admitted(limits, quota, 20) == 5
        clock.now += 120
        assert await admitted(limits, quota, 20) == 10


@asynchronous
async def test_whoever_waits_as_long_as_told_gets_in(valkey: Valkey) -> None:
    valkey.flush()
    async with Redis.from_url(valkey.url) as redis:
        clock, quota = Clock(), Quota("key_w", requests=4)
        limits = RateLimits(redis, clock)
        for offset in (0, 17, 31, 55):
            clock.now += offset
            await admitted(limits, quota, 9)
            for _ in range(3):
                try:
                    await limits.take(quota, {"requests": 1})
                except TooManyRequests as told:
                    assert told.retry_after is not None
                    assert 1 <= told.retry_after <= 60
                    clock.now += told.retry_after
                else:
                    break
            else:
                pytest.fail("it was told to wait again and again")


@asynchronous
async def test_what_was_estimated_is_put_right(valkey: Valkey) -> None:
    valkey.flush()
    async with Redis.from_url(valkey.url) as redis:
        quota, limits = Quota("key_t", tokens=1000), RateLimits(redis, Clock())
        (first,) = await limits.take(quota, {"requests": 1, "tokens": 700})
        assert first.remaining == 300
        assert first.headers["x-ratelimit-remaining-tokens"] == "300"
        with pytest.raises(TooManyRequests, match="1,000 tokens a minute"):
            await limits.take(quota, {"tokens": 400})
        limits.settle(quota, "tokens", taken=700, used=100, moment=6000)
        (then,) = await limits.take(quota, {"tokens": 400})
        assert then.remaining == 500
        # One that could never fit passes where there is nothing else.
        large, others = Quota("key_l", tokens=1000), RateLimits(redis, Clock())
        (whole,) = await others.take(large, {"tokens": 50_000})
        assert whole.remaining == 0
        others.settle(large, "tokens", taken=50_000, used=400, moment=6000)
        (rest,) = await others.take(large, {"tokens": 600})
        assert rest.remaining == 0


@asynchronous
async def test_what_one_limit_refuses_costs_nothing_of_the_other(valkey: Valkey) -> None:
    valkey.flush()
    async with Redis.from_url(valkey.url) as redis:
        quota, limits = Quota("key_b", requests=10, tokens=100), RateLimits(redis, Clock())
        await limits.take(quota, {"requests": 1, "tokens": 90})
        for _ in range(5):
            with pytest.raises(TooManyRequests, match="tokens"):
                await limits.take(quota, {"requests": 1, "tokens": 50})
        requests, tokens = await limits.take(quota, {"requests": 1, "tokens": 10})
        assert (requests.remaining, tokens.remaining) == (8, 0)


@asynchronous
async def test_what_is_given_back_late_lets_no_more_pass_in_a_later_minute(valkey: Valkey) -> None:
    valkey.flush()
    async with Redis.from_url(valkey.url) as redis:
        clock, quota = Clock(), Quota("key_g", tokens=1000)
        limits = RateLimits(redis, clock)
        began = clock.now
        await limits.take(quota, {"tokens": 1000}, began)
        clock.now += 119
        limits.settle(quota, "tokens", taken=1000, used=20, moment=began)
        (now,) = await limits.take(quota, {"tokens": 500})
        assert now.remaining == 499
        with pytest.raises(TooManyRequests):
            await limits.take(quota, {"tokens": 501})


@asynchronous
async def test_without_a_limit_nothing_is_counted(valkey: Valkey) -> None:
    async with Redis.from_url(valkey.url) as redis:
        limits = RateLimits(redis)
        assert await limits.take(Quota("key_n"), {"requests": 1}) == []
        limits.settle(Quota("key_n"), "tokens", taken=1, used=2, moment=6000)
        assert not await redis.keys("genplat:limit:key_n*")


@asynchronous
async def test_where_redis_is_away_each_gateway_counts_for_itself() -> None:
    async with Redis.from_url("redis://127.0.0.1:9/0") as redis:
        limits = RateLimits(redis, Clock())
        assert await admitted(limits, Quota("key_a", requests=3), 8) == 3


@given(
    limit=st.integers(1, 20),
    steps=st.lists(st.tuples(st.floats(0, 90), st.integers(1, 8)), max_size=25),
)
def test_no_minute_ever_sees_more_than_the_limit_in_either_half(
    limit: int, steps: list[tuple[float, int]]
) -> None:
    """The bound of a sliding window out of two: twice the limit in any sixty seconds would be that
    of fixed ones; here what passes in a fixed minute stays within it."""

    async def scenario() -> None:
        async with Redis.from_url("redis://127.0.0.1:9/0") as redis:
            clock, quota = Clock(), Quota("key_h", requests=limit)
            limits = RateLimits(redis, clock)
            passed: dict[int, int] = {}
            for wait, times in steps:
                clock.now += wait
                window = int(clock.now // 60)
                passed[window] = passed.get(window, 0) + await admitted(limits, quota, times)
            assert all(count <= limit for count in passed.values())

    asyncio.run(scenario())
