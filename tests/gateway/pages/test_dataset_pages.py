"""The pages through which data comes in and is compared, without JavaScript."""

import re
from pathlib import Path

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

OTHER = "q,a,about\nx,y,be kind\n,z,\n"
GOOD = "text,target\na,b\n"


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def upload(browser: TestClient, content: str, **fields: str) -> str:
    """Uploads a file through the form; where the browser is sent."""
    answer = browser.post("/datasets", files={"file": ("mine.csv", content)}, data=fields)
    assert answer.status_code == 303, answer.text
    return answer.headers["location"]


def test_columns_that_are_not_known_are_chosen_without_a_second_upload(
    browser: TestClient,
) -> None:
    path = upload(browser, OTHER, name="named", description="Kept.")
    assert re.fullmatch(r"/datasets/drafts/[a-z0-9]{32}", path)
    page = browser.get(path).text
    assert "Which column is what?" in page
    assert '<option value="about">about</option>' in page
    assert "be kind" in page and 'value="named"' in page and 'value="Kept."' in page
    chosen = {"text_column": "q", "target_column": "a", "system_column": "about", "name": "named"}
    wrong = browser.post(path, data=chosen)
    assert wrong.status_code == 422
    assert "<dt>Line 3</dt>" in wrong.text
    assert '<option value="q" selected>q</option>' in wrong.text
    stored = browser.post(path, data=chosen | {"skip_bad_rows": "true"})
    assert stored.status_code == 303
    shown = browser.get(stored.headers["location"]).text
    assert "1 row was left out" in shown and "<dt>Line 3</dt>" in shown
    assert "<dt>System column</dt><dd>about</dd>" in shown
    assert browser.get(path).status_code == 404
    assert "1 row left out" in browser.get("/datasets").text


def test_nothing_chosen_is_told(browser: TestClient) -> None:
    path = upload(browser, OTHER)
    for chosen in ({}, {"text_column": "q"}, {"text_column": "q", "target_column": "q"}):
        answer = browser.post(path, data=chosen)
        assert answer.status_code == 422
        assert re.search(r'role="alert"|class="field-error"', answer.text)


def test_columns_can_be_chosen_of_a_form_that_is_known(browser: TestClient) -> None:
    path = upload(browser, "text,target,better\na,b,c\n", map="1")
    page = browser.get(path).text
    assert "<strong>text/target</strong>" in page
    chosen = {"text_column": "text", "target_column": "better"}
    shown = browser.get(browser.post(path, data=chosen).headers["location"]).text
    assert re.search(r"<mark>c", shown)
    # The file's name without its ending is the dataset's.
    assert "<h1>mine " in shown


def test_wrong_rows_can_be_left_out_without_a_second_upload(browser: TestClient) -> None:
    answer = browser.post(
        "/datasets", files={"file": ("mine.csv", GOOD + ",c\n")}, data={"name": "kept"}
    )
    assert answer.status_code == 422
    assert "<dt>Line 3</dt>" in answer.text
    path = re.search(r'action="(/datasets/drafts/\w+)"', answer.text)
    assert path is not None
    hidden = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', answer.text))
    stored = browser.post(path[1], data=hidden)
    assert stored.status_code == 303
    assert "<h1>kept " in browser.get(stored.headers["location"]).text


@pytest.mark.parametrize("content", ["text,target\n,b\n", "", "text;target\na;b\n"])
def test_a_file_without_use_is_not_kept(browser: TestClient, app: FastAPI, content: str) -> None:
    answer = browser.post("/datasets", files={"file": ("mine.csv", content)})
    assert answer.status_code == 422
    assert "/datasets/drafts/" not in answer.text
    assert list(app.state.services.storage.temporary().iterdir()) == []


def test_a_draft_of_nobody_is_not_found(browser: TestClient) -> None:
    for path in ("/datasets/drafts/" + "a" * 32, "/datasets/drafts/x"):
        assert browser.get(path).status_code == 404
        assert browser.post(path, data={}).status_code == 404


def test_an_import(browser: TestClient, app: FastAPI) -> None:
    folder = app.state.services.settings.dataset_import_root / "org/data"
    folder.mkdir(parents=True)
    (folder / "train.csv").write_text(GOOD)
    assert "GENPLAT_DATASET_ROOT" in browser.get("/datasets/import").text
    stored = browser.post("/datasets/import", data={"repo": "org/data", "split": "", "name": ""})
    assert stored.status_code == 303
    assert "org/data, train" in browser.get(stored.headers["location"]).text
    for fields, said in (
        ({"repo": ""}, "repo-error"),
        ({"repo": "../x"}, "must look like owner/name"),
        ({"repo": "org/data", "split": "test"}, "no file of the split"),
        ({"repo": "org/none"}, "HF_HUB_OFFLINE"),
        ({"repo": "org/data", "text_column": "x", "target_column": "y"}, "no column"),
    ):
        answer = browser.post("/datasets/import", data=fields)
        assert answer.status_code == 422
        assert said in answer.text


def test_versions_and_what_changed(browser: TestClient) -> None:
    first = upload(browser, GOOD, name="pairs")
    assert "Versions" not in browser.get(first).text
    second = upload(browser, GOOD + "c,<b>d\n", name="pairs")
    page = browser.get(second).text
    link = re.search(r'href="(/datasets/ds_\w+/diff\?against=ds_\w+)"', page)
    assert link is not None
    diff = browser.get(link[1]).text
    assert "<dt>Added rows</dt><dd>1</dd>" in diff
    assert "<dt>Unchanged rows</dt><dd>1</dd>" in diff
    assert browser.get(f"{second}/diff?against=ds_none").status_code == 404


def test_hostile_columns_are_text(browser: TestClient) -> None:
    path = upload(browser, '"<script>alert(1)</script>","{{7*7}}"\na,b\n')
    page = browser.get(path).text
    assert "<script>alert" not in page and "&lt;script&gt;alert" in page
    assert "{{7*7}}" in page


def test_hostile_texts_are_text(browser: TestClient) -> None:
    """C22."""
    hostile = "<script>alert(1)</script>", "{{7*7}}", '<b hx-get="/keys">', "\u202ex", "\x1b[31mx"
    rows = "".join(f'"{text.replace(chr(34), chr(34) * 2)}",answer\n' for text in hostile)
    page = browser.get(upload(browser, "text,target\n" + rows)).text
    assert "<script>alert" not in page and "<b hx-get" not in page
    assert "&lt;script&gt;alert" in page and "{{7*7}}" in page and "&lt;b hx-get" in page
