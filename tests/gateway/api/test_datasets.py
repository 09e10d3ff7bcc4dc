"""Datasets through the API: uploads of every kind, right, odd and broken."""

import gzip
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from gateway.tables import Dataset

CSV = b"text,target\na,b\nc,d\n"
BOUNDARY = "----boundary"
MULTIPART = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


def upload(client: TestClient, content: bytes = CSV, name: str = "pairs", **options: Any) -> Any:
    filename = options.pop("filename", "data.csv")
    headers = options.pop("headers", {})
    return client.post(
        "/api/datasets",
        data={"name": name} | options,
        files={"file": (filename, content)},
        headers=headers,
    )


def part(name: str, content: bytes, extra: str = "") -> bytes:
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{extra}\r\n\r\n'
    return head.encode() + content + b"\r\n"


END = f"--{BOUNDARY}--\r\n".encode()
FILE = part("file", CSV, '; filename="a.csv"')


def stored(app: FastAPI) -> list[Path]:
    root = app.state.services.settings.root
    return [path for kind in ("tmp", "datasets") for path in (root / kind).rglob("*")]


def test_a_dataset_from_upload_to_deletion(client: TestClient, app: FastAPI) -> None:
    answer = upload(client, description="Some pairs.")
    assert answer.status_code == 201
    made = answer.json()
    assert made["id"].startswith("ds_")
    shown = {key: made[key] for key in ("name", "version", "format", "rows", "bytes", "columns")}
    assert shown == {
        "name": "pairs", "version": 1, "format": "text/target", "rows": 2,
        "bytes": len(CSV), "columns": ["text", "target"],
    }  # fmt: skip
    assert client.get(f"/api/datasets/{made['id']}").json() == made
    assert client.get("/api/datasets").json() == {
        "object": "list", "data": [made], "has_more": False,
    }  # fmt: skip
    preview = client.get(f"/api/datasets/{made['id']}/preview", params={"limit": 1}).json()
    assert preview["rows"] == [{"text": "a", "target": "b"}]
    assert [part["text"] for part in preview["rendered"][0] if part["learned"]] == ["b"]
    assert client.delete(f"/api/datasets/{made['id']}").status_code == 204
    for path in ("", "/preview", "/content"):
        assert client.get(f"/api/datasets/{made['id']}{path}").status_code == 404
    assert stored(app) == []


def test_content_is_the_bytes_and_no_page(client: TestClient) -> None:
    hostile = b"text,target\n<script>alert(1)</script>,=cmd\n"
    made = upload(client, hostile, filename="../<b>\r\n.html").json()
    answer = client.get(f"/api/datasets/{made['id']}/content")
    assert answer.content == hostile
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"].startswith("attachment")
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_bytes_that_changed_on_the_way_are_refused(client: TestClient, app: FastAPI) -> None:
    changed = upload(client, sha256=hashlib.sha256(b"other bytes").hexdigest())
    assert changed.status_code == 400
    wrong = changed.json()["error"]
    assert (wrong["code"], wrong["param"]) == ("sha256_mismatch", "sha256")
    assert stored(app) == []
    digest = hashlib.sha256(CSV).hexdigest()
    assert upload(client, sha256=digest.upper()).json()["sha256"] == digest


@pytest.mark.parametrize(
    "ranges",
    [
        [f"{start}-" for start in range(90)],
        [f"{start}-{200_000 - start}" for start in range(90)],
        [f"-{200_000 - start}" for start in range(90)],
        ["0-"] * 90,
        [f"{start * 2000}-{start * 2000 + 1500}" for start in range(90)],
        ["0-"] * 1000,
        [f"{start * 2}-{start * 2}" for start in range(1000)],
    ],
    ids=["to the end", "nested", "from the end", "the same", "apart", "too many", "crumbs"],
)
def test_many_ranges_make_no_large_answer(client: TestClient, ranges: list[str]) -> None:
    content = b"text,target\n" + b"".join(b"%06d,%093d\n" % (n, n) for n in range(2000))
    assert len(content) > 200_000
    made = upload(client, content).json()
    headers = {"Range": f"bytes={','.join(ranges)}"}
    answer = client.get(f"/api/datasets/{made['id']}/content", headers=headers)
    assert answer.status_code in (200, 206)
    # A part's head: boundary, kind and place.
    heads = answer.content.count(b"Content-Range: bytes ")
    assert heads <= len(ranges)
    assert len(answer.content) <= len(content) + 200 * (heads + 1)
    if answer.status_code == 200:
        assert answer.content == content


