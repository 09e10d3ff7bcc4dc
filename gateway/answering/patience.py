"""How long one waits for somebody who is busy or away. Knows not who it is."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from shared.errors import TimedOut, TooManyRequests, Unavailable, UpstreamFailed

Result = TypeVar("Result")
# Lets so many seconds pass.
Pause = Callable[[float], Awaitable[None]]
BUSY = (TooManyRequests, Unavailable)
# May go well the next time, or never.
STUMBLED = (TimedOut, UpstreamFailed)
_random = random.SystemRandom()


@dataclass(frozen=True)
class Patience:
    """All times in seconds. One request is tried for ``longest`` after its first trouble while
    others are served (429) or a service is away (503), and ``tries`` times where it took too long
    or came to nothing (504, 502); a pause is what the answer says, else ``first_wait`` and then
    twice as long each time, and never more than ``longest_wait``."""

    longest: float = 900
    tries: int = 3
    first_wait: float = 0.5
    longest_wait: float = 30


async def patiently(
    ask: Callable[[], Awaitable[Result]],
    patience: Patience,
    pause: Pause = asyncio.sleep,
) -> Result:
    """What ``ask`` answers, asked again while that may help; else its last error, and every other
    one at once."""
    loop = asyncio.get_running_loop()
    wait, stumbles, deadline = patience.first_wait, 0, None
    while True:
        try:
            return await ask()
        except (*BUSY, *STUMBLED) as error:
            deadline = deadline or loop.time() + patience.longest
            seconds = min(error.retry_after or wait, patience.longest_wait)
            stumbles += isinstance(error, STUMBLED)
            if stumbles >= patience.tries or loop.time() + seconds > deadline:
                raise
        # (All that were turned away at once should not come back at once.)
        await pause(seconds * _random.uniform(1, 1.25))
        wait = min(2 * wait, patience.longest_wait)
