"""Somebody who answers chat requests, and how long one waits for them. Knows not who it is."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from gateway.client import CommandFailed
from gateway.inference_client import InferenceClient
from shared.errors import (
    Forbidden,
    GenPlatError,
    NotFound,
    TooManyRequests,
    Unauthorized,
    Unavailable,
)

Body = dict[str, Any]
Ask = Callable[[Body], Awaitable[Body]]
# Every other request would be refused for the same reason.
_HOPELESS = (Unauthorized, Forbidden, NotFound)
_BUSY = (TooManyRequests, Unavailable)
_random = random.SystemRandom()


class AnswersEnded(CommandFailed):
    """Nobody answers any more: what was asked last says nothing about its own request."""


@dataclass(frozen=True)
class Patience:
    """All times in seconds. One request is tried for ``longest`` in all while others are served
    (429) or a service is away (503); a pause is what the answer says, else ``first_wait`` and then
    twice as long each time, and never more than ``longest_wait``."""

    longest: float = 900
    first_wait: float = 0.5
    longest_wait: float = 30


@dataclass(frozen=True)
class Answerer:
    """A model that can be asked.

    ``model_sha`` is the sha256 of its weights' manifest (of a run's result, else of the base
    model's files), or empty where the weights are somebody else's. ``capacity``: how many requests
    are answered at once. ``inference``: the service of our own that holds the model, as
    ``loaded_as``.
    """

    model_id: str
    model_sha: str
    capacity: int
    ask: Ask = field(repr=False)
    patience: Patience = Patience()
    inference: InferenceClient | None = field(default=None, repr=False)
    loaded_as: str = ""

    async def answer(self, body: Body) -> Body:
        """OpenAI's answer to the body of a chat completion, whose ``model`` is filled in here.

        A named error where this one request was refused or came to nothing; `AnswersEnded` where
        no request would be answered.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.patience.longest
        wait = self.patience.first_wait
        while True:
            try:
                return await self.ask(body | {"model": self.model_id})
            except _HOPELESS as error:
                raise AnswersEnded(error.message) from error
            except _BUSY as error:
                pause = min(error.retry_after or wait, self.patience.longest_wait)
                if loop.time() + pause > deadline:
                    raise AnswersEnded(_given_up(self.patience, error)) from error
            # (All that were turned away at once should not come back at once.)
            await asyncio.sleep(pause * _random.uniform(1, 1.25))
            wait = min(2 * wait, self.patience.longest_wait)


def _given_up(patience: Patience, error: GenPlatError) -> str:
    return f"No answer came for {patience.longest / 60:.0f} minutes. {error.message}"
