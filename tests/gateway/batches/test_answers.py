"""Every request of a batch is answered in a file, or told of in another."""

import os
import re
import subprocess
import sys
from pathlib import Path

from sqlmodel import select

from gateway.tables import BatchAnswer, LoggedRequest
from shared.model_library import BUNDLED_MODEL
from tests.gateway.api.live import Live
from tests.gateway.batches.over_openai import (
    CHAT,
    TEXT,
    begin,
    content,
    ended,
    lines,
    request,
    upload,
)
from tests.gateway.conftest import ADMIN_KEY
from tests.gateway.parts import until_true


def test_every_request_is_answered_in_a_file(live: Live) -> None:
    wanted = [request(f"r{number}", f"q{number}", max_tokens=7) for number in range(20)]
    with live.openai as client:
        made = begin(client, lines(*wanted), metadata={"mine": "yes"})
        assert (made.object, made.status, made.endpoint) == ("batch", "validating", CHAT)
        assert made.expires_at == made.created_at + 24 * 3600
        batch = ended(client, made)
        assert (batch.status, batch.model, batch.errors) == ("completed", BUNDLED_MODEL, None)
        assert batch.request_counts is not None and batch.request_counts.to_dict() == {
            "total": 20,
            "completed": 20,
            "failed": 0,
        }
        assert batch.usage is not None
        assert (batch.usage.input_tokens, batch.usage.output_tokens) == (100, 60)
        assert batch.usage.total_tokens == 160
        moments = [batch.created_at, batch.in_progress_at, batch.finalizing_at, batch.completed_at]
        assert moments == sorted(moments, key=lambda moment: moment or 0)
        assert batch.metadata == {"mine": "yes"} and batch.error_file_id is None
        answers = content(client, batch.output_file_id)
        for number, answer in enumerate(answers):
            assert answer.keys() == {"id", "custom_id", "response", "error"}
            assert (answer["custom_id"], answer["error"]) == (f"r{number}", None)
            assert answer["id"].startswith("batch_req_")
            assert answer["response"]["status_code"] == 200
            body = answer["response"]["body"]
            assert body["choices"][0]["message"]["content"] == f"to q{number}"
            assert body["model"] == BUNDLED_MODEL
        assert len({answer["id"] for answer in answers}) == 20
        file = client.files.retrieve(str(batch.output_file_id))
        assert (file.purpose, file.expires_at) == ("batch_output", None)
        assert file.bytes == len(client.files.content(file.id).read())
        assert client.batches.list().data[0] == batch
    assert {body["max_tokens"] for body in live.inference.asked} == {7}
    with live.services.database.read() as session:
        assert session.get(BatchAnswer, (batch.id, 1)) is None


def test_text_completions(live: Live) -> None:
    body = {"model": BUNDLED_MODEL, "prompt": "Once"}
    item = {"custom_id": "a", "method": "POST", "url": TEXT, "body": body}
    with live.openai as client:
        batch = ended(client, begin(client, lines(item), TEXT))
        [answer] = content(client, batch.output_file_id)
    assert answer["response"]["body"]["choices"][0]["text"] == "to Once"


def logged(live: Live) -> set[str | None]:
    """What the requests in the log are called."""
    with live.services.database.read() as session:
        return set(session.exec(select(LoggedRequest.request_id)))


def test_a_request_that_fails_goes_into_the_error_file(live: Live) -> None:
    wanted = [
        request("good", "hello"),
        request("refused", "refused"),
        request("hot", "hello", temperature=9),
        request("stream", "hello", stream=True),
    ]
    with live.openai as client:
        batch = ended(client, begin(client, lines(*wanted)))
        counts = batch.request_counts
        assert batch.status == "completed" and counts is not None
        assert (counts.total, counts.completed, counts.failed) == (4, 1, 3)
        assert [one["custom_id"] for one in content(client, batch.output_file_id)] == ["good"]
        errors = content(client, batch.error_file_id)
    assert [one["custom_id"] for one in errors] == ["refused", "hot", "stream"]
    assert [one["response"]["status_code"] for one in errors] == [400, 400, 400]
    assert errors[0]["response"]["body"]["error"]["code"] == "too_long"
    asked = errors[0]["response"]["request_id"]
    until_true(lambda: asked in logged(live))
    assert [one["response"]["body"]["error"]["param"] for one in errors[1:]] == [
        "temperature",
        "stream",
    ]


def test_what_nobody_foresaw_is_told_of_its_request(live: Live) -> None:
    live.inference.garbled_word = "garbled"
    wanted = [request(said, said) for said in ("one", "garbled", "three")]
    with live.openai as client:
        batch = ended(client, begin(client, lines(*wanted)))
        assert batch.status == "completed"
        said = [one["custom_id"] for one in content(client, batch.output_file_id)]
        [error] = content(client, batch.error_file_id)
    assert said == ["one", "three"]
    assert (error["custom_id"], error["response"]["status_code"]) == ("garbled", 500)


def test_a_batch_is_made_once(live: Live) -> None:
    with live.openai as client:
        file_id = upload(client, lines(request("a", "x")))
        given = {"input_file_id": file_id, "endpoint": CHAT, "completion_window": "24h"}
        made = [
            live.http.post("/v1/batches", json=given, headers={"Idempotency-Key": "k"}).json()["id"]
            for _ in range(2)
        ]
        assert made[0] == made[1] and len(client.batches.list().data) == 1


def test_lists_have_pages(live: Live) -> None:
    with live.openai as client:
        made = [begin(client, lines(request("a", "x"))).id for _ in range(5)]
        page = client.batches.list(limit=2)
        assert page.has_more and [one.id for one in page.data] == made[:2:-1]
        assert [one.id for one in client.batches.list(limit=2)] == made[::-1]


def test_the_example_of_the_docs_works_as_it_is(live: Live) -> None:
    text = (Path(__file__).parents[3] / "docs" / "batch.md").read_text(encoding="utf-8")
    found = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert found is not None
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", found[1]],
        env=os.environ | {"GENPLAT_URL": live.url, "GENPLAT_API_KEY": ADMIN_KEY},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "question-0 to What is a route?",
        "question-1 to What is a run?",
    ]