def test_a_wrong_file_is_told_by_line(client: TestClient, app: FastAPI) -> None:
    answer = upload(client, b"text,target\na\nb,c\n,\n")
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (422, "column_count", "file")
    assert [detail["line"] for detail in error["details"]] == [2, 4, 4]
    assert stored(app) == []


def test_binary_files_are_415(client: TestClient, app: FastAPI) -> None:
    answer = upload(client, gzip.compress(CSV))
    assert (answer.status_code, "gzip" in answer.json()["error"]["message"]) == (415, True)
    assert stored(app) == []


def test_a_file_over_the_limit_is_413(client: TestClient, app: FastAPI) -> None:
    limit = app.state.services.settings.max_upload_bytes
    for size in (limit + 1, limit + 1024 * 1024):
        answer = upload(client, b"x" * size)
        assert answer.status_code == 413
    assert stored(app) == []

    def endless() -> Iterator[bytes]:
        yield part("name", b"x")
        yield FILE[:-2]
        for _ in range(limit // 65_536 + 32):
            yield b"a,b\n" * 16_384

    answer = client.post("/api/datasets", content=endless(), headers=MULTIPART)
    assert answer.status_code == 413
    assert stored(app) == []


def test_compressed_requests_are_not_inflated(client: TestClient, app: FastAPI) -> None:
    """C18: ten megabytes in ten kilobytes."""
    bomb = gzip.compress(b"\0" * 10_000_000)
    for path in ("/api/datasets", "/api/datasets/inspect"):
        answer = client.post(path, content=bomb, headers=MULTIPART | {"Content-Encoding": "gzip"})
        assert answer.status_code == 415
    assert stored(app) == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"nonsense", 400),
        (END, 400),
        (part("name", b"x") + END, 400),
        (part("name", b"x") + FILE, 400),
        (FILE[:-20], 400),
        (FILE + FILE + END, 400),
        (part("data", CSV, '; filename="a.csv"') + END, 400),
        (part("name", b"x" * 100_000) + FILE + END, 413),
        (b"".join(part(f"f{n}", b"x") for n in range(10_000)) + END, 400),
        (f"--{BOUNDARY}\r\nX: {'x' * 1_000_000}\r\n\r\n".encode() + END, 400),
        (b"x" * 1_000_000 + FILE + END, 400),
        (part("name", b"ok") + FILE + END, 201),
        (FILE + part("name", b"ok") + END, 201),
        (FILE + END, 422),
    ],
)
def test_forms(client: TestClient, app: FastAPI, body: bytes, status: int) -> None:
    answer = client.post("/api/datasets", content=body, headers=MULTIPART)
    assert answer.status_code == status
    if status != 201:
        assert stored(app) == []


@pytest.mark.parametrize("kind", ["application/json", "text/csv", "multipart/form-data", ""])
def test_other_content_types_are_415(client: TestClient, kind: str) -> None:
    answer = client.post("/api/datasets", content=CSV, headers={"Content-Type": kind})
    assert answer.status_code == 415


def test_the_name_of_the_file_makes_no_path(client: TestClient, app: FastAPI) -> None:
    for extra in (
        '; filename="../../../x.csv"', '; filename="..\\\\..\\\\x.csv"', '; filename="/etc/x.csv"',
        "; filename*=UTF-8''..%2F..%2Fx.csv; filename=\"y.csv\"",
    ):  # fmt: skip
        body = part("name", b"x") + part("file", CSV, extra) + END
        made = client.post("/api/datasets", content=body, headers=MULTIPART).json()
        assert "/" not in made["filename"]
        assert "\\" not in made["filename"]
    folder = app.state.services.settings.root / "datasets"
    assert {path.name for path in folder.rglob("*") if path.is_file()} == {
        "source", "records.jsonl", "manifest.json",
    }  # fmt: skip


def test_the_same_key_uploads_once(client: TestClient) -> None:
    key = {"Idempotency-Key": "upload-1"}
    first = upload(client, headers=key)
    again = upload(client, headers=key)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    other = upload(client, CSV + b"e,f\n", headers=key)
    assert (other.status_code, other.json()["error"]["code"]) == (422, "idempotency_key_reused")
    renamed = upload(client, name="other", headers=key)
    assert renamed.status_code == 422
    assert len(client.get("/api/datasets").json()["data"]) == 1


