"""One answer of a candidate: asked, drawn and weighed as the metrics want it. Knows no database."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

from gateway.answering import AnswersEnded
from gateway.evaluations.metrics.texts import diagram_in
from gateway.evaluations.said import read_said, storable
from gateway.inference_client import InferenceClient
from shared.chat import DiagramRequest, Likelihood
from shared.errors import (
    GenPlatError,
    InvalidData,
    InvalidRequest,
    StorageFull,
    TimedOut,
    TooLarge,
    Unavailable,
    UpstreamFailed,
)

Body = dict[str, Any]
Turns = Sequence[dict[str, Any]]
# Its answer would be the same the next time: it counts as an empty one.
_REFUSALS = (InvalidRequest, InvalidData, TooLarge)
# These may pass, but did not while `gateway.answering.patience` tried.
_HICCUPS = (TimedOut, UpstreamFailed)
# What is no answer is asked for again.
TRIES = 3
# A renderer may be starting; where there is none, nothing is said of what would render.
RENDERER_TRIES, RENDERER_SECONDS = 3, 2.0


@dataclass(frozen=True)
class Reply:
    """``error``: why there is no answer; ``refused``: there never will be one."""

    text: str = ""
    finish_reason: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0
    served_by: str = ""
    error: str | None = None
    refused: bool = False
    rendered: bool | None = None
    log_likelihood: float | None = None
    likelihood_tokens: int | None = None


@dataclass(frozen=True)
class Sampling:
    """How a candidate is asked, under OpenAI's names."""

    max_tokens: int
    temperature: float
    top_p: float | None
    seed: int

    def body(self, messages: Turns) -> Body:
        body: Body = {
            "messages": list(messages),
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
            "seed": self.seed,
        }
        return body if self.top_p is None else body | {"top_p": self.top_p}


class Asker(Protocol):
    """A candidate that can be asked. All raise named errors; `AnswersEnded` where no other request
    would be answered either."""

    async def answer(self, body: Body) -> tuple[Body, str]:
        """OpenAI's answer, and who gave it."""

    async def likelihood(self, messages: Turns, answer: str) -> Likelihood | None:
        """None where nobody can say: the weights are somebody else's, or more than one model's."""

    async def renders(self, source: str) -> bool | None:
        """None where nothing can be drawn here."""


async def ask(
    asker: Asker,
    *,
    messages: Turns,
    references: Sequence[str],
    sampling: Sampling,
    metrics: Sequence[str],
) -> Reply:
    """Everything that the metrics have to know of one answer."""
    reply = await _answer(asker, sampling.body(messages))
    if "render_rate" in metrics and (reply.error is None or reply.refused):
        reply = replace(reply, rendered=await _renders(asker, reply.text))
    if "perplexity" in metrics and references:
        found = await _likelihood(asker, messages, references[0])
        if found is not None:
            reply = replace(
                reply,
                log_likelihood=found.log_likelihood,
                likelihood_tokens=found.tokens,
            )
    return reply


async def _answer(asker: Asker, body: Body) -> Reply:
    error: GenPlatError
    for _ in range(TRIES):
        begun = time.monotonic()
        try:
            answer, served_by = await asker.answer(body)
        except _REFUSALS as refusal:
            return Reply(error=storable(refusal.message), refused=True)
        except _HICCUPS as hiccup:
            return Reply(error=storable(hiccup.message))
        try:
            said = read_said(answer)
        except UpstreamFailed as odd:
            error = odd
            continue
        return Reply(**asdict(said), seconds=time.monotonic() - begun, served_by=served_by)
    return Reply(error=storable(error.message))


async def _renders(asker: Asker, text: str) -> bool | None:
    source = diagram_in(text)
    if not source:
        return False
    for _ in range(RENDERER_TRIES):
        try:
            return await asker.renders(source)
        except _REFUSALS:
            return False
        except (AnswersEnded, StorageFull):
            raise
        except GenPlatError:
            await asyncio.sleep(RENDERER_SECONDS)
    return None


async def _likelihood(asker: Asker, messages: Turns, reference: str) -> Likelihood | None:
    try:
        return await asker.likelihood(messages, reference)
    except (*_REFUSALS, *_HICCUPS):
        return None


async def drawn_by(inference: InferenceClient, source: str) -> bool:
    """Whether the inference service's renderer draws it. UpstreamFailed where it has none: nobody
    should wait for that."""
    try:
        return (await inference.draw(DiagramRequest(source=source))).rendered
    except Unavailable as error:
        if error.code != "renderer_unavailable":
            raise
        raise UpstreamFailed(error.message, code=error.code) from error
