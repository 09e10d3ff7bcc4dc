"""Pre-flight reports through the API and the pages; a hand-written trainer answers the queue."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from gateway import preflight
from gateway.api import preflight as preflight_api
from shared.memory import MemoryEstimate
from shared.model_library import BUNDLED_MODEL
from shared.preflight import (
    Bin,
    DatasetFacts,
    Example,
    LengthReport,
    MemoryReport,
    Piece,
    PreflightFile,
    PreflightReport,
    TimeReport,
)
from shared.runs import FineTuneSpec
from shared.storage import Storage, atomic_file
from tests.valkey import Valkey

EVIL = "<script>alert(1)</script>"
CSV = "text,target\n" + "".join(f"question {n},answer {n}\n" for n in range(30))


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight_api, "WAIT_SECONDS", 0.3)


@pytest.fixture
def dataset_id(client: TestClient) -> str:
    files = {"file": ("a.csv", CSV, "text/csv")}
    answer = client.post("/api/datasets", files=files, data={"name": "pairs"})
    assert answer.status_code == 201, answer.text
    found: str = answer.json()["id"]
    return found


def check(client: TestClient, of: str, **spec: Any) -> Any:
    body = {"base_model": BUNDLED_MODEL, **spec}
    return client.post(f"/api/datasets/{of}/preflight", json=body)


def queued(valkey: Valkey) -> list[dict[str, Any]]:
    with valkey.client() as redis:
        keys = redis.keys("arq:job:preflight:*")
        return [json.loads(redis.get(key))["a"][0] for key in keys]


def work_off(valkey: Valkey, storage: Storage, **changes: Any) -> PreflightReport:
    """What a trainer does: write the report of the one job that waits, and be done with it."""
    (command,) = queued(valkey)
    need = MemoryEstimate(
        weights=1, gradients=1, optimizer=1, activations=2, evaluation_peak=1, overhead=1
    )
    told = {
        "id": command["id"],
        "status": "done",
        "created_at": datetime.now(UTC),
        "spec": FineTuneSpec.model_validate(command["run"]["spec"]),
        "datasets": [DatasetFacts.model_validate(each) for each in command["datasets"]],
        "warnings": [EVIL],
        "examples": [Example(pieces=[Piece(text=EVIL, learned=True)])],
        "lengths": [
            LengthReport(
                what="row", field="max_length", limit=20, over=1, fate="left out", median=9,
                percentile_95=9, longest=30,
                histogram=[Bin(start=1, end=21, count=3), Bin(start=21, end=41, count=1)],
            )
        ],
        "memory": MemoryReport(
            device="cpu (A)", kind="cpu", precision="fp32", available_bytes=5, need=need,
            fits=False, changes={"gradient_checkpointing": True}, then=need, sentence="Too large.",
        ),
        "time": TimeReport(measured=False, reason="Busy."),
    } | changes  # fmt: skip
    report = PreflightReport.model_validate(told)
    with atomic_file(storage.preflight(report.id)) as handle:
        handle.write(
            PreflightFile(owner=command["owner"], report=report).model_dump_json().encode()
        )
    with valkey.client() as redis:
        redis.flushall()
    return report


@pytest.fixture
def data(app: FastAPI) -> Iterator[Storage]:
    storage: Storage = app.state.services.storage
    yield storage


def test_a_check_is_queued_once_and_its_report_found(
    client: TestClient, dataset_id: str, valkey: Valkey, data: Storage
) -> None:
    first = check(client, dataset_id)
    assert (first.status_code, first.json()["status"]) == (202, "running")
    again = check(client, dataset_id)
    assert again.json()["id"] == first.json()["id"] and len(queued(valkey)) == 1
    place = f"/api/preflights/{first.json()['id']}"
    assert client.get(place).status_code == 202
    (command,) = queued(valkey)
    assert command["run"]["run_id"] == command["id"] and command["model"]["id"] == BUNDLED_MODEL
    assert [(each["name"], each["rows"]) for each in command["datasets"]] == [("pairs", 30)]
    work_off(valkey, data)
    found = client.get(place)
    assert (found.status_code, found.json()["status"]) == (200, "done")
    assert found.json()["report"]["memory"]["need"]["total"] == 6
    # The same question is answered at once; another one is not.
    assert check(client, dataset_id).status_code == 200 and queued(valkey) == []
    assert check(client, dataset_id, lora_r=4).status_code == 202


def test_a_report_that_may_say_more_later_is_made_again_later(
    client: TestClient, dataset_id: str, valkey: Valkey, data: Storage
) -> None:
    check(client, dataset_id)
    work_off(valkey, data, final=False)
    assert check(client, dataset_id).status_code == 200
    check(client, dataset_id, lora_r=4)
    old = datetime.now(UTC) - preflight.FRESH - timedelta(seconds=1)
    work_off(valkey, data, final=False, created_at=old)
    assert check(client, dataset_id, lora_r=4).status_code == 202
    work_off(valkey, data, status="failed", problems=["It was killed."])
    assert check(client, dataset_id, lora_r=4).status_code == 202


def test_a_check_that_was_cut_short_can_be_asked_again(
    client: TestClient, dataset_id: str, valkey: Valkey
) -> None:
    asked = check(client, dataset_id).json()["id"]
    valkey.flush()
    gone = client.get(f"/api/preflights/{asked}")
    assert gone.status_code == 404 and "Check the run again" in gone.json()["error"]["message"]
    assert check(client, dataset_id).status_code == 202


def test_reports_are_their_owners(
    client: TestClient, dataset_id: str, valkey: Valkey, data: Storage, other_owner: str
) -> None:
    asked = check(client, dataset_id).json()["id"]
    work_off(valkey, data)
    theirs = {"Authorization": f"Bearer {other_owner}"}
    assert client.get(f"/api/preflights/{asked}", headers=theirs).status_code == 404
    refused = client.post(
        f"/api/datasets/{dataset_id}/preflight", json={"base_model": BUNDLED_MODEL}, headers=theirs
    )
    assert refused.status_code == 422


def test_a_report_goes_with_its_dataset(
    client: TestClient, dataset_id: str, valkey: Valkey, data: Storage
) -> None:
    asked = check(client, dataset_id).json()["id"]
    work_off(valkey, data)
    assert client.delete(f"/api/datasets/{dataset_id}").status_code == 204
    assert client.get(f"/api/preflights/{asked}").status_code == 404


@pytest.mark.parametrize(
    ("spec", "param"),
    [
        ({"base_model": "no/such"}, "base_model"),
        ({"learning_rate": 10}, "learning_rate"),
        ({"dataset_id": "ds_other"}, "dataset_id"),
        ({"datasets": [{"id": "ds_other"}]}, "datasets"),
        ({"validation_dataset_id": "ds_other"}, "validation_dataset_id"),
        ({"no_such_field": 1}, "no_such_field"),
    ],
)
def test_a_run_that_cannot_be_made_is_refused_by_field(
    client: TestClient, dataset_id: str, valkey: Valkey, spec: dict[str, Any], param: str
) -> None:
    answer = check(client, dataset_id, **spec)
    assert (answer.status_code, answer.json()["error"]["param"]) == (422, param)
    assert queued(valkey) == []


def test_no_dataset_no_check(client: TestClient) -> None:
    answer = check(client, "ds_none")
    assert (answer.status_code, answer.json()["error"]["param"]) == (422, "dataset_id")


@pytest.mark.parametrize("odd", ["x", "../../etc/passwd", "a" * 200, "%2e%2e"])
def test_odd_ids_are_not_found(client: TestClient, odd: str) -> None:
    assert client.get(f"/api/preflights/{odd}").status_code == 404


def form(dataset_id: str, **fields: str) -> dict[str, str]:
    return {"dataset_id": dataset_id, "base_model": BUNDLED_MODEL, "method": "lora"} | fields


def as_browser(client: TestClient) -> TestClient:
    client.headers["Sec-Fetch-Site"] = "same-origin"
    return client


def test_a_browser_checks_a_run_and_starts_it(
    client: TestClient, dataset_id: str, valkey: Valkey, data: Storage
) -> None:
    browser = as_browser(client)
    asked = browser.post("/runs/preflight", data=form(dataset_id, suffix="mine"))
    assert asked.status_code == 303, asked.text
    place = asked.headers["location"]
    waiting = browser.get(place).text
    assert f'hx-get="{place}"' in waiting and "Start this run" not in waiting
    fragment = browser.get(place, headers={"HX-Request": "true"}).text
    assert fragment.startswith('<div id="report"')
    assert browser.post(f"{place}/start").headers["location"] == place
    report = work_off(valkey, data)
    shown = browser.get(place).text
    assert EVIL not in shown and shown.count("&lt;script&gt;alert(1)") == 2
    assert "<mark>&lt;script" in shown and "does not fit" in shown and "Not measured." in shown
    assert "1 row over max_length 20 is left out." in shown
    started = browser.post(f"{place}/start")
    assert started.status_code == 303
    run = browser.get(f"/api{started.headers['location']}").json()
    assert run["spec"] == report.spec.model_dump(mode="json")
    changed = browser.post(f"{place}/start", data={"changed": "1"})
    run = browser.get(f"/api{changed.headers['location']}").json()
    assert run["spec"]["gradient_checkpointing"] is True
    again = browser.post(f"{place}/again", data={"changed": "1"})
    assert again.headers["location"] not in ("", place)


def test_a_wrong_field_brings_the_form_back(client: TestClient, dataset_id: str) -> None:
    browser = as_browser(client)
    answer = browser.post("/runs/preflight", data=form(dataset_id, learning_rate="10"))
    assert answer.status_code == 422
    assert 'id="learning_rate-error"' in answer.text and 'value="10"' in answer.text
