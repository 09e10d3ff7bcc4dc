"""A judge says how good the answers of both arms are; what it says is an outcome."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import ValidationError
from sqlmodel import select

from gateway.orchestrator.experiments.judging import judge_some, run_judges
from gateway.orchestrator.experiments.spec import ExperimentSpec
from gateway.orchestrator.experiments.watch import read_standing
from gateway.services import Services
from gateway.settings import GatewaySettings
from gateway.tables import LoggedRequest
from shared.tasks import cancel_until_done
from tests.gateway.fake_inference import FakeInference, fake_inference
from tests.gateway.orchestrator.experiments.traffic import make_route, row, started, store
from tests.gateway.parts import asynchronous, background, gateway_services, until

MESSAGES = [{"role": "user", "content": "What is 2 + 2?"}]


def verdict(body: dict[str, Any]) -> str:
    """Likes the answer 4; of one it says nothing that can be read."""
    assert body["model"] == "referee"
    data = json.loads(body["messages"][1]["content"])
    assert data["question"] == "user: What is 2 + 2?"
    if data["answer"] == "odd":
        return "Well, that depends."
    return json.dumps({"reason": "so", "score": 5 if data["answer"] == "4" else 2})


@pytest.fixture
def inference() -> Iterator[FakeInference]:
    with fake_inference() as fake:
        fake.models["referee"] = {"state": "ready"}
        fake.says = verdict
        yield fake


def answer(label: str, reply: str | None, **changes: Any) -> LoggedRequest:
    return row(label, messages=MESSAGES, reply=reply, **changes)


def scores(services: Services) -> dict[str, float | None]:
    with services.database.read() as session:
        return {one.id: one.judge_score for one in session.exec(select(LoggedRequest))}


@asynchronous
async def test_the_answers_of_both_arms_are_judged_once(
    settings: GatewaySettings, inference: FakeInference
) -> None:
    async with gateway_services(
        settings.model_copy(update={"inference_url": inference.url})
    ) as services:
        database = services.database
        make_route(database, labels=("old", "new", "referee"))
        experiment = started(database, outcome="judge", judge="referee")
        good, bad = [], []
        for number in range(20):
            good.append(answer("new", "4", id=f"req_new{number}"))
            bad.append(answer("old", "5", id=f"req_old{number}"))
        others = [
            answer("old", "odd", id="req_odd"),
            answer("old", "", id="req_empty"),
            answer("old", None, id="req_withheld"),
            answer("old", "4", id="req_stepped", drawn="new", fallbacks=1),
            answer("third", "4", id="req_third"),
            answer("old", "4", id="req_elsewhere", route="another"),
        ]
        store(database, good, bad, others)
        judged = [await judge_some(services, experiment) for _ in range(4)]
        assert judged == [16, 16, 10, 0]
        found = scores(services)
        assert {found[one.id] for one in good} == {1.0}
        assert {found[one.id] for one in bad} == {0.25}
        assert found["req_empty"] == 0.0
        assert [found[one.id] for one in others if one.id != "req_empty"] == [None] * 5
        standing = read_standing(database, experiment)
        assert (standing.treatment.units, standing.treatment.rate) == (20, 1.0)
        assert standing.control.units == 21
        assert standing.low > 0


@asynchronous
async def test_what_was_not_judged_when_the_gateway_stopped_is_judged_later(
    settings: GatewaySettings, inference: FakeInference
) -> None:
    quick = {"inference_url": inference.url, "experiment_seconds": 0.02}
    async with gateway_services(settings.model_copy(update=quick)) as services:
        database = services.database
        make_route(database, labels=("old", "new", "referee"))
        experiment = started(database, outcome="judge", judge="referee")
        store(database, [answer("new", "4", id="req_1"), answer("old", "5", id="req_2")])
        inference.seconds_a_word = 9
        judging = asyncio.create_task(judge_some(services, experiment))
        await until(lambda: len(inference.asked) == 2)
        await cancel_until_done([judging])
        assert scores(services) == {"req_1": None, "req_2": None}
        inference.seconds_a_word = 0
        async with background(run_judges(services)):
            await until(lambda: None not in scores(services).values())
    assert scores(services) == {"req_1": 1.0, "req_2": 0.25}


def test_a_judge_is_named_where_one_is_needed() -> None:
    arms = {"control": "old", "treatment": "new"}
    for wrong in ({"outcome": "judge"}, {"outcome": "thumbs", "judge": "referee"}):
        with pytest.raises(ValidationError, match="names who judges"):
            ExperimentSpec.model_validate(arms | wrong)
