"""Brings a request to the first model of its plan that answers; knows neither bodies nor HTTP."""

import asyncio
import itertools
import logging
import math
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Generic, TypeVar

from gateway import preparation
from gateway.completion_requests import Request
from gateway.inference_client import NOT_LOADED, NOT_PREPARED, RETRY_SECONDS
from gateway.models import plan_unnamed
from gateway.orchestrator.breaker import COOLDOWN_SECONDS, Visit
from gateway.orchestrator.fallback import first_that_answers, is_dead
from gateway.orchestrator.plans import NOBODY, Plan, Target, find_named
from gateway.orchestrator.retries import delay_before
from gateway.orchestrator.routing import Asker
from gateway.orchestrator.shadows import Offer
from gateway.request_log.entries import Entry
from gateway.services import Services
from shared.chat import ModelRef
from shared.errors import (
    GenPlatError,
    InvalidRequest,
    NotFound,
    TimedOut,
    TooManyRequests,
    Unavailable,
)
from shared.model_library import is_prepared

Result = TypeVar("Result")

log = logging.getLogger(__name__)

PREPARE_SECONDS = 90.0
_POLL_SECONDS = 0.25
_random = random.SystemRandom()
HTTP_ERRORS = 400


@dataclass(frozen=True)
class Answered(Generic[Result]):
    """An answer, and who gave it after how many others; ``reason`` says why they did not,
    ``retries`` how often somebody was asked once more. Whoever has it says to ``visit`` how the
    answer ended. ``others`` may step in for it."""

    result: Result
    target: Target
    visit: Visit
    others: tuple[Target, ...]
    fallbacks: int
    reason: str | None
    retries: int


@dataclass(frozen=True)
class Served(Answered[Result]):
    """An answer to a request for a name."""

    plan: Plan

    @property
    def headers(self) -> dict[str, str]:
        """They tell whoever asked."""
        headers = {"x-genplat-served-by": self.target.label}
        if self.plan.route is not None:
            headers["x-genplat-route"] = self.plan.route
            headers["x-genplat-fallbacks"] = str(self.fallbacks)
        if self.reason is not None:
            headers["x-genplat-fallback-reason"] = self.reason
        if self.retries:
            headers["x-genplat-retries"] = str(self.retries)
        return headers


async def plan_for(*, services: Services, owner: str, model: str, asker: Asker = NOBODY) -> Plan:
    """Whom to ask for ``model``, in order. `NotFound` where nobody has this name."""
    find = partial(
        find_named,
        database=services.database,
        owner=owner,
        model=model,
        upstreams=services.upstreams.upstreams,
    )
    named = await services.known_names.get((owner, model), find)
    if named is not None:
        return named.plan(draw=_random.random(), asker=asker, cost=partial(_cost, services))
    return await asyncio.to_thread(
        plan_unnamed,
        database=services.database,
        storage=services.storage,
        owner=owner,
        model=model,
    )


def _cost(services: Services, label: str) -> float:
    """What asking a target costs in time; one that is given a rest cannot be the quickest."""
    if services.breakers.of(label).state == "open":
        return math.inf
    return services.latencies.cost(label)


def able_to_answer(plan: Plan, request: Request) -> Plan:
    """The plan with those alone who can do what is asked: a service LLM that does not go on with
    what was begun would answer it."""
    if not getattr(request, "continue_final_message", False):
        return plan
    able = tuple(target for target in plan.targets if target.continues)
    if not able:
        raise InvalidRequest(
            f"continue_final_message: nobody behind {plan.model!r} goes on with an answer that "
            "was begun.",
            param="continue_final_message",
        )
    return replace(plan, targets=able)


async def serve(
    *, services: Services, owner: str, plan: Plan, ask: Callable[[Target], Awaitable[Result]]
) -> Served[Result]:
    """Ask the models of a plan, one after the other."""
    found = await ask_in_turn(services=services, owner=owner, targets=plan.targets, ask=ask)
    return Served(**vars(found), plan=plan)


def offer_to_shadow(
    services: Services, owner: str, plan: Plan, request: Request, entry: Entry
) -> None:
    """What a reader has been answered may be asked of the route's shadow too; what stands in no
    log could not be compared."""
    if plan.shadow is None or plan.route is None or entry.status >= HTTP_ERRORS:
        return
    if entry.origin.keeps != "none" and entry.origin.kind != "batch":
        offer = Offer(owner, plan.route, plan.shadow, request, entry.id, entry.origin)
        services.shadows.offer(offer)


