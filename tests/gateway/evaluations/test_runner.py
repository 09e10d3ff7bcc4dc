"""Evaluations over stops: several gateways on one database, nothing asked twice."""

from collections.abc import Iterator
from typing import Any

import pytest
from sqlmodel import select

from gateway.database import Database
from gateway.evaluations.creating import create_evaluation
from gateway.evaluations.recording import EVALUATIONS, store
from gateway.evaluations.rows import Wanted, list_examples
from gateway.evaluations.runner import run_evaluations
from gateway.evaluations.spec import EvaluationSpec
from gateway.evaluations.views import (
    cancel_evaluation,
    delete_evaluation,
    list_evaluations,
    resume_evaluation,
)
from gateway.leases import LeaseLost, claim
from gateway.services import Services
from gateway.settings import GatewaySettings
from gateway.tables import Deployment, Evaluation, EvaluationAnswer
from shared.datasets import Record
from shared.model_library import BUNDLED_MODEL
from shared.storage import atomic_file
from tests.gateway.evaluations.asked import says, word_rows
from tests.gateway.fake_inference import FakeInference, fake_inference
from tests.gateway.parts import (
    DATASET,
    OWNER,
    asynchronous,
    background,
    fake_prepared,
    gateway_services,
    until,
)


@pytest.fixture
def inference() -> Iterator[FakeInference]:
    # Loaded already: a first request that is told to come back would count as asked.
    loaded = {"name": "good", "ref": {"base_model": BUNDLED_MODEL}, "state": "ready"}
    with fake_inference(FakeInference(says=says, models={"good": loaded})) as fake:
        yield fake


@pytest.fixture
def quick(settings: GatewaySettings, inference: FakeInference) -> GatewaySettings:
    return settings.model_copy(
        update={
            "inference_url": inference.url,
            "reconcile_seconds": 0.1,
            "evaluation_lease_seconds": 1.2,
            "evaluation_requests": 4,
        }
    )


async def prepared(services: Services, rows: int, **changes: Any) -> str:
    """An evaluation of a deployment on so many rows; its id."""
    fake_prepared(services.storage, BUNDLED_MODEL)
    records = [Record.from_pair(row["prompt"], row["completion"]) for row in word_rows(rows)]
    with atomic_file(services.storage.dataset_records(DATASET)) as file:
        file.writelines(f"{record.model_dump_json()}\n".encode() for record in records)
    with services.database.write() as session:
        session.add(Deployment(name="good", owner=OWNER, model="m", base_model=BUNDLED_MODEL))
    spec = {"dataset_id": DATASET, "candidates": ["good"], "metrics": ["exact_match"]} | changes
    view = await create_evaluation(
        services=services, owner=OWNER, spec=EvaluationSpec.model_validate(spec)
    )
    return view.id


def read(services: Services, evaluation_id: str) -> Evaluation:
    with services.database.read() as session:
        return session.get_one(Evaluation, evaluation_id)


def answers(services: Services) -> list[EvaluationAnswer]:
    with services.database.read() as session:
        return list(session.exec(select(EvaluationAnswer)).all())


def asked(inference: FakeInference) -> list[str]:
    return [body["messages"][-1]["content"] for body in inference.asked]


@asynchronous
async def test_two_gateways_share_the_work_of_two_evaluations(
    quick: GatewaySettings, inference: FakeInference
) -> None:
    inference.seconds_a_word = 0.01
    async with gateway_services(quick) as services:
        first = await prepared(services, 20)
        second = (
            await create_evaluation(
                services=services,
                owner=OWNER,
                spec=EvaluationSpec(dataset_id=DATASET, candidates=["good"], metrics=["length"]),
            )
        ).id
        async with background(run_evaluations(services), run_evaluations(services)):
            for one in (first, second):
                await until(lambda one=one: read(services, one).status == "succeeded")
        assert len(answers(services)) == len(inference.asked) == 40
        assert read(services, first).holder is None


@asynchronous
async def test_a_postgres_keeps_it_all(
    quick: GatewaySettings, inference: FakeInference, postgres: Database
) -> None:
    url = postgres.engine.url.render_as_string(hide_password=False)
    inference.says = lambda body: "ünï\x00"
    async with gateway_services(quick.model_copy(update={"database_url": url})) as services:
        evaluation = await prepared(services, 8)
        async with background(run_evaluations(services), run_evaluations(services)):
            await until(lambda: read(services, evaluation).status == "succeeded")
        found = read(services, evaluation)
        assert found.results is not None and found.done == 8
        listed = list_evaluations(database=services.database, owner=OWNER, dataset_name=DATASET)
        assert [one.id for one in listed.data] == [evaluation]
        wanted = Wanted("worst", limit=3)
        rows = list_examples(
            database=services.database, owner=OWNER, evaluation_id=evaluation, wanted=wanted
        )
        assert len(rows.data) == 3 and rows.has_more
        delete_evaluation(database=services.database, owner=OWNER, evaluation_id=evaluation)
        assert answers(services) == []


@asynchronous
async def test_a_stopped_gateway_hands_over_at_once(
    quick: GatewaySettings, inference: FakeInference
) -> None:
    inference.seconds_a_word = 0.03
    patient = quick.model_copy(update={"evaluation_lease_seconds": 600})
    async with gateway_services(patient) as services:
        evaluation = await prepared(services, 30)
        async with background(run_evaluations(services)):
            await until(lambda: read(services, evaluation).done >= 3)
        stopped = len(answers(services))
        assert stopped < 30 and read(services, evaluation).status == "running"
        before = {asked(inference)[0]}
        inference.asked.clear()
        async with background(run_evaluations(services)):
            await until(lambda: read(services, evaluation).status == "succeeded")
        # Only what no answer was there for; what was under way is asked once more.
        assert len(answers(services)) == 30
        assert len(inference.asked) == 30 - stopped
        assert before.isdisjoint(asked(inference))


@asynchronous
async def test_a_killed_gateway_is_gone_on_for_after_its_lease(
    quick: GatewaySettings, inference: FakeInference
) -> None:
    async with gateway_services(quick) as services:
        evaluation = await prepared(services, 5)
        lost = claim(services.database, EVALUATIONS, seconds=0.6)
        assert lost is not None
        mine = EvaluationAnswer(evaluation_id=evaluation, candidate=0, place=2, text="mine")
        store(lost, mine)
        async with background(run_evaluations(services)):
            await until(lambda: read(services, evaluation).status == "succeeded")
        assert len(inference.asked) == 4
        assert {row.text for row in answers(services) if row.place == 2} == {"mine"}
        # The one that was killed was only frozen: it may write no more.
        with pytest.raises(LeaseLost):
            store(lost, EvaluationAnswer(evaluation_id=evaluation, candidate=0, place=9))
        assert read(services, evaluation).status == "succeeded"


@asynchronous
async def test_a_cancel_stops_who_works(quick: GatewaySettings, inference: FakeInference) -> None:
    inference.seconds_a_word = 0.6
    async with gateway_services(quick) as services:
        evaluation = await prepared(services, 5)
        async with background(run_evaluations(services)):
            await until(lambda: len(inference.asked) > 0)
            cancel_evaluation(database=services.database, owner=OWNER, evaluation_id=evaluation)
            # Its requests are not waited for.
            await until(lambda: inference.left_early > 0)
            inference.seconds_a_word = 0
            resume_evaluation(database=services.database, owner=OWNER, evaluation_id=evaluation)
            await until(lambda: read(services, evaluation).status == "succeeded")
        assert len(answers(services)) == 5
