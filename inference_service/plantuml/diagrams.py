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
from inference_service.plantuml.source import END, extract_source, source_lines
from shared.chat import GenerationParameters
from shared.datasets import Message
from shared.diagrams import RenderedDiagram, RenderError
from shared.errors import InvalidRequest

INSTRUCTION = (
    "You draw diagrams. Answer with exactly one PlantUML diagram of what the user describes: "
    "PlantUML code only, the first line @startuml, the last line @enduml, no explanation."
)
# A greedy repair tends to repeat its mistake.
REPAIR_TEMPERATURE = 0.4


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
    messages = messages if weights.tuned else _instruct(messages)
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
        messages = (*messages, *_complaint(diagram))
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
    reason = "it was cut off at max_tokens" if answer.finish_reason == "length" else "see source"
    error = RenderError(
        message=f"The answer holds no complete @startuml … @enduml diagram ({reason})."
    )
    return RenderedDiagram(source=answer.text.strip(), rendered=False, error=error)


def _instruct(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """A model that never learned to draw is told to; its user's own instructions stay."""
    first = messages[0]
    if first.role != "system":
        return (Message(role="system", content=INSTRUCTION), *messages)
    joined = first.model_copy(update={"content": f"{first.content}\n\n{INSTRUCTION}"})
    return (joined, *messages[1:])


def _at_attempt(parameters: GenerationParameters, attempt: int) -> GenerationParameters:
    """The first attempt is greedy unless asked otherwise; each later one differs, repeatably."""
    temperature = parameters.temperature or 0.0
    if attempt == 1:
        return parameters.model_copy(update={"temperature": temperature})
    seed = (parameters.seed or 0) + attempt
    repair = {"temperature": max(temperature, REPAIR_TEMPERATURE), "seed": seed}
    return parameters.model_copy(update=repair)


def _complaint(diagram: RenderedDiagram) -> tuple[Message, Message]:
    """The failed source, and what is wrong with it, as the next turns of the conversation."""
    error = diagram.error or RenderError(message="It cannot be rendered.")
    lines = source_lines(diagram.source)
    place = ""
    if error.line is not None and error.line <= len(lines):
        place = f" in line {error.line}: {lines[error.line - 1].strip()}"
    request = (
        f"PlantUML cannot render this{place}\n{error.message}\n"
        "Write the whole corrected diagram, from @startuml to @enduml."
    )
    return (
        Message(role="assistant", content=diagram.source),
        Message(role="user", content=request),
    )
