"""A run's page over HTTP: what its live events carry, its samples, and runs side by side."""

import json
import re
from html import unescape
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from gateway.database import Database
from gateway.pages.run_panel import run_context
from gateway.services import Services
from gateway.tables import CheckpointRow, now
from shared.storage import atomic_directory
from tests.gateway.conftest import BASE_URL
from tests.gateway.parts import OWNER, add_dataset, spec
from tests.gateway.run_rows import add_metrics, add_run, add_sample


@pytest.fixture
def services(browser: TestClient, app: FastAPI) -> Services:
    assert browser
    found: Services = app.state.services
    add_dataset(found.database)
    return found


@pytest.fixture
def measured(services: Services) -> Database:
    add_run(services.database, "run_a", status="running", step=40, total_steps=100)
    add_metrics(services.database, "run_a", range(1, 41))
    return services.database


def points_of(text: str) -> dict[str, Any]:
    found = re.search(r'data-points="([^"]+)"', text)
    assert found
    points: dict[str, Any] = json.loads(unescape(found[1]))
    return points


def test_a_runs_page_carries_every_curve(browser: TestClient, measured: Database) -> None:
    assert measured
    points = points_of(browser.get("/runs/run_a").text)
    assert points["since"] == 0
    assert points["curves"]["loss"][0] == list(range(1, 41))
    assert points["curves"]["eval_loss"][0] == [10, 20, 30, 40]
    assert max(points["curves"]["grad_norm"][1]) == 50


def context(services: Services, since: int) -> dict[str, Any]:
    return run_context(services, OWNER, "run_a", BASE_URL, since=since)


def test_later_events_carry_only_what_was_measured_since(services: Services) -> None:
    add_run(services.database, "run_a", status="running", step=40, total_steps=100)
    add_metrics(services.database, "run_a", range(1, 43))
    points = json.loads(context(services, since=40)["points"])
    # The last known step comes again: it may have been validated meanwhile.
    assert (points["since"], points["curves"]["loss"][0]) == (40, [40, 41, 42])
    assert points["curves"]["eval_loss"][0] == [40]


def test_a_run_that_went_back_sends_what_it_measures_again(services: Services) -> None:
    add_run(services.database, "run_a", status="running", step=25, attempt=2, total_steps=100)
    add_metrics(services.database, "run_a", range(1, 43))
    points = json.loads(context(services, since=42)["points"])
    assert (points["since"], points["curves"]["loss"][0][0]) == (25, 25)


def test_a_long_runs_page_stays_small(browser: TestClient, services: Services) -> None:
    add_run(services.database, "run_a", status="running", step=5000, total_steps=5000)
    add_metrics(services.database, "run_a", range(1, 5001), every=250)
    page = browser.get("/runs/run_a").text
    curves = points_of(page)["curves"]
    assert all(len(xs) <= 600 for xs, _ in curves.values())
    assert len(curves["eval_loss"][0]) == 20
    assert 50 in curves["grad_norm"][1]
    assert len(page) < 120_000
    assert len(context(services, since=5000)["points"]) < 1_000


def test_any_evaluation_of_a_run_can_be_looked_at(browser: TestClient, measured: Database) -> None:
    for step, output in ((10, "first try"), (20, "second try")):
        add_sample(measured, "run_a", step=step, output=output)
    page = browser.get("/runs/run_a").text
    assert "<ins>second</ins>" in page and "20 (latest)" in page
    older = browser.get("/runs/run_a", params={"step": 10}).text
    assert "first try" in older and "<ins>second</ins>" not in older
    fragment = browser.get("/runs/run_a/samples", params={"step": 10}).text
    assert fragment.startswith("<section") and "data-pinned" in fragment
    assert browser.get("/runs/run_none/samples").status_code == 404


def test_runs_are_listed_by_state(browser: TestClient, measured: Database) -> None:
    add_run(measured, "run_waits", status="paused")
    everything = browser.get("/runs").text
    assert "run_a" in everything and "run_waits" in everything
    assert 'href="/runs?status=paused"' in everything and "status=failed" not in everything
    paused = browser.get("/runs", params={"status": "paused"}).text
    assert "/runs/run_waits" in paused and "/runs/run_a" not in paused
    assert "No run is failed." in browser.get("/runs", params={"status": "failed"}).text
    assert browser.get("/runs", params={"status": "<b>"}).status_code == 422


