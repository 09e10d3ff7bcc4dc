"""Runs through pages: started with right and wrong fields, repeated, continued."""

import re

import pytest
from starlette.testclient import TestClient

from gateway.pages import run_form
from shared.model_library import BUNDLED_MODEL
from tests.gateway.pages.filling import delete, start_run, upload


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
    high = browser.post("/runs", data=form | {"learning_rate": "10"}).text
    assert "usual are about 1e-3 with LoRA" in high and "Value error" not in high
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