def test_a_refused_upload_frees_its_key(client: TestClient) -> None:
    key = {"Idempotency-Key": "upload-1"}
    assert upload(client, b"text\n", headers=key).status_code == 422
    assert upload(client, b"text\n", headers=key).status_code == 422


def test_messages_through_the_api(client: TestClient) -> None:
    line = json.dumps(
        {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    )
    made = upload(client, line.encode(), filename="chat.jsonl").json()
    assert (made["format"], made["file_type"], made["rows"]) == ("messages", "jsonl", 1)


@pytest.mark.parametrize("query", ["limit=0", "limit=51", "limit=x", "base_model="])
def test_odd_previews_are_refused(client: TestClient, query: str) -> None:
    made = upload(client).json()
    assert client.get(f"/api/datasets/{made['id']}/preview?{query}").status_code == 422


@pytest.mark.parametrize("model", ["../../etc", "a/b", "x" * 200, "!!!", "-", "é"])
def test_a_preview_with_an_unknown_base_model_is_404(client: TestClient, model: str) -> None:
    url = f"/api/datasets/{upload(client).json()['id']}/preview"
    answer = client.get(url, params={"base_model": model})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
    assert "library" in answer.json()["error"]["message"]


def test_a_preview_uses_ones_own_base_models_alone(
    client: TestClient, app: FastAPI, other_owner: str
) -> None:
    url = f"/api/datasets/{upload(client).json()['id']}/preview"
    theirs = {"Authorization": f"Bearer {other_owner}"}
    added = client.post("/api/library", json={"id": "them/theirs"}, headers=theirs)
    assert added.status_code == 201
    folder = app.state.services.storage.base_model("them/theirs")
    folder.mkdir(parents=True)
    (folder / "chat_template.jinja").write_text("theirs: {{ messages[0].content }}")
    assert client.get(url, params={"base_model": "them/theirs"}).status_code == 404
    assert client.post("/api/library", json={"id": "me/mine"}).status_code == 201
    answer = client.get(url, params={"base_model": "me/mine"}).json()
    assert (answer["base_model"], answer["rendered"][0][0]["text"]) == ("me/mine", "user: ")


@pytest.mark.parametrize("rest", ['"\\ud800":1', '"x":"\\ud800"', '"x":[{"\\uDFFF":0}]'])
def test_half_a_character_is_refused_and_lists_go_on(
    client: TestClient, app: FastAPI, rest: str
) -> None:
    line = f'{{"prompt":"a","completion":"b",{rest}}}'
    answer = upload(client, line.encode(), filename="a.jsonl")
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "not_utf8")
    assert answer.json()["error"]["details"][0]["line"] == 1
    assert stored(app) == []
    assert client.get("/api/datasets").json()["data"] == []


def test_half_a_character_that_an_older_version_took_breaks_no_page(
    browser: TestClient, app: FastAPI
) -> None:
    made = upload(browser, b'{"prompt":"a","completion":"b"}', filename="a.jsonl").json()
    services = app.state.services
    with services.database.write() as session:
        session.get_one(Dataset, made["id"]).columns = ["prompt", "completion", "\ud800"]
    services.storage.dataset_source(made["id"]).write_text(
        '{"prompt":"a","completion":"b","\\ud800":"\\udfff"}'
    )
    for path in ("", f"/{made['id']}"):
        for kind in ("/api/datasets", "/datasets"):
            assert browser.get(f"{kind}{path}").status_code == 200
    shown = browser.get(f"/api/datasets/{made['id']}").json()
    assert shown["columns"] == ["prompt", "completion", "\\ud800"]
    preview = browser.get(f"/api/datasets/{made['id']}/preview").json()
    assert preview["rows"] == [{"prompt": "a", "completion": "b", "\\ud800": "\\udfff"}]
    assert browser.delete(f"/api/datasets/{made['id']}").status_code == 204


@pytest.mark.parametrize("name", ["", "a\nb", "x" * 101])
def test_odd_names_are_refused(client: TestClient, app: FastAPI, name: str) -> None:
    answer = upload(client, name=name)
    assert (answer.status_code, answer.json()["error"]["param"]) == (422, "name")
    assert stored(app) == []
