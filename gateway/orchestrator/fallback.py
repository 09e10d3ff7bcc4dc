"""Asks one target after the other until one answers; knows neither HTTP nor models."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from shared.errors import (
    GenPlatError,
    NotFound,
    TimedOut,
    TooManyRequests,
    Unavailable,
    UpstreamFailed,
)

Target = TypeVar("Target")
Result = TypeVar("Result")

# The target's trouble: another one may do better. All else is the request's own fault.
_DEAD = (Unavailable, UpstreamFailed, TimedOut, TooManyRequests)


@dataclass(frozen=True)
class Answered(Generic[Target, Result]):
    """Who answered what after how many others; ``reason`` says why they did not."""

    target: Target
    result: Result
    fallbacks: int
    reason: str | None


async def first_that_answers(
    targets: Sequence[Target], ask: Callable[[Target, bool], Awaitable[Result]]
) -> Answered[Target, Result]:
    """The first answer in the order of ``targets``.

    ``ask`` is told whether it asks the last one, for which waiting is better than giving up.
    """
    reasons: list[str] = []
    for number, target in enumerate(targets):
        is_last = number == len(targets) - 1
        try:
            result = await ask(target, is_last)
        except GenPlatError as error:
            if is_last or not is_dead(error):
                raise
            reasons.append(error.code)
            continue
        return Answered(target, result, number, ", ".join(reasons) or None)
    raise NotFound("The route has no target.", code="model_not_found", param="model")


def is_dead(error: GenPlatError) -> bool:
    """Whether it is the target's trouble, so that another one may do better."""
    return isinstance(error, _DEAD) or (
        isinstance(error, NotFound) and error.code.startswith("model_")
    )
