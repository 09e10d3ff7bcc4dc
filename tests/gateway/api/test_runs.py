"""`/api/runs` over HTTP, and its event stream with all ways to leave and come back."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from gateway.runs import queued_command
from gateway.settings import GatewaySettings
from gateway.tables import Deployment, LibraryModel
from shared import event_stream
from shared.model_library import BUNDLED_MODEL, LibraryEntry
from shared.run_events import (
    Advanced,
    Checkpointed,
    Finished,
    Logged,
    Measured,
    Payload,
    RunEvent,
    Sampled,
    Started,
)
from tests.gateway.api.live import Live, live_gateway
from tests.gateway.parts import DATASET, OWNER, add_dataset, event, success, until_true

SPEC = {"base_model": BUNDLED_MODEL, "dataset_id": DATASET}


@pytest.fixture
def live(settings: GatewaySettings) -> Iterator[Live]:
    with live_gateway(settings) as live:
        yield live


def create(live: Live, **headers: str) -> dict[str, Any]:
    answer = live.http.post("/api/runs", json=SPEC, headers=headers)
    assert answer.status_code == 202, answer.text
    body: dict[str, Any] = answer.json()
    return body


def show(live: Live, run_id: str) -> dict[str, Any]:
    body: dict[str, Any] = live.http.get(f"/api/runs/{run_id}").json()
    return body


def tell(live: Live, *events: RunEvent) -> list[str]:
    """Publish from a loop of our own, as a worker would."""

    async def publish() -> list[str]:
        async with Redis.from_url(live.services.settings.redis_url) as redis:
            return [await event_stream.publish(redis, one) for one in events]

    return asyncio.run(publish())


def events_of(run_id: str, *payloads: Payload, first: int = 1) -> list[RunEvent]:
    return [event(run_id, payload, seq=seq) for seq, payload in enumerate(payloads, first)]


def measured(step: int) -> Measured:
    return Measured(step=step, total_steps=3, epoch=step / 3, loss=1 / step, eta_seconds=3.0 - step)


def stream(live: Live, run_id: str, *, last: str | None = None) -> Iterator[dict[str, Any]]:
    headers = {"Last-Event-ID": last} if last else {}
    with live.http.stream("GET", f"/api/runs/{run_id}/events", headers=headers) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        found: dict[str, Any] = {}
        for line in answer.iter_lines():
            name, _, value = line.partition(": ")
            if name in ("event", "id"):
                found[name] = value
            elif name == "data":
                found["data"] = json.loads(value)
            elif not line and found:
                yield found
                found = {}


def test_a_run_shows_what_the_contract_says(live: Live) -> None:
    run = create(live)
    assert (run["status"], run["queue_position"], run["attempt"]) == ("queued", 1, 1)
    assert run["error"] is None and run["fine_tuned_model"] is None
    assert run["spec"]["base_model"] == BUNDLED_MODEL
    second = create(live)
    assert second["queue_position"] == 2
    listed = live.http.get("/api/runs", params={"limit": 1}).json()
    assert ([one["id"] for one in listed["data"]], listed["has_more"]) == ([second["id"]], True)
    rest = live.http.get("/api/runs", params={"after": second["id"]}).json()
    assert ([one["id"] for one in rest["data"]], rest["has_more"]) == ([run["id"]], False)


def test_the_same_submit_twice_is_one_run(live: Live) -> None:
    header = {"Idempotency-Key": "once"}
    assert create(live, **header)["id"] == create(live, **header)["id"]
    assert len(live.http.get("/api/runs").json()["data"]) == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("dataset_id", "ds_unknown"),
        ("dataset_id", "ds_theirs"),
        ("validation_dataset_id", "ds_unknown"),
        ("validation_dataset_id", SPEC["dataset_id"]),
        ("base_model", "nobody/nothing"),
        ("learning_rate", -1),
        ("adapter_path", "/etc"),
    ],
)
def test_a_wrong_field_is_named(live: Live, field: str, value: object) -> None:
    add_dataset(live.services.database, owner="somebody-else", dataset_id="ds_theirs")
    answer = live.http.post("/api/runs", json=SPEC | {field: value})
    assert answer.status_code == 422
    assert answer.json()["error"]["param"].startswith(field)


@pytest.mark.parametrize("folder", ["/models/mine", None])
def test_the_trainer_is_told_where_an_added_model_lies(live: Live, folder: str | None) -> None:
    entry = LibraryEntry(id="local/mine", name="mine", folder=folder)
    with live.services.database.write() as session:
        session.add(LibraryModel(id=entry.id, owner=OWNER, entry=entry.model_dump()))
    run = live.http.post("/api/runs", json=SPEC | {"base_model": entry.id}).json()
    command = queued_command(database=live.services.database, run_id=run["id"])
    assert command is not None
    assert command.base_model_folder == (Path(folder) if folder else None)


def test_the_trainer_is_told_which_request_made_a_run(live: Live) -> None:
    run = create(live, **{"x-request-id": "makes-a-run"})
    for _ in range(2):
        # Whoever puts it into the queue, and however often.
        command = queued_command(database=live.services.database, run_id=run["id"])
        assert command is not None and command.request_id == "makes-a-run"


def test_metrics_and_log(live: Live) -> None:
    run_id = create(live)["id"]
    tell(
        live,
        *events_of(
            run_id,
            Started(worker="w"),
            measured(1),
            Measured(step=1, total_steps=3, epoch=0.3, eval_loss=0.7),
            Logged(message="a line\nof two"),
        ),
    )
    until_true(lambda: len(live.http.get(f"/api/runs/{run_id}/log").json()["data"]) == 3)
    [row] = live.http.get(f"/api/runs/{run_id}/metrics").json()["data"]
    assert (row["step"], row["loss"], row["eval_loss"], row["grad_norm"]) == (1, 1.0, 0.7, None)
    log = live.http.get(f"/api/runs/{run_id}/log").json()["data"]
    assert [(line["level"], line["message"]) for line in log] == [
        ("info", "Step 1 of 3: loss 1.0000."),
        ("info", "Step 1: validation loss 0.7000."),
        ("info", "a line\nof two"),
    ]


def test_the_stream_from_the_start_to_the_end(live: Live) -> None:
    run_id = create(live)["id"]
    items = stream(live, run_id)
    first = next(items)
    assert (first["event"], first["data"]["status"]) == ("state", "queued")
    history = events_of(
        run_id,
        Started(worker="w"),
        Advanced(phase="training"),
        measured(1),
        Logged(message="forged\n\nevent: state\ndata: {}"),
        Sampled(step=1, prompt="p", target="t", output="o"),
        Checkpointed(step=1, path="step-1"),
        success(live.services.storage, run_id),
    )
    ids = tell(live, *history)
    rest = list(items)
    passed_on = [(item["event"], item["id"]) for item in rest if item["event"] != "state"]
    assert passed_on == [
        ("metrics", ids[2]),
        ("log", ids[2]),
        ("log", ids[3]),
        ("sample", ids[4]),
        ("checkpoint", ids[5]),
        ("log", ids[5]),
        ("log", ids[6]),
    ]
    assert (rest[-1]["event"], rest[-1]["data"]["status"]) == ("state", "succeeded")
    assert rest[-1]["id"] == ids[-1]
    log = [item["data"] for item in rest if item["event"] == "log"]
    assert log[1]["message"] == "forged\n\nevent: state\ndata: {}"
    assert log == live.http.get(f"/api/runs/{run_id}/log").json()["data"]


def test_a_reader_goes_on_where_it_was(live: Live) -> None:
    run_id = create(live)["id"]
    history = events_of(run_id, Started(worker="w"), measured(1), measured(2), measured(3))
    ids = tell(live, *history, event(run_id, Finished(status="failed", code="x"), seq=5))
    until_true(lambda: show(live, run_id)["status"] == "failed")

    def steps(last: str | None) -> list[int]:
        first, *rest = stream(live, run_id, last=last)
        assert (first["event"], first["data"]["status"]) == ("state", "failed")
        assert rest[-1]["event"] == "state"
        return [item["data"]["step"] for item in rest if item["event"] == "metrics"]

    assert steps(None) == [1, 2, 3]
    assert steps(ids[1]) == [2, 3]
    assert steps(ids[4]) == []
    assert steps("99999-0") == steps("not an id; drop table") == [1, 2, 3]


def test_the_stream_of_a_cancelled_run_ends(live: Live) -> None:
    run_id = create(live)["id"]
    items = stream(live, run_id)
    next(items)
    cancelled = live.http.post(f"/api/runs/{run_id}/cancel")
    assert (cancelled.status_code, cancelled.json()["status"]) == (200, "cancelled")
    assert [item["data"]["status"] for item in items] == ["cancelled"]
    assert live.http.post(f"/api/runs/{run_id}/cancel").status_code == 200


def test_too_many_streams_are_refused(settings: GatewaySettings) -> None:
    with live_gateway(settings.model_copy(update={"max_sse_streams": 1})) as live:
        run_id = create(live)["id"]
        items = stream(live, run_id)
        next(items)
        refused = live.http.get(f"/api/runs/{run_id}/events")
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "5")
        live.http.post(f"/api/runs/{run_id}/cancel")
        assert len(list(items)) == 1
        assert live.http.get(f"/api/runs/{run_id}/events").status_code == 200


def test_a_run_is_cancelled_by_its_worker(live: Live) -> None:
    run_id = create(live)["id"]
    tell(live, *events_of(run_id, Started(worker="w")))
    until_true(lambda: show(live, run_id)["status"] == "running")
    asked = live.http.post(f"/api/runs/{run_id}/cancel").json()
    assert asked["status"] == "running" and asked["cancel_requested_at"]
    tell(live, event(run_id, Finished(status="cancelled"), seq=2))
    until_true(lambda: show(live, run_id)["status"] == "cancelled")


def test_only_ended_runs_that_nobody_serves_are_deleted(live: Live) -> None:
    run_id = create(live)["id"]
    assert live.http.delete(f"/api/runs/{run_id}").status_code == 409
    tell(live, *events_of(run_id, measured(1), success(live.services.storage, run_id)))
    until_true(lambda: show(live, run_id)["status"] == "succeeded")
    assert live.http.post(f"/api/runs/{run_id}/cancel").status_code == 409
    with live.services.database.write() as session:
        deployment = Deployment(name="d", owner=OWNER, model="m", base_model="b", run_id=run_id)
        session.add(deployment)
    assert live.http.delete(f"/api/runs/{run_id}").status_code == 409
    assert live.http.delete("/api/deployments/d").status_code == 204
    folder = live.services.storage.run(run_id)
    assert folder.is_dir()
    assert live.http.delete(f"/api/runs/{run_id}").status_code == 204
    assert not folder.exists()
    assert live.http.get(f"/api/runs/{run_id}").status_code == 404
    assert live.http.delete(f"/api/runs/{run_id}").status_code == 404


def test_runs_of_others_do_not_exist(live: Live) -> None:
    run = live.succeeded_run(owner="somebody-else")
    for method, path in [
        ("GET", ""),
        ("DELETE", ""),
        ("GET", "/events"),
        ("GET", "/metrics"),
        ("GET", "/log"),
        ("GET", "/checkpoints"),
        ("POST", "/cancel"),
        ("POST", "/pause"),
        ("POST", "/resume"),
        ("POST", "/stop"),
    ]:
        assert live.http.request(method, f"/api/runs/{run.id}{path}").status_code == 404
