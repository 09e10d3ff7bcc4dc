"""From a scenario to a diagram: ask the model, find the source, render it, tell the model what the
renderer said, and try again. Knows no HTTP."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from inference_service.engine.engine import Engine
from inference_service.engine.requests import FinishReason
from inference_service.generation import stream_chat
from inference_service.model_manager import Weights
from inference_service.plantuml.renderer import Renderer
from shared.chat import GenerationParameters
from shared.datasets import Message
from shared.diagram_talk import (
    END,
    REPAIR_TEMPERATURE,
    complaint,
    extract_source,
    instructed,
    without_a_diagram,
)
from shared.diagrams import RenderedDiagram
from shared.errors import InvalidRequest


@dataclass(frozen=True)
class Accepted:
    """The model took an attempt's request, or ended it: nothing to show."""


@dataclass(frozen=True)
class Draft:
    """A piece of what the model writes in an attempt."""

    attempt: int
    text: str


@dataclass(frozen=True)
class Drawn:
    """The end: the diagram, rendered or with the reason why not, and what it cost."""

    diagram: RenderedDiagram
    finish_reason: FinishReason
    prompt_tokens: int
    completion_tokens: int


Event = Accepted | Draft | Drawn


@dataclass
class _Answer:
    """What one attempt brought."""

    text: str = ""
    finish_reason: FinishReason = "stop"
    prompt_tokens: int = 0
    completion_tokens: int = 0


async def draw(
    engine: Engine,
    renderer: Renderer,
    weights: Weights,
    messages: tuple[Message, ...],
    parameters: GenerationParameters,
    *,
    max_attempts: int,
) -> AsyncGenerator[Event, None]:
    """Draw a conversation's last wish in at most ``max_attempts`` attempts."""
    messages = messages if weights.tuned else instructed(messages)
    drawn: Drawn | None = None
    prompt_tokens = completion_tokens = 0
    for attempt in range(1, max_attempts + 1):
        answer = _Answer()
        try:
            turns = _write(engine, weights, messages, _at_attempt(parameters, attempt), answer)
            async with aclosing(turns) as pieces:
                async for piece in pieces:
                    yield Draft(attempt, piece) if piece else Accepted()
        except InvalidRequest:
            # The conversation has outgrown the model: the attempts so far are the answer.
            if drawn is None:
                raise
            break
        prompt_tokens += answer.prompt_tokens
        completion_tokens += answer.completion_tokens
        diagram = (await _render(renderer, answer)).model_copy(update={"attempts": attempt})
        drawn = Drawn(diagram, answer.finish_reason, prompt_tokens, completion_tokens)
        if diagram.rendered:
            break
        messages = (*messages, *complaint(diagram))
    assert drawn is not None  # noqa: S101 - there is at least one attempt
    yield drawn


async def _write(
    engine: Engine,
    weights: Weights,
    messages: tuple[Message, ...],
    parameters: GenerationParameters,
    answer: _Answer,
) -> AsyncGenerator[str, None]:
    """The pieces of one attempt, up to the end of its diagram: a model may ramble on after it."""
    async with aclosing(stream_chat(engine, weights, messages, parameters)) as chunks:
        async for chunk in chunks:
            answer.text += chunk.text
            answer.prompt_tokens = chunk.prompt_tokens
            answer.completion_tokens = chunk.completion_tokens
            answer.finish_reason = chunk.finish_reason or "stop"
            yield chunk.text
            if END in answer.text and extract_source(answer.text) is not None:
                return


async def _render(renderer: Renderer, answer: _Answer) -> RenderedDiagram:
    source = extract_source(answer.text)
    if source is not None:
        return await renderer.render(source)
    return without_a_diagram(answer.text, cut_off=answer.finish_reason == "length")


def _at_attempt(parameters: GenerationParameters, attempt: int) -> GenerationParameters:
    """The first attempt is greedy unless asked otherwise; each later one differs, repeatably."""
    temperature = parameters.temperature or 0.0
    if attempt == 1:
        return parameters.model_copy(update={"temperature": temperature})
    seed = (parameters.seed or 0) + attempt
    repair = {"temperature": max(temperature, REPAIR_TEMPERATURE), "seed": seed}
    return parameters.model_copy(update=repair)
