"""Forms filled in as a browser sends them; no fixture, no test."""

from starlette.testclient import TestClient

from shared.model_library import BUNDLED_MODEL

ROWS = "text,target\n" + "".join(f"row {n},answer {n}\n" for n in range(12))


def upload(browser: TestClient, content: str = ROWS, **fields: str) -> str:
    """Uploads a file through the form; the new dataset's path."""
    answer = browser.post(
        "/datasets", files={"file": ("rows.csv", content)}, data={"name": "rows"} | fields
    )
    assert answer.status_code == 303, answer.text
    return answer.headers["location"]


def start_run(browser: TestClient, **fields: str | list[str]) -> str:
    dataset = upload(browser).rpartition("/")[2]
    form = {"dataset_id": dataset, "base_model": BUNDLED_MODEL, "suffix": "mine"}
    answer = browser.post("/runs", data=form | fields)
    assert answer.status_code == 303, answer.text
    return answer.headers["location"]


def delete(browser: TestClient, path: str) -> None:
    assert browser.post(f"{path}/delete").status_code == 303
