"""Data that comes in through the API: looked at first, by columns, without its wrong rows, from a
hub; and versions compared."""

import io
import json
import os
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from gateway.reconciler import remove_stale

OTHER = b"q,a,about\nx,y,be kind\n,z,\n"
GOOD = b"text,target\na,b\n"


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def inspect(client: TestClient, content: bytes = OTHER, **options: Any) -> Any:
    filename = options.pop("filename", "mine.csv")
    return client.post("/api/datasets/inspect", files={"file": (filename, content)}, data=options)


def create(client: TestClient, **fields: Any) -> Any:
    # Multipart, although it holds no file.
    parts = {name: (None, value) for name, value in ({"name": "pairs"} | fields).items()}
    return client.post("/api/datasets", files=parts, headers=fields.pop("headers", {}))


def drafts(app: FastAPI) -> list[Path]:
    return list(app.state.services.storage.temporary().iterdir())


def test_a_file_is_looked_at_and_then_stored_by_its_columns(
    client: TestClient, app: FastAPI
) -> None:
    answer = inspect(client)
    assert answer.status_code == 200
    found = answer.json()
    assert found["columns"] == ["q", "a", "about"]
    assert (found["file_type"], found["format"], found["filename"]) == ("csv", None, "mine.csv")
    assert "text_column" in found["message"]
    assert found["preview"][0] == {"q": "x", "a": "y", "about": "be kind"}
    named = {"text_column": "q", "target_column": "a", "system_column": "about"}
    wrong = create(client, draft=found["draft"], **named)
    assert (wrong.status_code, wrong.json()["error"]["details"][0]["line"]) == (422, 3)
    # It waits: the second try needs no second upload.
    made = create(client, draft=found["draft"], skip_bad_rows="true", **named)
    assert made.status_code == 201
    stored = made.json()
    assert (stored["rows"], stored["skipped_rows"], stored["mapping"]) == (1, 1, named)
    assert stored["problems"][0]["line"] == 3
    assert (stored["filename"], stored["format"]) == ("mine.csv", "text/target")
    assert client.get(f"/api/datasets/{stored['id']}").json() == stored
    assert client.get(f"/api/datasets/{stored['id']}/content").content == OTHER
    assert create(client, draft=found["draft"]).status_code == 404
    assert drafts(app) == []


def test_a_recognised_form_shows_its_mapping_and_problems(client: TestClient) -> None:
    rows = [{"instruction": "a", "output": "b"}, {"instruction": "", "output": "b"}]
    found = inspect(client, json.dumps(rows).encode(), filename="x.json").json()
    assert (found["format"], found["message"]) == ("alpaca", None)
    assert found["mapping"] == {"text_column": "instruction", "target_column": "output"}
    assert (found["rows_checked"], found["bad_rows"]) == (2, 1)
    assert found["problems"][0]["row"] == 2
    named = inspect(client, b"q,a\nb,c\n", text_column="q", target_column="a").json()
    assert named["format"] == "text/target"


@pytest.mark.parametrize(
    ("content", "status"),
    [(b"", 422), (b"\x1f\x8b123", 415), (b"text,target\n\xff,b\n", 422)],
)
def test_a_file_that_cannot_be_read_leaves_no_draft(
    client: TestClient, app: FastAPI, content: bytes, status: int
) -> None:
    assert inspect(client, content).status_code == status
    assert drafts(app) == []


def test_a_draft_is_its_owners(client: TestClient, other_owner: str) -> None:
    draft = inspect(client, GOOD).json()["draft"]
    theirs = {"Authorization": f"Bearer {other_owner}"}
    parts = {"name": (None, "x"), "draft": (None, draft)}
    answer = client.post("/api/datasets", files=parts, headers=theirs)
    assert (answer.status_code, answer.json()["error"]["param"]) == (404, "draft")
    assert create(client, draft=draft).status_code == 201


@pytest.mark.parametrize("draft", ["x", "../../etc", "a" * 32, "a" * 33, "\u00e9" * 32])
def test_an_unknown_draft_is_404(client: TestClient, draft: str) -> None:
    assert create(client, draft=draft).status_code == 404


def test_a_file_and_a_draft_are_one_too_many(client: TestClient) -> None:
    draft = inspect(client, GOOD).json()["draft"]
    answer = client.post(
        "/api/datasets", data={"name": "x", "draft": draft}, files={"file": ("a.csv", GOOD)}
    )
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "draft")
    assert create(client).status_code == 400


def test_only_the_newest_drafts_are_kept(client: TestClient, app: FastAPI) -> None:
    made = []
    for number in range(7):
        made.append(inspect(client, GOOD).json()["draft"])
        os.utime(app.state.services.storage.temporary() / f"draft-{made[-1]}", (number, number))
    # An owner has five; making the sixth removed the oldest.
    assert len(drafts(app)) == 5
    assert create(client, draft=made[0]).status_code == 404
    assert create(client, draft=made[-1]).status_code == 201


