"""Every page over HTTP: reachable, guarded, and useful without JavaScript."""

import re

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from gateway.pages import run_form
from gateway.settings import GatewaySettings
from shared.model_library import BUNDLED_MODEL, built_in_library
from shared.storage import Storage
from tests.gateway.conftest import ADMIN_KEY, LOGIN_TOKEN
from tests.gateway.parts import fake_prepared

PAGES = (
    "/",
    "/datasets",
    "/datasets/new",
    "/runs",
    "/runs/new",
    "/models",
    "/deployments",
    "/deployments/new",
    "/routes",
    "/routes/new",
    "/chat",
    "/keys",
)
ROWS = "text,target\n" + "".join(f"row {n},answer {n}\n" for n in range(12))


def upload(browser: TestClient, content: str = ROWS, **fields: str) -> str:
    """Uploads a file through the form; the new dataset's path."""
    answer = browser.post(
        "/datasets", files={"file": ("rows.csv", content)}, data={"name": "rows"} | fields
    )
    assert answer.status_code == 303, answer.text
    return answer.headers["location"]


@pytest.mark.parametrize("path", PAGES)
def test_every_page_answers_those_who_are_logged_in(browser: TestClient, path: str) -> None:
    answer = browser.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert "script-src 'self'" in answer.headers["content-security-policy"]


@pytest.mark.parametrize("path", PAGES)
def test_every_page_sends_others_to_the_login(anonymous: TestClient, path: str) -> None:
    answer = anonymous.get(path)
    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/login")


def test_an_api_key_logs_in_and_out(anonymous: TestClient) -> None:
    wrong = anonymous.post("/login", data={"key": "gp-wrong"})
    assert wrong.status_code == 401
    assert "not valid" in wrong.text
    answer = anonymous.post("/login", data={"key": ADMIN_KEY, "next": "/runs"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/runs")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=lax" in cookie
    anonymous.headers["Sec-Fetch-Site"] = "same-origin"
    assert anonymous.post("/logout").headers["location"] == "/login"
    assert anonymous.get("/").status_code == 303


def test_the_login_goes_nowhere_else(anonymous: TestClient) -> None:
    answer = anonymous.get("/login", params={"token": LOGIN_TOKEN, "next": "//evil.test"})
    assert answer.headers["location"] == "/"


def test_a_form_of_another_site_changes_nothing(browser: TestClient) -> None:
    browser.headers["Sec-Fetch-Site"] = "cross-site"
    assert browser.post("/keys", data={"name": "stolen"}).status_code == 403


def test_an_upload_shows_its_rows_and_what_is_learned(browser: TestClient) -> None:
    page = browser.get(upload(browser)).text
    assert "row 3" in page and "answer 3" in page
    assert re.search(r"<mark>answer 0", page)
    assert 'href="/runs/new?dataset_id=ds_' in page
    assert "rows" in browser.get("/datasets").text


def test_a_bad_file_is_explained_by_line_and_the_form_is_kept(browser: TestClient) -> None:
    broken = "text,target\na,b\n,d\n"
    answer = browser.post(
        "/datasets",
        files={"file": ("rows.csv", broken)},
        data={"name": "mine", "description": "kept <b>"},
    )
    assert answer.status_code == 422
    assert "<strong>rows.csv was not stored.</strong>" in answer.text
    assert "<dt>Line 3</dt>" in answer.text
    assert 'value="kept &lt;b&gt;"' in answer.text
    assert "No dataset yet" in browser.get("/datasets").text


RAGGED = b"text,target\n" + b"a,b,c\n" * 2 + b"good,row\n" + b"alone\n"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (RAGGED, ["3 places to correct:", "<dt>Line 2</dt>", "<dt>Line 5</dt>", "3 columns where"]),
        (
            "text,target\ncafé,thé\n".encode("latin-1"),
            ["One place to correct:", "<dt>Line 2</dt>", "Character 4", "Save the file as UTF-8"],
        ),
        (b'text,target\na,"never closed\nb,c\n', ["<dt>Line 2</dt>", "A quoted text starts here"]),
        (b"text,target\n" + b"a,\n" * 50, ["The first 20 places to correct:", "<dt>Line 21</dt>"]),
        (b"", ["<dt>Whole file</dt>", "The file is empty."]),
    ],
)
def test_a_broken_file_is_explained_place_by_place(
    browser: TestClient, content: bytes, said: list[str]
) -> None:
    answer = browser.post("/datasets", files={"file": ("rows.csv", content)})
    assert answer.status_code == 422
    assert [text for text in said if text not in answer.text] == []


