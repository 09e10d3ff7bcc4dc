"""The pages of experiments and migrations over HTTP."""

from datetime import timedelta

import pytest
from starlette.testclient import TestClient

from gateway.database import Database
from gateway.orchestrator.experiments.watch import look_at_all
from tests.gateway.orchestrator.experiments.traffic import make_route, store, thumbs, weights
from ui import trials

ARMS = trials.EXPERIMENT_FORM | {"control": "old", "treatment": "new"}
WALK = trials.MIGRATION_FORM | {"from": "old", "to": "new", "steps": "50, 100", "margin": "20"}


@pytest.fixture
def database(browser: TestClient) -> Database:
    found: Database = browser.app.state.services.database  # type: ignore[attr-defined]
    make_route(found)
    return found


def test_an_experiment_from_its_page(browser: TestClient, database: Database) -> None:
    page = browser.get("/routes/best/experiment")
    assert page.status_code == 200 and "Start an experiment" in page.text
    wrong = browser.post("/routes/best/experiment", data=ARMS | {"share": "100"})
    assert wrong.status_code == 422 and "This must be less than 1." in wrong.text
    wrong = browser.post("/routes/best/experiment", data=ARMS | {"treatment": "nobody"})
    assert wrong.status_code == 422 and "there is no deployment" in wrong.text
    made = browser.post("/routes/best/experiment", data=ARMS)
    assert (made.status_code, made.headers["location"]) == (303, "/routes/best/experiment")
    assert weights(database) == {"old": 50, "new": 50}
    edited = browser.post("/routes/best", data={"name": "best", "target": "old", "weight": "1"})
    assert edited.status_code == 422 and "End that first" in edited.text
    assert "experiment under way" in browser.get("/routes/best").text
    listed = browser.get("/routes").text
    assert ">experiment<" in listed and ">drill<" not in listed
    browser.post("/routes/best/drill", data={"fault": "cut", "seconds": "60"})
    assert ">drill<" in browser.get("/routes").text
    store(database, thumbs("old", good=0.5, count=50), thumbs("new", good=0.5, count=50))
    look_at_all(database, timedelta(0))
    page = browser.get("/routes/best/experiment")
    assert "sequence-band" in page.text and "Stop and roll back" in page.text
    part = browser.get("/routes/best/experiment", headers={"HX-Request": "true"})
    assert part.text.startswith('<div id="trial" hx-get=') and "<html" not in part.text
    browser.post("/routes/best/experiment/stop", data={"roll_back": "1"})
    assert weights(database) == {"old": 100}
    assert "hx-get" not in browser.get("/routes/best/experiment").text


def test_a_migration_from_its_page(browser: TestClient, database: Database) -> None:
    assert "Start a migration" in browser.get("/routes/best/migration").text
    wrong = browser.post("/routes/best/migration", data=WALK | {"steps": "50, 10, 100"})
    assert wrong.status_code == 422 and "Steps: must rise" in wrong.text
    made = browser.post("/routes/best/migration", data=WALK)
    assert (made.status_code, made.headers["location"]) == (303, "/routes/best/migration")
    assert "Start a migration" not in browser.get("/routes/best/migration").text
    for action, shown in (("pause", "Go on"), ("resume", "Pause")):
        answer = browser.post(f"/routes/best/migration/{action}")
        assert answer.headers["location"] == "/routes/best/migration"
        assert shown in browser.get("/routes/best/migration").text
    # The experiment's own page shows the step, and leaves it alone.
    step = browser.get("/routes/best/experiment").text
    assert "new against old" in step and "Stop and roll back" not in step
    store(database, thumbs("old", good=0.8, count=300), thumbs("new", good=0.8, count=300))
    look_at_all(database, timedelta(0))
    page = browser.get("/routes/best/migration")
    assert "Nobody is asked beside it" in page.text
    store(database, thumbs("new", good=0.8, count=300, seed=2))
    look_at_all(database, timedelta(0))
    part = browser.get("/routes/best/migration", headers={"HX-Request": "true"})
    assert part.text.startswith('<div id="walk"') and "ladder-held" in part.text
    assert weights(database) == {"new": 100}


def test_forms_tell_how_long_it_would_take(browser: TestClient, database: Database) -> None:
    store(database, thumbs("old", good=0.8, count=100))
    page = browser.post("/routes/best/experiment/forecast", data=ARMS)
    assert page.status_code == 200 and "50%: about " in page.text and " a day." in page.text
    assert '<option value="new" selected>' in page.text
    page = browser.post("/routes/best/migration/forecast", data=WALK | {"steps": "0, 50, 100"})
    assert "Shadow: about " in page.text and "50%: about " in page.text
    wrong = browser.post("/routes/best/migration/forecast", data=WALK | {"margin": "x"})
    assert wrong.status_code == 422
    assert weights(database) == {"old": 100}


def test_a_migration_is_rolled_back_from_its_page(browser: TestClient, database: Database) -> None:
    browser.post("/routes/best/migration", data=WALK)
    browser.post("/routes/best/migration/stop")
    assert weights(database) == {"old": 100}
    assert "Another migration" in browser.get("/routes/best/migration").text


@pytest.mark.parametrize("page", ["experiment", "migration"])
def test_routes_that_are_not_there_have_no_pages(browser: TestClient, page: str) -> None:
    assert browser.get(f"/routes/none/{page}").status_code == 404
    assert browser.post(f"/routes/none/{page}", data=ARMS | WALK).status_code == 404
