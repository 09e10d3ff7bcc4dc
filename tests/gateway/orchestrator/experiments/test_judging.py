"""A judge says how good the answers of both arms are; what it says is an outcome."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import ValidationError
from sqlmodel import select

from gateway.orchestrator.experiments.judging import judge_experiment
from gateway.orchestrator.experiments.spec import ExperimentSpec
from gateway.orchestrator.experiments.watch import read_standing
from gateway.services import Services
from gateway.settings import GatewaySettings
from gateway.tables import LoggedRequest
from tests.gateway.fake_inference import FakeInference, fake_inference
from tests.gateway.orchestrator.experiments.traffic import make_route, row, started, store
from tests.gateway.parts import asynchronous, gateway_services

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
        good = [answer("new", "4", id=f"req_new{number}") for number in range(20)]
        bad = [answer("old", "5", id=f"req_old{number}") for number in range(20)]
        others = [
            answer("old", "odd", id="req_odd"),
            answer("old", "", id="req_empty"),
            answer("old", None, id="req_withheld"),
            answer("old", "4", id="req_stepped", drawn="new", fallbacks=1),
            answer("third", "4", id="req_third"),
            answer("old", "4", id="req_elsewhere", route="another"),
        ]
        store(database, good, bad, others)
        assert await judge_experiment(services, experiment) == 42
        found = scores(services)
        assert {found[one.id] for one in good} == {1.0}
        assert {found[one.id] for one in bad} == {0.25}
        assert found["req_empty"] == 0.0
        assert [found[one.id] for one in others if one.id != "req_empty"] == [None] * 5
        asked = len(inference.asked)
        assert await judge_experiment(services, experiment) == 0
        assert len(inference.asked) == asked
        standing = read_standing(database, experiment)
        assert (standing.treatment.units, standing.treatment.rate) == (20, 1.0)
        assert standing.control.units == 21
        assert standing.low > 0


def test_a_judge_is_named_where_one_is_needed() -> None:
    arms = {"control": "old", "treatment": "new"}
    for wrong in ({"outcome": "judge"}, {"outcome": "thumbs", "judge": "referee"}):
        with pytest.raises(ValidationError, match="names who judges"):
            ExperimentSpec.model_validate(arms | wrong)