def test_the_bundled_examples_are_a_dataset_by_one_click(browser: TestClient) -> None:
    button = '<form method="post" action="/datasets/examples">'
    assert all(button in browser.get(path).text for path in ("/", "/datasets", "/runs/new"))
    made = browser.post("/datasets/examples")
    assert made.status_code == 303
    page = browser.get(made.headers["location"]).text
    assert "plantuml-examples" in page and "@startuml" in page
    assert "Use the bundled" not in browser.get("/").text


def test_what_a_dataset_looks_like_to_another_base_model(browser: TestClient, app: FastAPI) -> None:
    storage: Storage = app.state.services.storage
    fake_prepared(storage, BUNDLED_MODEL)
    template = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
    (storage.base_model(BUNDLED_MODEL) / "chat_template.jinja").write_text(template)
    other = next(id for id in built_in_library() if id != BUNDLED_MODEL)
    path = upload(browser)
    bundled = browser.get(path).text
    assert f'<option value="{BUNDLED_MODEL}" selected>' in bundled
    assert "[user]row 0" in bundled and "is not prepared yet" not in bundled
    shown = browser.get(path, params={"base_model": other}).text
    assert f'<option value="{other}" selected>' in shown
    assert "user: row 0" in shown and "is not prepared yet" in shown
    assert browser.get(path, params={"base_model": "no/such"}).status_code == 404


def test_a_dataset_can_be_deleted(browser: TestClient) -> None:
    path = upload(browser)
    assert browser.post(f"{path}/delete").headers["location"] == "/datasets"
    assert browser.get(path).status_code == 404


def start_run(browser: TestClient, **fields: str | list[str]) -> str:
    dataset = upload(browser).rpartition("/")[2]
    form = {"dataset_id": dataset, "base_model": BUNDLED_MODEL, "suffix": "mine"}
    answer = browser.post("/runs", data=form | fields)
    assert answer.status_code == 303, answer.text
    return answer.headers["location"]


def test_a_run_is_started_watched_cancelled_and_deleted(browser: TestClient) -> None:
    path = start_run(browser, preset="thorough", learning_rate="0.002")
    page = browser.get(path).text
    assert f'sse-connect="{path}/panel"' in page
    assert "queue" in page
    assert "preset: thorough" in page and "learning_rate: 0.002" in page
    assert browser.post(f"{path}/cancel").headers["location"] == path
    ended = browser.get(path).text
    assert "Cancelled" in ended and "sse-connect" not in ended
    assert browser.post(f"{path}/delete").headers["location"] == "/runs"
    assert browser.get(path).status_code == 404


def test_a_wrong_hyperparameter_is_said_beside_its_field(browser: TestClient) -> None:
    dataset = upload(browser).rpartition("/")[2]
    form = {"dataset_id": dataset, "base_model": BUNDLED_MODEL, "learning_rate": "fast"}
    answer = browser.post("/runs", data=form | {"lora_r": "7"})
    assert answer.status_code == 422
    assert '<small class="field-error" id="learning_rate-error">' in answer.text
    assert 'value="fast"' in answer.text and 'name="lora_r" type="text" value="7"' in answer.text
    assert "No run yet" in browser.get("/runs").text


