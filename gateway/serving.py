"""Brings a request to the first model of its plan that answers; knows neither bodies nor HTTP."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from gateway import preparation
from gateway.inference_client import NOT_LOADED, NOT_PREPARED, RETRY_SECONDS
from gateway.models import Plan, Target, plan_request
from gateway.orchestrator.fallback import first_that_answers
from gateway.services import Services
from shared.chat import ModelRef
from shared.errors import NotFound, Unavailable
from shared.model_library import is_prepared

Result = TypeVar("Result")

PREPARE_SECONDS = 90.0
_POLL_SECONDS = 0.25
_random = random.SystemRandom()


@dataclass(frozen=True)
class Served(Generic[Result]):
    """An answer, and the headers that tell who gave it."""

    result: Result
    headers: dict[str, str]


async def serve(
    *,
    services: Services,
    owner: str,
    model: str,
    ask: Callable[[str], Awaitable[Result]],
) -> Served[Result]:
    """Ask the models that ``model`` stands for, one after the other. ``ask`` is handed a name of
    the inference service."""
    plan = await asyncio.to_thread(
        plan_request,
        database=services.database,
        storage=services.storage,
        owner=owner,
        model=model,
        draw=_random.random(),
    )

    async def ask_target(target: Target, is_last: bool) -> Result:
        return await _ask_loaded(services, owner, target, ask, may_wait=is_last)

    answered = await first_that_answers(plan.targets, ask_target)
    return Served(
        answered.result, _headers(plan, answered.target, answered.fallbacks, answered.reason)
    )


def _headers(plan: Plan, target: Target, fallbacks: int, reason: str | None) -> dict[str, str]:
    headers = {"x-genplat-served-by": target.label}
    if plan.route is not None:
        headers |= {"x-genplat-route": plan.route, "x-genplat-fallbacks": str(fallbacks)}
    if reason is not None:
        headers["x-genplat-fallback-reason"] = reason
    return headers


async def _ask_loaded(
    services: Services,
    owner: str,
    target: Target,
    ask: Callable[[str], Awaitable[Result]],
    *,
    may_wait: bool,
) -> Result:
    """Ask a model; one that is not loaded is loaded first, where there is nobody else to ask."""
    if target.ref is None or target.problem is not None:
        raise Unavailable(
            target.problem or "The model is gone.",
            code="model_unavailable",
            retry_after=RETRY_SECONDS,
        )
    try:
        return await ask(target.engine_name)
    except NotFound as error:
        if error.code != NOT_LOADED or not may_wait:
            raise
    await _load(services, owner, target.engine_name, target.ref)
    return await ask(target.engine_name)


async def _load(services: Services, owner: str, name: str, ref: ModelRef) -> None:
    """Load a model, after its base model was prepared if need be."""
    try:
        loaded = await services.inference.load(name, ref)
    except NotFound as error:
        if error.code != NOT_PREPARED:
            raise
        await _wait_until_prepared(services, owner, ref.base_model)
        loaded = await services.inference.load(name, ref)
    if loaded.state == "failed":
        raise Unavailable(
            f"The model could not be loaded: {loaded.error}", code="model_unavailable"
        )


async def _wait_until_prepared(services: Services, owner: str, model_id: str) -> None:
    """Have a base model converted and wait for it, but not for ever."""
    try:
        async with asyncio.timeout(PREPARE_SECONDS):
            while not await asyncio.to_thread(is_prepared, services.storage, model_id):
                await preparation.ensure(services=services, owner=owner, model_id=model_id)
                await asyncio.sleep(_POLL_SECONDS)
    except TimeoutError as error:
        raise Unavailable(
            f"{model_id} is still being prepared for its first use. Try again in a minute.",
            code="model_unavailable",
            retry_after=30,
        ) from error
