"""Which errors let the next target answer, and which are the request's own."""

import asyncio

import pytest

from gateway.orchestrator.fallback import first_that_answers
from shared.errors import (
    GenPlatError,
    InvalidData,
    InvalidRequest,
    NotFound,
    TimedOut,
    TooLarge,
    TooManyRequests,
    Unavailable,
    UpstreamFailed,
)
from tests.gateway.parts import asynchronous


@asynchronous
async def test_the_first_that_lives_answers() -> None:
    errors: dict[str, GenPlatError] = {
        "a": Unavailable("down", code="model_unavailable"),
        "b": TimedOut("slow"),
        "c": UpstreamFailed("broken"),
        "d": NotFound("gone", code="model_not_loaded"),
        "e": TooManyRequests("busy"),
    }
    lasts = []

    async def ask(target: str, is_last: bool) -> str:
        lasts.append(is_last)
        if target in errors:
            raise errors[target]
        return f"hello from {target}"

    answered = await first_that_answers(["a", "b", "c", "d", "e", "f", "g"], ask)
    assert (answered.target, answered.result, answered.fallbacks) == ("f", "hello from f", 5)
    assert answered.reason == (
        "model_unavailable, timeout, upstream_failed, model_not_loaded, rate_limit_exceeded"
    )
    assert lasts == [False] * 6
    with pytest.raises(UpstreamFailed):
        await first_that_answers(["a", "c"], ask)
    assert lasts[-2:] == [False, True]


@pytest.mark.parametrize(
    "error",
    [
        InvalidRequest("too long", code="context_length_exceeded"),
        InvalidData("odd"),
        TooLarge("much"),
        NotFound("no such diagram"),
    ],
)
def test_what_the_client_did_wrong_goes_to_nobody_else(error: GenPlatError) -> None:
    asked = []

    async def ask(target: str, is_last: bool) -> str:
        asked.append(target)
        raise error

    with pytest.raises(type(error)):
        asyncio.run(first_that_answers(["a", "b"], ask))
    assert asked == ["a"]