def test_a_run_with_validation_data_of_its_own(browser: TestClient) -> None:
    other = upload(browser, name="held out").rpartition("/")[2]
    path = start_run(browser, validation_dataset_id=other, validation_split="hidden")
    assert f"validation_dataset_id: {other}" in browser.get(path).text
    again = browser.get("/runs/new", params={"like": path.rpartition("/")[2]}).text
    assert f'<option value="{other}" selected>' in again


def test_unknown_validation_data_is_said_beside_its_field(browser: TestClient) -> None:
    dataset = upload(browser).rpartition("/")[2]
    form = {"dataset_id": dataset, "base_model": BUNDLED_MODEL, "validation_dataset_id": "ds_none"}
    answer = browser.post("/runs", data=form)
    assert answer.status_code == 422
    assert 'id="validation_dataset_id-error"' in answer.text


def test_the_training_data_is_no_validation_data(browser: TestClient) -> None:
    dataset = upload(browser).rpartition("/")[2]
    form = {"dataset_id": dataset, "base_model": BUNDLED_MODEL, "validation_dataset_id": dataset}
    answer = browser.post("/runs", data=form)
    assert answer.status_code == 422
    assert 'id="validation_dataset_id-error"' in answer.text
    assert "names the dataset that the run learns from" in answer.text


def test_an_unknown_base_model_is_said_beside_its_field(browser: TestClient) -> None:
    dataset = upload(browser).rpartition("/")[2]
    answer = browser.post("/runs", data={"dataset_id": dataset, "base_model": "no/such"})
    assert answer.status_code == 422
    assert 'id="base_model-error"' in answer.text


def test_the_panel_of_an_ended_run_is_its_state_and_the_end(browser: TestClient) -> None:
    path = start_run(browser)
    browser.post(f"{path}/cancel")
    stream = browser.get(f"{path}/panel").text
    events = re.findall(r"^event: (\w+)$", stream, re.MULTILINE)
    assert events == ["head", "said", "panel", "points", "log", "settings", "foot", "done"]
    assert "Cancelled" in stream and "event: error" not in stream


def test_the_panel_of_an_unknown_run_is_not_found(browser: TestClient) -> None:
    assert browser.get("/runs/run_unknown/panel").status_code == 404


def test_run_again_keeps_the_numbers(browser: TestClient) -> None:
    path = start_run(browser, lora_r="8", task_prefix="fix: ")
    page = browser.get("/runs/new", params={"like": path.rpartition("/")[2]}).text
    assert 'name="lora_r" type="text" value="8"' in page
    assert 'value="fix: "' in page


def test_several_datasets_are_mixed_and_shown_again(browser: TestClient) -> None:
    other = upload(browser, name="other").rpartition("/")[2]
    path = start_run(browser, datasets=["", other], weights=["", "2,5"])
    page = browser.get(path).text
    assert f"- id: {other}\n  weight: 2.5" in page.replace("&#39;", "")
    again = browser.get("/runs/new", params={"like": path.rpartition("/")[2]}).text
    assert '<details class="mix" open>' in again
    assert f'<option value="{other}" selected>' in again and 'value="2.5"' in again


def test_what_is_wrong_with_one_of_several_datasets_is_said_there(browser: TestClient) -> None:
    first = upload(browser).rpartition("/")[2]
    form = {"dataset_id": first, "base_model": BUNDLED_MODEL, "suffix": "kept"}
    answer = browser.post("/runs", data=form | {"datasets": ["ds_none"], "weights": ["3"]})
    assert answer.status_code == 422
    assert 'id="datasets-error"' in answer.text and 'value="kept"' in answer.text


