"""Models, deployments and routes through pages."""

import pytest
from starlette.testclient import TestClient

from gateway.settings import GatewaySettings
from shared.model_library import BUNDLED_MODEL


def test_a_deployment_is_made_shown_and_deleted(browser: TestClient) -> None:
    bad = browser.post("/deployments", data={"name": "No Good", "model": BUNDLED_MODEL})
    assert bad.status_code == 422
    assert 'id="name-error"' in bad.text and 'value="No Good"' in bad.text
    made = browser.post("/deployments", data={"name": "base", "model": BUNDLED_MODEL})
    assert made.headers["location"] == "/deployments/base"
    page = browser.get("/deployments/base").text
    assert "/v1/chat/completions" in page and "http://127.0.0.1:8000/v1" in page
    assert "/api/deployments/base/docs" in page
    assert 'id="state"' in browser.get("/deployments/base/state").text
    again = browser.post("/deployments", data={"name": "base", "model": BUNDLED_MODEL})
    assert again.status_code == 422 and 'id="name-error"' in again.text
    assert browser.post("/deployments/base/delete").headers["location"] == "/deployments"
    assert browser.get("/deployments/base").status_code == 404


def test_trying_a_model_that_is_away_says_so(browser: TestClient) -> None:
    browser.post("/deployments", data={"name": "base", "model": BUNDLED_MODEL})
    answer = browser.post("/deployments/base/try", data={"inputs": "keep this"})
    assert answer.status_code == 422
    assert "keep this" in answer.text and 'role="alert"' in answer.text


def test_a_route_is_made_changed_and_deleted(browser: TestClient) -> None:
    for name in ("one", "two"):
        browser.post("/deployments", data={"name": name, "model": BUNDLED_MODEL})
    empty = browser.post("/routes", data={"name": "support", "target": ["", ""]})
    assert empty.status_code == 422 and 'id="targets-error"' in empty.text
    form = {"target": ["one", "two"], "weight": ["9", "0,5"], "fallback": ["two", ""]}
    made = browser.post("/routes", data=form | {"name": "support"})
    assert made.headers["location"] == "/routes/support"
    page = browser.get("/routes/support").text
    assert 'value="9"' in page and 'value="0.5"' in page
    wrong = browser.post("/routes/support", data={"target": ["one"], "weight": ["much"]})
    assert wrong.status_code == 422 and 'value="much"' in wrong.text
    changed = browser.post("/routes/support", data={"target": ["two"], "weight": [""]})
    assert changed.status_code == 303
    drill = browser.post("/routes/support/drill", data={"fault": "cut", "seconds": "60"})
    assert drill.headers["location"] == "/routes/support#drill-title"
    assert "under way" in browser.get("/routes/support").text
    browser.post("/routes/support/drill/end")
    assert "Start the drill" in browser.get("/routes/support").text
    assert browser.post("/routes/support/drill", data={"fault": "fire"}).status_code == 422
    assert browser.post("/routes/support/delete").headers["location"] == "/routes"
    assert browser.get("/routes/support").status_code == 404


def test_a_model_of_the_hub_is_added_and_offered_for_download(browser: TestClient) -> None:
    made = browser.post("/models", data={"id": " org/tiny ", "name": "Tiny one"})
    assert (made.status_code, made.headers["location"]) == (303, "/models#library")
    page = browser.get("/models").text
    assert "Tiny one" in page and "not here" in page
    assert '<input type="hidden" name="model_id" value="org/tiny">' in page
    again = browser.post("/models", data={"id": "org/tiny", "context_length": "99"})
    assert again.status_code == 422 and 'id="id-error">org/tiny is in the library' in again.text
    assert 'value="99"' in again.text and '<details class="panel" id="add" open>' in again.text


def test_a_local_folder_is_added_and_offered_for_preparation(
    browser: TestClient, settings: GatewaySettings
) -> None:
    folder = settings.import_root / "my-model"
    folder.mkdir(parents=True)
    bad = browser.post("/models", data={"folder": "my-model"})
    assert bad.status_code == 422 and 'id="folder-error">The folder holds no' in bad.text
    config = '{"model_type": "llama", "max_position_embeddings": 4096}'
    (folder / "config.json").write_text(config)
    (folder / "model.safetensors").write_bytes(b"")
    assert browser.post("/models", data={"folder": "my-model"}).status_code == 303
    page = browser.get("/models").text
    assert "local/my-model" in page and "on this machine" in page and "4.1K" in page


@pytest.mark.parametrize(
    ("typed", "field"),
    [
        ({}, "id"),
        ({"id": "no slash"}, "id"),
        ({"id": BUNDLED_MODEL}, "id"),
        ({"folder": "../../etc"}, "folder"),
        ({"id": "a/b", "context_length": "long"}, "context_length"),
        ({"id": "a/b", "context_length": "3"}, "context_length"),
        ({"id": "a/b", "name": "x" * 101}, "name"),
    ],
)
def test_a_wrong_base_model_is_said_beside_its_field(
    browser: TestClient, typed: dict[str, str], field: str
) -> None:
    answer = browser.post("/models", data=typed)
    assert answer.status_code == 422
    assert f'id="{field}-error"' in answer.text


def test_preparing_an_unknown_model_says_so(browser: TestClient) -> None:
    answer = browser.post("/models/prepare", data={"model_id": "no/such"})
    assert answer.status_code == 404
    assert 'role="alert"' in answer.text
    assert 'id="library"' in browser.get("/models/library").text