def test_a_draft_goes_after_an_hour(client: TestClient, app: FastAPI) -> None:
    draft = inspect(client, GOOD).json()["draft"]
    storage = app.state.services.storage
    remove_stale(storage)
    assert len(drafts(app)) == 1
    old = time.time() - 3700
    for path in (*storage.temporary().rglob("*"),):
        os.utime(path, (old, old))
    remove_stale(storage)
    assert create(client, draft=draft).status_code == 404


def test_a_draft_is_stored_once_by_key(client: TestClient) -> None:
    draft = inspect(client, GOOD).json()["draft"]
    key = {"Idempotency-Key": "draft-1"}
    parts = {"name": (None, "x"), "draft": (None, draft)}
    first = client.post("/api/datasets", files=parts, headers=key)
    again = client.post("/api/datasets", files=parts, headers=key)
    assert (first.status_code, again.json()) == (201, first.json())


@pytest.mark.parametrize("flag", ["maybe", "2"])
def test_a_flag_is_true_or_false(client: TestClient, flag: str) -> None:
    answer = client.post(
        "/api/datasets",
        data={"name": "x", "skip_bad_rows": flag},
        files={"file": ("a.csv", GOOD)},
    )
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "skip_bad_rows")


def test_an_import_from_a_folder(client: TestClient, app: FastAPI) -> None:
    folder = app.state.services.settings.dataset_import_root / "org/data"
    folder.mkdir(parents=True)
    (folder / "train.csv").write_bytes(OTHER)
    body = {
        "repo": "org/data", "text_column": "q", "target_column": "a", "skip_bad_rows": True,
        "description": "Ours.",
    }  # fmt: skip
    key = {"Idempotency-Key": "import-1"}
    answer = client.post("/api/datasets/import", json=body, headers=key)
    assert answer.status_code == 201
    made = answer.json()
    assert (made["name"], made["description"], made["skipped_rows"]) == ("data", "Ours.", 1)
    assert made["imported_from"]["repo"] == "org/data"
    assert client.post("/api/datasets/import", json=body, headers=key).json() == made
    wrong = client.post("/api/datasets/import", json=body | {"split": "test"})
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (404, "split")
    assert client.post("/api/datasets/import", json={"repo": "org/none"}).status_code == 503
    assert client.post("/api/datasets/import", json=body | {"x": 1}).status_code == 422


def test_versions_and_what_changed(client: TestClient, other_owner: str) -> None:
    ids = []
    for content in (GOOD + b"c,d\n", GOOD + b"c,e\nf,g\n"):
        answer = client.post(
            "/api/datasets", data={"name": "pairs"}, files={"file": ("a.csv", content)}
        )
        ids.append(answer.json()["id"])
    client.post("/api/datasets", data={"name": "other"}, files={"file": ("a.csv", GOOD)})
    listed = client.get("/api/datasets", params={"name": "pairs"}).json()["data"]
    assert [item["version"] for item in listed] == [2, 1]
    diff = client.get(f"/api/datasets/{ids[1]}/diff", params={"against": ids[0]}).json()
    counts = {name: diff[name] for name in ("added", "removed", "unchanged", "changed")}
    assert counts == {"added": 1, "removed": 0, "unchanged": 1, "changed": 1}
    assert (diff["before"]["rows"], diff["after"]["rows"]) == (2, 3)
    assert client.get(f"/api/datasets/{ids[1]}/diff").status_code == 422
    assert client.get(f"/api/datasets/{ids[1]}/diff?against=ds_none").status_code == 404
    theirs = {"Authorization": f"Bearer {other_owner}"}
    url = f"/api/datasets/{ids[1]}/diff?against={ids[0]}"
    assert client.get(url, headers=theirs).status_code == 404


def test_parquet_through_the_api(client: TestClient) -> None:

    out = io.BytesIO()
    pq.write_table(pa.table({"prompt": ["a"], "completion": ["b"]}), out)
    answer = client.post(
        "/api/datasets", data={"name": "x"}, files={"file": ("a.parquet", out.getvalue())}
    )
    made = answer.json()
    assert (answer.status_code, made["file_type"], made["rows"]) == (201, "parquet", 1)
    content = client.get(f"/api/datasets/{made['id']}/content")
    assert content.headers["content-type"] == "application/vnd.apache.parquet"
    assert content.content == out.getvalue()
    preview = client.get(f"/api/datasets/{made['id']}/preview").json()
    assert preview["rows"] == [{"prompt": "a", "completion": "b"}]
