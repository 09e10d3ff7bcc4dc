"""Files, jobs and events in pages, on both databases."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gateway.database import Database
from gateway.openai_api import files, ids, job_events, jobs
from gateway.tables import Dataset, MetricRow, Run, RunEventRow
from shared.errors import InvalidRequest
from shared.run_events import Logged
from tests.gateway.parts import DATASET, OWNER, add_dataset, spec

START = datetime(2026, 1, 1, tzinfo=UTC)


def at(second: int) -> datetime:
    return START + timedelta(seconds=second)


@pytest.fixture
def database(either_database: Database) -> Database:
    """Two files to learn from, two results, each pair made at the same moment; and others'."""
    for owner, dataset_id in ((OWNER, DATASET), (OWNER, "ds_b"), ("them", "ds_theirs")):
        add_dataset(either_database, owner=owner, dataset_id=dataset_id)
    with either_database.write() as session:
        for dataset_id in (DATASET, "ds_b", "ds_theirs"):
            session.get_one(Dataset, dataset_id).created_at = at(1)
        for owner, name in ((OWNER, "a"), (OWNER, "b"), ("them", "theirs")):
            session.add(_run(owner, name))
    return either_database


def _run(owner: str, name: str) -> Run:
    return Run(
        id=f"run_{name}",
        owner=owner,
        spec=spec().model_dump(mode="json"),
        base_model="b",
        dataset_id=DATASET,
        status="succeeded",
        created_at=at(1),
        finished_at=at(2),
        openai={"metadata": {'a "b" \\ c': name}} if name == "b" else None,
    )


def paged(list_one: Any, limit: int) -> list[str]:
    """The ids of all pages."""
    found: list[str] = []
    after = None
    while True:
        page = list_one(after=after, limit=limit)
        assert len(page.data) <= limit
        found += [one.id for one in page.data]
        if not page.has_more:
            return found
        after = found[-1]


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 10])
def test_files_in_both_orders(database: Database, limit: int) -> None:
    oldest_first = ["file-b", "file-test", "file-result-a", "file-result-b"]
    for order, expected in (("asc", oldest_first), ("desc", oldest_first[::-1])):

        def page(order: Any = order, **place: Any) -> Any:
            return files.list_files(database=database, owner=OWNER, order=order, **place)

        assert paged(page, limit) == expected


def test_sizes_are_those_of_the_content(database: Database) -> None:
    with database.write() as session:
        session.add(MetricRow(run_id="run_a", step=2, epoch=1, loss=1e-7, eval_loss=0.1 + 0.2))
        session.add(MetricRow(run_id="run_a", step=10, epoch=1, mean_token_accuracy=1 / 3))
        session.add(MetricRow(run_id="run_theirs", step=1, epoch=1))
    found = files.list_files(database=database, owner=OWNER, purpose=files.RESULTS).data
    with database.read() as session:
        for file in found:
            rows = [
                row
                for step in (1, 2, 10)
                if (row := session.get(MetricRow, (file.stored_id, step))) is not None
            ]
            content = files.result_csv(rows)
            assert file.bytes == len(content)
            assert len(content.splitlines()) == 1 + len(rows)


@pytest.mark.parametrize("limit", [1, 2])
def test_jobs(database: Database, limit: int) -> None:
    def page(**place: Any) -> Any:
        return jobs.list_jobs(database=database, owner=OWNER, **place)

    assert paged(page, limit) == ["ftjob-b", "ftjob-a"]
    for wanted, expected in (
        ({'a "b" \\ c': "b"}, ["ftjob-b"]),
        ({'a "b" \\ c': "B"}, []),
        ("null", ["ftjob-a"]),
    ):
        assert paged(lambda w=wanted, **place: page(metadata=w, **place), limit) == expected


@pytest.mark.parametrize("limit", [1, 2, 1000])
def test_events_of_several_attempts(database: Database, limit: int) -> None:
    with database.write() as session:
        for attempt, seq in ((1, 1), (1, 2), (1, 10), (2, 0), (2, 1), (10, 0)):
            session.add(
                RunEventRow(
                    run_id="run_a",
                    attempt=attempt,
                    seq=seq,
                    stream_id="1-1",
                    type="log",
                    time=at(3),
                    payload=Logged(message=f"{attempt}.{seq}").model_dump(mode="json"),
                )
            )
        session.get_one(Run, "run_a").attempt = 10

    def page(**place: Any) -> Any:
        return job_events.list_events(database=database, owner=OWNER, job_id="ftjob-a", **place)

    found = paged(page, limit)
    assert [ids.event_id("run_a", place) for place in _PLACES] == found
    assert len(set(found)) == len(found)
    with pytest.raises(InvalidRequest):
        page(after=found[0].replace("-a-", "-b-"))


_PLACES = (
    *("11-999999999-1", "11-999999999-0", "10-0-0", "2-1-0", "2-0-0"),
    *("1-10-0", "1-2-0", "1-1-0", "0-0-0"),
)