def test_continuing_a_run_keeps_its_settings_and_names_it(browser: TestClient) -> None:
    path = start_run(browser, lora_r="8", method="full")
    run_id = path.rpartition("/")[2]
    page = browser.get("/runs/new", params={"continue": run_id}).text
    assert "<h1>Continue training</h1>" in page
    assert f'<option value="{run_id}" selected>' in page
    assert 'name="lora_r" type="text" value="8"' in page
    assert 'name="method" value="full" checked' in page
    checkpoint = f"{run_id}:ckpt-step-40"
    page = browser.get("/runs/new", params={"continue": checkpoint}).text
    assert f'<option value="{checkpoint}" selected>' in page and "checkpoint at step 40" in page
    assert browser.get("/runs/new", params={"continue": "run_none"}).status_code == 404


def delete(browser: TestClient, path: str) -> None:
    assert browser.post(f"{path}/delete").status_code == 303


def test_run_again_does_not_choose_other_data(browser: TestClient) -> None:
    other = upload(browser, name="held out")
    path = start_run(browser, validation_dataset_id=other.rpartition("/")[2])
    trained = re.search(r'href="(/datasets/[^"]+)"', browser.get(path).text)
    assert trained
    browser.post(f"{path}/cancel")
    delete(browser, trained[1])
    delete(browser, other)
    upload(browser, name="something else")
    again = browser.get("/runs/new", params={"like": path.rpartition("/")[2]}).text
    assert '<option value="" selected>Choose one</option>' in again
    assert again.count("This dataset is gone. Choose another one.") == 2
    assert not re.search(r'<option value="ds_\w+" selected>', again)


def test_run_again_offers_an_old_dataset(
    browser: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_form, "SHOWN_DATASETS", 1)
    path = start_run(browser)
    upload(browser, name="newer")
    again = browser.get("/runs/new", params={"like": path.rpartition("/")[2]}).text
    assert re.search(r'<option value="ds_\w+" selected>rows v1', again)
    assert "newer v1" in again


def test_a_dataset_in_use_stays_and_its_page_says_why(browser: TestClient) -> None:
    path = start_run(browser)
    trained = re.search(r'href="(/datasets/[^"]+)"', browser.get(path).text)
    assert trained
    answer = browser.post(f"{trained[1]}/delete")
    assert answer.status_code == 409
    assert "uses this dataset" in answer.text
    assert browser.get(trained[1]).status_code == 200


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
    assert browser.post("/routes/support/delete").headers["location"] == "/routes"
    assert browser.get("/routes/support").status_code == 404


def test_a_key_is_shown_once_works_and_can_be_revoked(browser: TestClient) -> None:
    assert browser.post("/keys", data={"name": ""}).status_code == 422
    made = browser.post("/keys", data={"name": "mykey"})
    found = re.search(r"gp-[A-Za-z0-9_-]{43}", made.text)
    assert found is not None and made.status_code == 201
    page = browser.get("/keys").text
    assert "mykey" in page and found[0] not in page
    revoke = re.findall(r'action="(/keys/[^"]+/revoke)"', page)[0]
    assert browser.post(revoke).headers["location"] == "/keys"
    assert "mykey" not in browser.get("/keys").text


def test_the_chat_without_a_model_service_keeps_the_message(browser: TestClient) -> None:
    form = {"model": BUNDLED_MODEL, "message": "keep me", "mode": "text"}
    answer = browser.post("/chat", data=form)
    assert answer.status_code == 422
    assert "keep me" in answer.text and 'role="alert"' in answer.text


def test_a_stream_that_cannot_begin_is_an_error_for_the_script(browser: TestClient) -> None:
    body = {"model": "nobody", "messages": [{"role": "user", "content": "hi"}]}
    answer = browser.post("/chat/stream", json=body, headers={"Accept": "application/json"})
    assert answer.status_code == 404
    assert "nobody" in answer.json()["error"]["message"]


def test_an_unknown_page_is_a_page(browser: TestClient) -> None:
    answer = browser.get("/runs/run_none")
    assert answer.status_code == 404
    assert "<h1>" in answer.text


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
    (folder / "config.json").write_text('{"max_position_embeddings": 4096}')
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
