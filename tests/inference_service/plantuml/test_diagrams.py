"""Drawing with a scripted model: extraction, repair, drafts; the renderer is a fake that reads."""

import asyncio
import dataclasses
from collections.abc import AsyncGenerator, Sequence
from typing import cast

import pytest

from inference_service.engine.base_model import BaseModel
from inference_service.engine.engine import Engine
from inference_service.engine.lora import Adapter
from inference_service.engine.requests import Chunk, GenerationRequest
from inference_service.model_manager import Weights
from inference_service.plantuml.diagrams import Draft, Drawn, Event, draw
from inference_service.plantuml.renderer import Renderer
from shared.chat import GenerationParameters
from shared.datasets import Message
from shared.diagram_talk import INSTRUCTION
from shared.diagrams import RenderedDiagram, RenderError
from shared.errors import InvalidRequest

pytestmark = pytest.mark.anyio

GOOD = "@startuml\nA -> B\n@enduml"
WRONG = "@startuml\nwrong ((\n@enduml"
ASKED = (Message(role="user", content="A calls B."),)


class ScriptedEngine:
    """Says one prepared answer after another, a few letters at a time."""

    def __init__(self, *answers: str, finish: str = "stop") -> None:
        self.answers, self.finish = list(answers), finish
        self.requests: list[GenerationRequest] = []
        self.closed = 0

    async def stream(self, request: GenerationRequest) -> AsyncGenerator[Chunk, None]:
        self.requests.append(request)
        answer = self.answers.pop(0)
        pieces = [answer[start : start + 3] for start in range(0, len(answer), 3)]
        try:
            yield Chunk("", len(request.prompt_ids))
            for number, piece in enumerate(pieces, start=1):
                await asyncio.sleep(0)
                yield Chunk(piece, len(request.prompt_ids), number)
            reason = "length" if self.finish == "length" else "stop"
            yield Chunk("", len(request.prompt_ids), len(pieces), reason)  # type: ignore[arg-type]
        finally:
            self.closed += 1


class ReadingRenderer:
    """Draws every source without the word wrong."""

    async def render(self, source: str) -> RenderedDiagram:
        if "wrong" in source:
            error = RenderError(line=2, message="Syntax Error?")
            return RenderedDiagram(source=source, rendered=False, error=error)
        return RenderedDiagram(source=source, rendered=True, svg="<svg/>", png="")


async def events_of(
    engine: ScriptedEngine,
    weights: Weights,
    *,
    attempts: int = 3,
    messages: tuple[Message, ...] = ASKED,
    **parameters: object,
) -> tuple[list[Draft], Drawn]:
    events: Sequence[Event] = [
        event
        async for event in draw(
            cast(Engine, engine),
            cast(Renderer, ReadingRenderer()),
            weights,
            messages,
            GenerationParameters.model_validate({"model": "m", **parameters}),
            max_attempts=attempts,
        )
    ]
    drawn = events[-1]
    assert isinstance(drawn, Drawn)
    return [event for event in events if isinstance(event, Draft)], drawn


def said_to(engine: ScriptedEngine, attempt: int) -> str:
    request = engine.requests[attempt - 1]
    text: str = request.base.tokenizer.decode(request.prompt_ids)
    return text


async def test_a_good_first_answer_is_the_diagram(base: BaseModel) -> None:
    engine = ScriptedEngine(f"Sure!\n```\n{GOOD}\n```\nAnything else?")
    drafts, drawn = await events_of(engine, Weights(base))
    assert (drawn.diagram.source, drawn.diagram.rendered) == (GOOD, True)
    assert drawn.diagram.attempts == 1
    # Nobody waits for what the model would say after its diagram.
    shown = "".join(draft.text for draft in drafts)
    assert GOOD in shown
    assert "else?" not in shown
    assert (drawn.finish_reason, engine.closed) == ("stop", 1)


async def test_a_base_model_is_told_to_draw_and_a_tuned_one_is_not(
    base: BaseModel, adapters: dict[str, Adapter]
) -> None:
    plain, tuned, own = ScriptedEngine(GOOD), ScriptedEngine(GOOD), ScriptedEngine(GOOD)
    await events_of(plain, Weights(base))
    await events_of(tuned, Weights(base, adapters["run_a"], tuned=True))
    system = Message(role="system", content="Use colours.")
    await events_of(own, Weights(base), messages=(system, *ASKED))
    assert INSTRUCTION in said_to(plain, 1)
    assert INSTRUCTION not in said_to(tuned, 1)
    assert f"Use colours.\n\n{INSTRUCTION}" in said_to(own, 1)


async def test_the_renderers_words_go_back_to_the_model(base: BaseModel) -> None:
    engine = ScriptedEngine(WRONG, WRONG, GOOD)
    roomy = dataclasses.replace(base, context_length=4096)
    drafts, drawn = await events_of(engine, Weights(roomy))
    assert (drawn.diagram.rendered, drawn.diagram.attempts) == (True, 3)
    assert "in line 2: wrong ((\nSyntax Error?" in said_to(engine, 2)
    assert f"assistant\n{WRONG}" in said_to(engine, 2)
    assert {draft.attempt for draft in drafts} == {1, 2, 3}
    assert drawn.prompt_tokens == sum(len(request.prompt_ids) for request in engine.requests)
    temperatures = [request.sampling.temperature for request in engine.requests]
    assert temperatures == [0, 0.4, 0.4]
    seeds = [request.sampling.seed for request in engine.requests]
    assert seeds[1] != seeds[2]


async def test_what_never_renders_comes_with_its_source_and_line(base: BaseModel) -> None:
    _, drawn = await events_of(ScriptedEngine(WRONG, WRONG), Weights(base), attempts=2)
    assert drawn.diagram.source == WRONG
    assert drawn.diagram.attempts == 2
    assert drawn.diagram.error == RenderError(line=2, message="Syntax Error?")


async def test_an_answer_without_a_diagram_is_told_apart(base: BaseModel) -> None:
    engine = ScriptedEngine("I would rather not.", GOOD)
    _, drawn = await events_of(engine, Weights(base))
    assert drawn.diagram.rendered
    assert "holds no complete" in said_to(engine, 2)
    cut = ScriptedEngine("@startuml\nA ->", finish="length")
    _, drawn = await events_of(cut, Weights(base), attempts=1)
    assert drawn.finish_reason == "length"
    assert "max_tokens" in (drawn.diagram.error or RenderError(message="")).message
    assert drawn.diagram.source == "@startuml\nA ->"


async def test_a_conversation_that_outgrows_the_model_ends_with_what_there_is(
    base: BaseModel,
) -> None:
    wrong = "@startuml\nwrong " + "x" * 300 + "\n@enduml"
    _, drawn = await events_of(ScriptedEngine(wrong, GOOD), Weights(base))
    assert (drawn.diagram.rendered, drawn.diagram.attempts) == (False, 1)
    with pytest.raises(InvalidRequest) as caught:
        long = (Message(role="user", content="x" * 600),)
        await events_of(ScriptedEngine(GOOD), Weights(base), messages=long)
    assert caught.value.code == "context_length_exceeded"


async def test_a_given_temperature_is_kept(base: BaseModel) -> None:
    engine = ScriptedEngine(WRONG, GOOD)
    await events_of(engine, Weights(base), temperature=0.9, seed=5)
    assert [r.sampling.temperature for r in engine.requests] == [0.9, 0.9]
    assert [r.sampling.seed for r in engine.requests] == [5, 7]
