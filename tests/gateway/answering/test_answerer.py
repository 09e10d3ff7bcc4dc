"""How long one waits for an answer, and what ends the waiting."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from gateway.answering import Answerer, AnswersEnded
from gateway.answering.patience import Patience
from shared.errors import (
    Forbidden,
    GenPlatError,
    InvalidRequest,
    NotFound,
    TimedOut,
    TooManyRequests,
    Unavailable,
    UpstreamFailed,
)
from tests.gateway.parts import asynchronous

BODY = {"messages": [{"role": "user", "content": "Hi"}]}
QUICK = Patience(longest=0.3, first_wait=0.01, longest_wait=0.05)


class Somebody:
    """Fails as told, then answers."""

    def __init__(self, *failures: GenPlatError) -> None:
        self.failures = list(failures)
        self.asked: list[dict[str, Any]] = []

    async def __call__(self, body: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(body)
        if self.failures:
            raise self.failures.pop(0)
        return {"said": "yes"}


def answerer(ask: Callable[..., Any]) -> Answerer:
    return Answerer("a-model", "", 1, ask, QUICK)


@asynchronous
async def test_the_model_is_filled_in_and_the_body_stays_as_it_was() -> None:
    somebody = Somebody()
    assert await answerer(somebody).answer(BODY) == {"said": "yes"}
    assert somebody.asked == [BODY | {"model": "a-model"}]
    assert "model" not in BODY


@asynchronous
async def test_who_is_busy_is_asked_again_when_they_say() -> None:
    somebody = Somebody(TooManyRequests("Later.", retry_after=0.04), Unavailable("Away."))
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert await answerer(somebody).answer(BODY) == {"said": "yes"}
    assert len(somebody.asked) == 3
    assert loop.time() - began >= 0.04 + 0.01


@asynchronous
async def test_a_pause_is_never_longer_than_the_longest() -> None:
    somebody = Somebody(TooManyRequests("Tomorrow.", retry_after=86_400))
    async with asyncio.timeout(5):
        assert await answerer(somebody).answer(BODY) == {"said": "yes"}


@asynchronous
async def test_who_never_answers_ends_it_all() -> None:
    somebody = Somebody(*[Unavailable("The model is gone.")] * 100)
    with pytest.raises(AnswersEnded, match="The model is gone"):
        await answerer(somebody).answer(BODY)
    assert 5 < len(somebody.asked) < 40


@pytest.mark.parametrize("kind", [NotFound, Forbidden])
def test_what_holds_for_every_request_ends_it_all(kind: type[GenPlatError]) -> None:
    somebody = Somebody(kind("Not you."))
    with pytest.raises(AnswersEnded, match="Not you"):
        asyncio.run(answerer(somebody).answer(BODY))
    assert len(somebody.asked) == 1


def test_what_is_wrong_with_one_request_is_told_of_it() -> None:
    somebody = Somebody(InvalidRequest("Too long."))
    with pytest.raises(InvalidRequest, match="Too long"):
        asyncio.run(answerer(somebody).answer(BODY))
    assert len(somebody.asked) == 1


@pytest.mark.parametrize("kind", [TimedOut, UpstreamFailed])
def test_what_came_to_nothing_is_tried_three_times(kind: type[GenPlatError]) -> None:
    somebody = Somebody(kind("Cut."), kind("Cut."))
    assert asyncio.run(answerer(somebody).answer(BODY)) == {"said": "yes"}
    somebody = Somebody(*[kind("Cut.")] * 10)
    with pytest.raises(kind, match="Cut"):
        asyncio.run(answerer(somebody).answer(BODY))
    assert len(somebody.asked) == 3