async def ask_in_turn(
    *,
    services: Services,
    owner: str,
    targets: Sequence[Target],
    ask: Callable[[Target], Awaitable[Result]],
) -> Answered[Result]:
    """The first answer. Targets that failed lately are left alone for a while, unless there is
    nobody else."""

    retries = 0

    async def ask_target(target: Target, is_last: bool) -> tuple[Result, Visit]:
        nonlocal retries
        for retry in itertools.count(1):
            visit = services.breakers.of(target.label).visit()
            if not visit.admitted and not is_last and retry == 1:
                raise Unavailable(
                    f"{target.label} failed lately and is given a rest.", code="circuit_open"
                )
            try:
                return await _ask_once(services, owner, target, ask, is_last=is_last), visit
            except GenPlatError as error:
                failed(visit, target, error)
                if is_dead(error):
                    log.warning(
                        "%s did not answer (%s): %s", target.label, error.code, error.message
                    )
                delay = _delay(services, target, error, retry, is_last=is_last)
                if delay is None:
                    raise
            except BaseException:
                visit.left()
                raise
            retries += 1
            await asyncio.sleep(delay)
        raise AssertionError("unreachable")

    found = await first_that_answers(targets, ask_target)
    result, visit = found.result
    others = tuple(targets[found.fallbacks + 1 :])
    return Answered(result, found.target, visit, others, found.fallbacks, found.reason, retries)


async def _ask_once(
    services: Services,
    owner: str,
    target: Target,
    ask: Callable[[Target], Awaitable[Result]],
    *,
    is_last: bool,
) -> Result:
    """Whoever is the last one is waited for as long as it may take anyway."""
    with services.latencies.asking(target.label):
        if target.timeout_seconds is None or is_last:
            found = await _ask_loaded(services, owner, target, ask, may_wait=is_last)
        else:
            try:
                async with asyncio.timeout(target.timeout_seconds):
                    found = await _ask_loaded(services, owner, target, ask, may_wait=is_last)
            except TimeoutError as error:
                raise TimedOut(
                    f"{target.label} said nothing for {target.timeout_seconds:g} s.",
                    code="target_timeout",
                ) from error
    if target.upstream is not None:
        services.retry_budgets.of(target.label).succeeded()
    return found


def _delay(
    services: Services, target: Target, error: GenPlatError, retry: int, *, is_last: bool
) -> float | None:
    """Seconds until the target is asked once more, None: no more. (Our own service starts again
    by itself, and says when.)"""
    upstream, budget = target.upstream, services.retry_budgets.of(target.label)
    if upstream is None or target.fault is not None or not is_dead(error):
        return None
    budget.failed()
    if retry > upstream.retries or not budget.allows:
        return None
    has_rest = services.breakers.of(target.label).state != "closed"
    if has_rest and not isinstance(error, TooManyRequests):
        return None
    return delay_before(error, retry, is_last=is_last)


def failed(visit: Visit, target: Target, error: GenPlatError) -> None:
    """Tell the target's breaker how an answer ended; what a drill made says nothing of it."""
    if target.fault is not None or not is_dead(error):
        visit.left()
        return
    # A full queue of our own service empties in moments; a service LLM means what it says.
    visit.failed(
        error.code,
        retry_after=error.retry_after if target.upstream is not None else None,
        cooldown=target.upstream.cooldown_seconds if target.upstream else COOLDOWN_SECONDS,
    )


async def _ask_loaded(
    services: Services,
    owner: str,
    target: Target,
    ask: Callable[[Target], Awaitable[Result]],
    *,
    may_wait: bool,
) -> Result:
    """Ask a model; one that is not loaded is loaded first, where there is nobody else to ask."""
    if target.upstream is not None:
        return await ask(target)
    if target.ref is None or target.problem is not None:
        raise Unavailable(
            target.problem or "The model is gone.",
            code="model_unavailable",
            retry_after=RETRY_SECONDS,
        )
    try:
        return await ask(target)
    except NotFound as error:
        if error.code != NOT_LOADED or not may_wait:
            raise
    await _load(services, owner, target.engine_name, target.ref)
    return await ask(target)


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