def test_runs_are_compared_in_curves_results_and_settings(
    browser: TestClient, measured: Database
) -> None:
    other = spec(suffix="other", learning_rate=0.002).model_dump(mode="json")
    decided = {"lora_r": 16}
    add_run(measured, "run_b", status="succeeded", spec=other, hyperparameters=decided)
    add_metrics(measured, "run_b", range(1, 61))
    answer = browser.get("/runs/compare", params={"run": ["run_a", "run_b", "run_a"]})
    assert answer.status_code == 200
    curves = points_of(answer.text)["curves"]
    assert (len(curves["0.loss"][0]), len(curves["1.loss"][0])) == (40, 60)
    differing, _, equal = answer.text.partition("settings that are the same")
    assert '<th scope="row">learning_rate</th>' in differing
    assert "16 <small" in differing and "<dt>seed</dt>" in equal
    by_epoch = browser.get("/runs/compare", params={"run": ["run_a", "run_b"], "x": "epoch"})
    assert points_of(by_epoch.text)["curves"]["1.loss"][0][-1] == 0.6
    assert 'aria-current="true">By epoch' in by_epoch.text


def test_only_ones_own_runs_are_compared_and_not_one_alone(
    browser: TestClient, measured: Database
) -> None:
    add_run(measured, "run_theirs", owner="somebody-else")
    hidden = browser.get("/runs/compare", params={"run": ["run_a", "run_theirs"]})
    assert hidden.status_code == 404
    alone = browser.get("/runs/compare", params={"run": "run_a"})
    assert alone.status_code == 422 and "Choose 2 to 6 runs" in alone.text
    many = browser.get("/runs/compare", params={"run": [f"run_{n}" for n in range(7)]})
    assert many.status_code == 422 and "7 came here" in many.text


def buttons(browser: TestClient, run_id: str) -> set[str]:
    page = browser.get(f"/runs/{run_id}").text
    return set(re.findall(rf'action="/runs/{run_id}/(\w+)"', page))


def test_a_waiting_run_is_paused_resumed_and_cancelled(
    browser: TestClient, services: Services
) -> None:
    add_run(services.database, "run_q")
    waits = browser.get("/api/runs/run_q").json()["waiting_for"]
    assert waits and waits in browser.get("/runs/run_q").text
    assert buttons(browser, "run_q") == {"pause", "cancel"}
    assert browser.post("/runs/run_q/pause").headers["location"] == "/runs/run_q"
    assert "Paused" in browser.get("/runs/run_q").text
    assert buttons(browser, "run_q") == {"resume", "cancel"}
    assert browser.post("/runs/run_q/resume").status_code == 303
    assert buttons(browser, "run_q") == {"pause", "cancel"}
    assert browser.post("/runs/run_q/cancel").status_code == 303
    assert buttons(browser, "run_q") == {"delete"}


def test_a_running_run_is_asked_to_stop_and_keep(browser: TestClient, services: Services) -> None:
    add_run(services.database, "run_r", status="running", step=30, total_steps=100)
    assert buttons(browser, "run_r") == {"pause", "stop", "cancel"}
    assert browser.post("/runs/run_r/stop").status_code == 303
    page = browser.get("/runs/run_r").text
    assert "Stopping, and saving the model" in page
    assert buttons(browser, "run_r") == {"cancel"}


def test_a_button_that_came_too_late_gets_a_sentence(
    browser: TestClient, services: Services
) -> None:
    add_run(services.database, "run_done", status="succeeded", fine_tuned_model="ft:x")
    for action in ("pause", "resume", "stop", "cancel"):
        answer = browser.post(f"/runs/run_done/{action}")
        assert answer.status_code == 409
        assert re.search(r'role="alert">\s*<p>The run has [^<]*succeeded', answer.text), action
    assert browser.post("/runs/run_none/pause").status_code == 404


def test_checkpoints_are_listed_and_deployed(browser: TestClient, services: Services) -> None:
    add_run(services.database, "run_c", status="running", step=40, total_steps=100)
    add_checkpoint(services, "run_c", 20, eval_loss=0.4, best=True)
    add_checkpoint(services, "run_c", 10, eval_loss=0.9, removed_at=now())
    page = browser.get("/runs/run_c").text
    assert re.search(r'scope="row" class="num">20 <span class="badge badge-ready">best', page)
    assert "made room" in page and "checkpoints/10/deploy" not in page
    made = browser.post("/runs/run_c/checkpoints/20/deploy")
    assert made.headers["location"] == "/deployments/c-step-20"
    assert 'href="/deployments/c-step-20"' in browser.get("/runs/run_c").text
    gone = browser.post("/runs/run_c/checkpoints/10/deploy")
    assert gone.status_code == 422
    assert re.search(r'role="alert">\s*<p>[^<]*no checkpoint at step 10 any more', gone.text)


def add_checkpoint(services: Services, run_id: str, step: int, **columns: Any) -> None:
    """Its row, and on disk a folder with a manifest."""
    with services.database.write() as session:
        session.add(CheckpointRow(run_id=run_id, step=step, **columns))
    if "removed_at" not in columns:
        with atomic_directory(services.storage.run_checkpoints(run_id) / f"step-{step}") as folder:
            (folder / "adapter_model.safetensors").write_bytes(b"x")
