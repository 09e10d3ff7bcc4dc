"""Shadow traffic: asked in the background, logged beside the reader's, dropped where it is busy."""

import asyncio
from typing import Any

import pytest
from sqlmodel import col, select

from gateway.database import Database
from gateway.orchestrator.breaker import Breakers
from gateway.orchestrator.plans import NOBODY, Shadow, Target, find_named
from gateway.orchestrator.shadow_comparison import shadow_comparisons
from gateway.orchestrator.shadow_work import run_shadows
from gateway.orchestrator.shadows import WAITING, Offer, Shadows
from gateway.request_log.entries import Origin
from gateway.services import Services
from gateway.settings import GatewaySettings
from gateway.tables import LoggedRequest
from shared.chat import ChatRequest, CompletionRequest, ModelRef
from shared.errors import NotFound
from shared.model_library import BUNDLED_MODEL
from tests.gateway.fake_inference import BROKEN, FakeInference
from tests.gateway.orchestrator.experiments.traffic import OWNER, ROUTE, make_route, row, store
from tests.gateway.parts import asynchronous, background, gateway_services, until

REF = ModelRef(base_model=BUNDLED_MODEL)
MINE = Target("mine", "mine", REF)
MESSAGES = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}]


def offer(target: Target = MINE, *, share: float = 1.0, **changes: Any) -> Offer:
    request = ChatRequest.model_validate(
        {"model": ROUTE, "messages": MESSAGES, "stream": True, "max_tokens": 9}
        | {"stream_options": {"include_usage": True}}
        | changes.pop("body", {})
    )
    values = {"owner": OWNER, "route": ROUTE, "request": request, "reader_id": "req_1"}
    values["origin"] = Origin(key_id="key_1", keeps=changes.pop("keeps", "content"))
    return Offer(shadow=Shadow(target, share), **(values | changes))


async def asked(services: Services, *offers: Offer) -> list[LoggedRequest]:
    """What is logged of the offers, all of which are taken."""
    async with background(run_shadows(services)):
        assert all(services.shadows.offer(one) for one in offers)
        await until(lambda: sum(services.shadows.counts.values()) == len(offers))
        await asyncio.sleep(0)
    return await logged_rows(services)


async def logged_rows(services: Services) -> list[LoggedRequest]:
    await services.log.flush()
    with services.database.read() as session:
        return list(session.exec(select(LoggedRequest).order_by(col(LoggedRequest.created_at))))


@asynchronous
async def test_a_shadow_is_asked_the_same_and_logged(
    served: GatewaySettings, inference: FakeInference
) -> None:
    async with gateway_services(served) as services:
        (logged,) = await asked(services, offer())
        assert services.shadows.counts == {"answered": 1}
    (sent,) = inference.asked
    assert sent == {"model": "mine", "messages": MESSAGES, "max_tokens": 9}
    assert (logged.shadow_of, logged.served_by, logged.route) == ("req_1", "mine", ROUTE)
    assert (logged.reply, logged.status, logged.messages) == ("Hello there!", 200, MESSAGES)
    assert (logged.prompt_tokens, logged.completion_tokens) == (5, 3)
    assert logged.seconds > 0 and logged.key_id == "key_1"


@asynchronous
async def test_texts_that_are_not_to_be_kept_are_not(served: GatewaySettings) -> None:
    async with gateway_services(served) as services:
        (logged,) = await asked(services, offer(keeps="metadata"))
    assert logged.messages is None and logged.reply is None and logged.status == 200


@asynchronous
async def test_diagrams_and_plain_completions_are_shadowed_too(
    served: GatewaySettings, inference: FakeInference
) -> None:
    inference.drawing = BROKEN
    plain = CompletionRequest(model=ROUTE, prompt="Once")
    async with gateway_services(served) as services:
        rows = await asked(services, offer(body={"diagram": {}}), offer(request=plain))
    drawn, written = sorted(rows, key=lambda row: row.kind == "completion")
    assert (drawn.kind, drawn.rendered, drawn.reply) == ("diagram", False, BROKEN["source"])
    assert (written.kind, written.rendered, written.reply) == ("completion", None, "Hello there!")
    assert written.messages == [{"role": "user", "content": "Once"}]


