"""What the inference service can do, with all its collaborators; the routes only translate."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from inference_service.engine.engine import Engine
from inference_service.engine.prompts import as_messages
from inference_service.engine.requests import Chunk
from inference_service.generation import likelihood_request, stream_chat, stream_completion
from inference_service.model_manager import ModelManager
from inference_service.openai_shapes import last_of
from inference_service.plantuml.diagrams import Event, draw
from inference_service.plantuml.renderer import Renderer
from inference_service.telemetry import Telemetry
from shared.chat import (
    ChatRequest,
    CompletionRequest,
    DiagramRequest,
    GenerationParameters,
    Likelihood,
    LikelihoodQuestion,
)
from shared.datasets import Message
from shared.diagrams import RenderedDiagram
from shared.errors import InvalidRequest


class InferenceService:
    """Models by name, answers of theirs, and diagrams."""

    def __init__(self, engine: Engine, models: ModelManager, renderer: Renderer) -> None:
        self.engine, self.models, self.renderer = engine, models, renderer
        self.telemetry = Telemetry(lambda: engine.load)
        self.draining = False

    @property
    def problem(self) -> str | None:
        """Why this process should get no requests now."""
        if self.draining:
            return "The service is stopping."
        if not self.engine.alive:
            return "The generation thread has ended."
        # One that cannot start is no reason to keep models from training and answering.
        return self.renderer.problem if self.renderer.starting else None

    async def chat(self, request: ChatRequest) -> AsyncGenerator[Chunk, None]:
        with self.models.lease(request.model) as weights:
            messages = as_messages(request.messages)
            begun = messages[-1].content if request.continue_final_message else ""
            asked = messages[:-1] if request.continue_final_message else messages
            answer = stream_chat(self.engine, weights, asked, request, begun)
            async with aclosing(self.telemetry.watch("chat", answer)) as chunks:
                async for chunk in chunks:
                    yield chunk

    async def complete(self, request: CompletionRequest) -> AsyncGenerator[Chunk, None]:
        with self.models.lease(request.model) as weights:
            answer = stream_completion(self.engine, weights, request)
            async with aclosing(self.telemetry.watch("completion", answer)) as chunks:
                async for chunk in chunks:
                    yield chunk

    async def likelihood(self, question: LikelihoodQuestion) -> Likelihood:
        with self.models.lease(question.model) as weights:
            messages = as_messages(question.messages)
            request = await asyncio.to_thread(
                likelihood_request, weights, messages, question.answer
            )
            found = await self.engine.log_likelihood(request)
        return Likelihood(log_likelihood=found, tokens=len(request.answer_ids))

    async def draw(
        self, parameters: GenerationParameters, messages: tuple[Message, ...], max_attempts: int
    ) -> AsyncGenerator[Event, None]:
        with self.models.lease(parameters.model) as weights:
            drawing = draw(
                self.engine,
                self.renderer,
                weights,
                messages,
                parameters,
                max_attempts=max_attempts,
            )
            async with aclosing(self.telemetry.watch("diagram", drawing)) as events:
                async for event in events:
                    yield event

    async def diagram(self, request: DiagramRequest) -> RenderedDiagram:
        """A source rendered as it is, or a scenario drawn by a model."""
        if (request.source is None) == (request.scenario is None):
            raise InvalidRequest("Give either source or scenario.", param="source")
        if request.source is not None:
            diagram = await self.renderer.render(request.source)
            self.telemetry.count_render(diagram)
            return diagram
        if not request.model or not request.scenario:
            raise InvalidRequest("A scenario needs a model that draws it.", param="model")
        parameters = GenerationParameters(
            model=request.model,
            max_tokens=request.max_tokens,
            temperature=request.temperature,
            seed=request.seed,
        )
        messages = (Message(role="user", content=request.scenario),)
        drawn = await last_of(self.draw(parameters, messages, request.max_attempts))
        return drawn.diagram
