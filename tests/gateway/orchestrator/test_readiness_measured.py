"""A fallback measured for real, over HTTP and on its page."""

import pytest
from starlette.testclient import TestClient

from gateway.database import Database
from gateway.orchestrator import readiness_reports
from gateway.orchestrator.readiness_reports import (
    ask_for_report,
    find_report,
    get_report,
    run_readiness,
)
from gateway.services import Services
from gateway.settings import GatewaySettings
from gateway.tables import ReadinessReport
from tests.gateway.fake_inference import BROKEN, FakeInference
from tests.gateway.orchestrator.experiments.traffic import make_route, store
from tests.gateway.orchestrator.prompts import FALLBACK, WHOSE, prompt
from tests.gateway.parts import asynchronous, background, gateway_services, until


async def measured(services: Services) -> ReadinessReport:
    def ended() -> bool:
        found = find_report(database=services.database, **WHOSE)
        return found is not None and found.ended_at is not None

    async with background(run_readiness(services)):
        await until(ended)
    return get_report(database=services.database, **WHOSE)


@asynchronous
async def test_a_fallback_is_measured_for_real(
    served: GatewaySettings, inference: FakeInference
) -> None:
    inference.drawing = BROKEN
    async with gateway_services(served) as services:
        make_route(services.database, **FALLBACK)
        texts = [prompt(number) for number in range(3)]
        store(services.database, texts, [prompt(9, kind="diagram", rendered=True)])
        report = await measured(services)
    view = readiness_reports.view_of(report)
    assert view.status == "done" and view.score == pytest.approx(75)
    assert view.figures is not None and view.figures.prompts == 4
    assert view.figures.lost.undrawn == pytest.approx(25)
    assert len(inference.asked) == 4
    assert all(asked["model"] == "new" and asked["temperature"] == 0 for asked in inference.asked)


@asynchronous
async def test_a_dead_fallback_scores_nothing(
    served: GatewaySettings, inference: FakeInference
) -> None:
    inference.dead = {"new"}
    async with gateway_services(served) as services:
        make_route(services.database, **FALLBACK)
        store(services.database, [prompt(number) for number in range(2)])
        report = await measured(services)
    assert (report.status, report.score) == ("done", 0)


@asynchronous
async def test_a_busy_fallback_is_asked_again(
    served: GatewaySettings, inference: FakeInference, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness_reports, "BUSY_SECONDS", 0.01)
    inference.dead, inference.dies_with = {"new"}, (429, "queue_full")
    async with gateway_services(served) as services:
        make_route(services.database, **FALLBACK)
        store(services.database, [prompt()])
        report = await measured(services)
    assert (report.status, report.score) == ("done", 0)
    assert len(inference.asked) == readiness_reports.BUSY_TRIES


@asynchronous
async def test_what_cannot_be_measured_is_not_tried_again_and_again(
    served: GatewaySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stumble(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(readiness_reports, "judge", stumble)
    async with gateway_services(served) as services:
        make_route(services.database, **FALLBACK)
        store(services.database, [prompt()])
        report = await measured(services)
    assert report.status == "failed" and "could not be measured" in (report.error or "")


@asynchronous
async def test_without_prompts_it_says_why_there_is_no_score(served: GatewaySettings) -> None:
    async with gateway_services(served) as services:
        make_route(services.database, **FALLBACK)
        ask_for_report(database=services.database, **WHOSE)
        report = await measured(services)
    assert report.status == "failed" and "no prompt of the last 24 hours" in (report.error or "")


def test_readiness_over_http(client: TestClient, other_owner: str) -> None:
    database: Database = client.app.state.services.database  # type: ignore[attr-defined]
    place = "/api/routes/best/readiness"
    make_route(database)
    assert client.post(place).json()["error"]["code"] == "no_fallback"
    assert client.get(place).json()["error"]["code"] == "readiness_not_found"
    rules = {"targets": [{"deployment": "old"}]} | FALLBACK
    assert client.put("/api/routes/best", json=rules).status_code == 200
    made = client.post(place, headers={"Idempotency-Key": "r1"})
    assert (made.status_code, made.json()["fallback"]) == (202, "new")
    again = client.post(place, headers={"Idempotency-Key": "r1"})
    assert again.json()["id"] == made.json()["id"]
    assert client.get(place).json()["id"] == made.json()["id"]
    client.headers["Authorization"] = f"Bearer {other_owner}"
    assert client.get(place).status_code == client.post(place).status_code == 404


def test_readiness_on_the_routes_page(browser: TestClient) -> None:
    database: Database = browser.app.state.services.database  # type: ignore[attr-defined]
    make_route(database, **FALLBACK)
    assert "Measure now" in browser.get("/routes/best").text
    asked = browser.post("/routes/best/readiness")
    assert (asked.status_code, asked.headers["location"]) == (303, "/routes/best#readiness")
    part = browser.get("/routes/best/readiness")
    assert part.text.startswith('<section class="panel" id="readiness"')
