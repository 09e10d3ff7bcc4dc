"""Somebody who answers chat requests. Knows not who it is."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from gateway.answering.patience import BUSY, Patience, patiently
from gateway.client import CommandFailed
from gateway.inference_client import InferenceClient
from shared.errors import Forbidden, NotFound, Unauthorized

Body = dict[str, Any]
Ask = Callable[[Body], Awaitable[Body]]
# Every other request would be refused for the same reason.
_HOPELESS = (Unauthorized, Forbidden, NotFound)


class AnswersEnded(CommandFailed):
    """Nobody answers any more: what was asked last says nothing about its own request."""


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
    patience: Patience = field(default_factory=Patience)
    inference: InferenceClient | None = field(default=None, repr=False)
    loaded_as: str = ""

    async def answer(self, body: Body) -> Body:
        """OpenAI's answer to the body of a chat completion, whose ``model`` is filled in here.

        A named error where this one request was refused or came to nothing; `AnswersEnded` where
        no request would be answered.
        """
        named = body | {"model": self.model_id}
        try:
            return await patiently(lambda: self.ask(named), self.patience)
        except _HOPELESS as error:
            raise AnswersEnded(error.message) from error
        except BUSY as error:
            minutes = self.patience.longest / 60
            raise AnswersEnded(f"No answer came for {minutes:.0f} min. {error.message}") from error
