"""Candidates as this gateway asks them: its own models, routes, and service LLMs."""

from collections.abc import Awaitable, Callable
from functools import partial

from pydantic import ValidationError

from gateway.answering.answerer import Answerer
from gateway.completion_requests import CHAT_PATH
from gateway.completions import complete
from gateway.evaluations.asking import Body, Turns, drawn_by
from gateway.evaluations.candidates import Candidate
from gateway.orchestrator.plans import Target
from gateway.request_log.entries import Origin
from gateway.services import Services
from gateway.serving import ask_in_turn, plan_for, serve
from shared.chat import ChatMessage, ChatRequest, Likelihood, LikelihoodQuestion
from shared.errors import InvalidData
from shared.route_labels import UPSTREAM_PREFIX

# It is no traffic, and the evaluation keeps what was said.
_UNLOGGED = Origin(keeps="none")


class AskedHere:
    """One candidate, or a judge."""

    def __init__(self, services: Services, owner: str, candidate: Candidate) -> None:
        self._services, self._owner, self._candidate = services, owner, candidate

    async def answer(self, body: Body) -> tuple[Body, str]:
        served_by = ""

        async def ask(full: Body) -> Body:
            nonlocal served_by
            answer, served_by = await self._answered(full)
            return answer

        return await self._patient(ask).answer(body), served_by

    async def likelihood(self, messages: Turns, answer: str) -> Likelihood | None:
        if self._candidate.kind in ("upstream", "route"):
            return None
        question = partial(
            LikelihoodQuestion,
            messages=[ChatMessage.model_validate(message) for message in messages],
            answer=answer,
        )

        async def ask_target(target: Target) -> Likelihood:
            return await self._services.inference.likelihood(question(model=target.engine_name))

        async def ask(_: Body) -> Body:
            services, owner = self._services, self._owner
            plan = await plan_for(services=services, owner=owner, model=self._candidate.model)
            served = await serve(services=services, owner=owner, plan=plan, ask=ask_target)
            served.visit.succeeded()
            return served.result.model_dump()

        return Likelihood.model_validate(await self._patient(ask).answer({}))

    async def renders(self, source: str) -> bool:
        async def ask(_: Body) -> Body:
            return {"rendered": await drawn_by(self._services.inference, source)}

        return bool((await self._patient(ask).answer({}))["rendered"])

    def _patient(self, ask: Callable[[Body], Awaitable[Body]]) -> Answerer:
        """Who waits for services that are away for a while, and for their turn."""
        capacity = self._services.settings.evaluation_requests
        return Answerer(self._candidate.model, "", capacity, ask)

    async def _answered(self, body: Body) -> tuple[Body, str]:
        if self._candidate.kind == "upstream":
            return await self._of_upstream(body), self._candidate.model
        try:
            request = ChatRequest.model_validate(body)
        except ValidationError as error:
            raise InvalidData("The example is no request that a chat takes.") from error
        answer = await complete(
            services=self._services, owner=self._owner, request=request, origin=_UNLOGGED
        )
        return answer.body, answer.headers.get("x-genplat-served-by", "")

    async def _of_upstream(self, body: Body) -> Body:
        label = self._candidate.model
        upstream = self._services.upstreams.upstreams.get(label.removeprefix(UPSTREAM_PREFIX))
        problem = None if upstream else f"The upstream {label!r} is not declared any more."
        target = Target(label, label, None, problem, upstream)

        async def ask(_: Target) -> Body:
            assert upstream is not None  # noqa: S101 - without one nobody asks
            return await self._services.upstreams.complete(upstream, CHAT_PATH, body)

        answered = await ask_in_turn(
            services=self._services, owner=self._owner, targets=[target], ask=ask
        )
        answered.visit.succeeded()
        return answered.result
