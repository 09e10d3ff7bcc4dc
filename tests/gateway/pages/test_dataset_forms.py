"""Data through pages: uploads, what is wrong with them, deletion."""

import re

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from shared.model_library import BUNDLED_MODEL, built_in_library
from shared.storage import Storage
from tests.gateway.pages.filling import start_run, upload
from tests.gateway.parts import fake_prepared


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


def test_a_dataset_in_use_stays_and_its_page_says_why(browser: TestClient) -> None:
    path = start_run(browser)
    trained = re.search(r'href="(/datasets/[^"]+)"', browser.get(path).text)
    assert trained
    answer = browser.post(f"{trained[1]}/delete")
    assert answer.status_code == 409
    assert "uses this dataset" in answer.text
    assert browser.get(trained[1]).status_code == 200