@asynchronous
async def test_a_failing_shadow_is_logged_and_then_left_alone(
    served: GatewaySettings, inference: FakeInference
) -> None:
    inference.dead = {"mine"}
    async with gateway_services(served) as services:
        rows = await asked(services, *[offer() for _ in range(3)])
        assert [(row.status, row.error_code, row.reply) for row in rows] == [
            (503, "queue_full", None)
        ] * 3
        assert services.breakers.of("mine").state == "open"
        assert not services.shadows.offer(offer())
        assert services.shadows.counts == {"failed": 3, "resting": 1}
        # Later one is let through to see, though no reader asks that target.
        services.breakers.of("mine").open_until = 0
        assert services.shadows.offer(offer()) and not services.shadows.offer(offer())


@asynchronous
async def test_a_full_queue_of_our_own_says_nothing_of_the_model(
    served: GatewaySettings, inference: FakeInference
) -> None:
    inference.dead, inference.dies_with = {"mine"}, (429, "queue_full")
    async with gateway_services(served) as services:
        assert await asked(services, *[offer() for _ in range(4)]) == []
        assert services.shadows.counts == {"busy": 4}
        assert services.breakers.of("mine").state == "closed"


@asynchronous
async def test_what_is_too_much_is_dropped_at_once(
    served: GatewaySettings, inference: FakeInference
) -> None:
    inference.seconds_a_word = 0.1
    async with gateway_services(served) as services:
        shadows = services.shadows
        # Nobody works yet: as many wait as there is room for, the others are dropped.
        taken = [shadows.offer(offer()) for _ in range(WAITING + 2)]
        assert taken == [True] * WAITING + [False] * 2 and shadows.counts == {"busy": 2}
        async with background(run_shadows(services, at_once=2)):
            await until(lambda: shadows.counts["answered"] >= 3)
    assert inference.most_at_once == 2


def test_a_share_of_the_requests_is_offered() -> None:
    shadows = Shadows(Breakers(), draw=lambda: 0.3)
    assert not shadows.offer(offer(share=0.3))
    assert shadows.counts == {"skipped": 1}
    assert shadows.offer(offer(share=0.31))


@asynchronous
async def test_a_target_that_is_gone_is_a_failed_shadow(served: GatewaySettings) -> None:
    gone = Target("mine", "mine", None, problem="The deployment 'mine' does not exist any more.")
    async with gateway_services(served) as services:
        (logged,) = await asked(services, offer(gone))
    assert (logged.status, logged.error_code) == (503, "model_unavailable")


def test_a_plan_names_the_shadow(database: Database) -> None:
    make_route(database, shadow={"deployment": "new", "share": 0.25})
    named = find_named(database=database, owner=OWNER, model=ROUTE, upstreams={})
    assert named is not None
    plan = named.plan(draw=0.5, asker=NOBODY)
    assert [target.label for target in plan.targets] == ["old"]
    assert plan.shadow is not None
    assert (plan.shadow.target.label, plan.shadow.share) == ("new", 0.25)


def test_pairs_are_compared_without_a_reader(database: Database) -> None:
    make_route(database)
    with pytest.raises(NotFound):
        shadow_comparisons(database=database, owner="somebody", name=ROUTE)
    assert shadow_comparisons(database=database, owner=OWNER, name=ROUTE) == []
    readers = [
        row("old", id="req_0", reply="the quick brown fox", rendered=True, seconds=2.0),
        row("old", id="req_1", reply="it jumps", rendered=True, seconds=4.0),
        row("old", id="req_2", reply=None),
    ]
    shadows = [
        row("new", shadow_of="req_0", reply="the quick brown fox", rendered=False, seconds=1.0),
        row("new", shadow_of="req_1", status=503, error_code="model_unavailable"),
        row("new", shadow_of="req_2", reply="unasked", seconds=1.0),
        row("new", shadow_of="req_gone", reply="lost"),
        row("third", shadow_of="req_0", reply="entirely other words"),
    ]
    store(database, readers, shadows)
    found = shadow_comparisons(database=database, owner=OWNER, name=ROUTE)
    new, third = sorted(found, key=lambda one: one.shadow)
    assert (new.pairs, new.compared, new.alike) == (3, 1, 1.0)
    assert new.shadows.answered == pytest.approx(2 / 3) and new.readers.answered == 1
    assert (new.shadows.rendered, new.readers.rendered) == (0.0, 1.0)
    assert new.readers.median_seconds == 2.0 and new.shadows.median_seconds == 1.0
    assert third.alike is not None and third.alike < 0.4
