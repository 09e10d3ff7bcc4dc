"""`/v1/batches` through OpenAI's unmodified client."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI
from openai.types import Batch as OpenAIBatch

from gateway import keys
from gateway.settings import GatewaySettings
from gateway.tables import Batch, BatchAnswer, BatchFile, now
from shared.model_library import BUNDLED_MODEL
from tests.gateway.api.live import Live, chat, live_gateway
from tests.gateway.conftest import ADMIN_KEY
from tests.gateway.parts import until_true

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"


@pytest.fixture
def live(settings: GatewaySettings) -> Iterator[Live]:
    with live_gateway(settings.model_copy(update={"batch_lease_seconds": 2})) as live:
        live.inference.echoes, live.inference.refused_word = True, "refused"
        chat(live, BUNDLED_MODEL).raise_for_status()
        live.inference.asked.clear()
        yield live


def request(custom_id: str, said: str, **changes: Any) -> dict[str, Any]:
    body = {"model": BUNDLED_MODEL, "messages": [{"role": "user", "content": said}]}
    return {"custom_id": custom_id, "method": "POST", "url": CHAT, "body": body | changes}


def lines(*items: object) -> bytes:
    return b"".join(
        (item if isinstance(item, bytes) else json.dumps(item).encode()) + b"\n" for item in items
    )


def upload(client: OpenAI, content: bytes) -> str:
    return client.files.create(file=("requests.jsonl", content), purpose="batch").id


def begin(client: OpenAI, content: bytes, endpoint: Any = CHAT, **more: Any) -> OpenAIBatch:
    return client.batches.create(
        input_file_id=upload(client, content),
        endpoint=endpoint,
        completion_window="24h",
        **more,
    )


def ended(client: OpenAI, batch: OpenAIBatch) -> OpenAIBatch:
    over = ("completed", "failed", "cancelled", "expired")
    until_true(lambda: client.batches.retrieve(batch.id).status in over)
    return client.batches.retrieve(batch.id)


def content(client: OpenAI, file_id: str | None) -> list[dict[str, Any]]:
    assert file_id is not None
    return [json.loads(line) for line in client.files.content(file_id).text.splitlines()]


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


def test_a_lease_that_somebody_took_is_given_up(live: Live) -> None:
    live.inference.seconds_a_word = 0.05
    with live.openai as client:
        made = begin(client, lines(*(request(f"r{number}", "x") for number in range(40))))
        until_true(lambda: _counts(client, made)[1] > 3)
        with live.services.database.write() as session:
            batch = session.get_one(Batch, made.id)
            batch.lease_holder, batch.lease_until = "other", now() + timedelta(seconds=2)
        until_true(lambda: live.inference.at_once == 0)
        assert _counts(client, made)[1] < 40
        # The other one is not heard of again.
        answers = content(client, ended(client, made).output_file_id)
    assert [one["custom_id"] for one in answers] == [f"r{number}" for number in range(40)]


def test_requests_that_are_gone_fail_the_batch(live: Live) -> None:
    live.inference.stop()
    with live.openai as client:
        made = begin(client, lines(request("a", "x")))
        until_true(lambda: client.batches.retrieve(made.id).status == "in_progress")
        for path in (live.services.storage.root / "files").iterdir():
            path.unlink()
        with live.services.database.write() as session:
            session.get_one(Batch, made.id).lease_holder = "other"
        batch = ended(client, made)
        live.inference.start()
    assert batch.errors is not None and batch.errors.data is not None
    assert (batch.status, batch.errors.data[0].code) == ("failed", "file_missing")


@pytest.mark.parametrize(
    ("items", "code", "line"),
    [
        ([request("a", "x"), b"nonsense"], "invalid_json_line", 2),
        ([b"[1]"], "invalid_json_line", 1),
        ([request("a", "x"), b"", request("a", "y")], "duplicate_custom_id", 3),
        ([request("", "x")], "missing_required_parameter", 1),
        ([request("a", "x") | {"method": "GET"}], "invalid_method", 1),
        ([request("a", "x") | {"url": TEXT}], "mismatched_endpoint", 1),
        ([request("a", "x") | {"body": []}], "missing_required_parameter", 1),
        ([request("a", "x", model=None)], "missing_required_parameter", 1),
        ([request("a", "x"), request("b", "x", model="other")], "mismatched_model", 2),
        ([request("a", "x", model="nobody")], "model_not_found", None),
        ([b""], "empty_file", None),
    ],
)
def test_a_file_that_is_wrong_fails_the_batch(
    live: Live, items: list[object], code: str, line: int | None
) -> None:
    with live.openai as client:
        batch = ended(client, begin(client, lines(*items)))
    assert batch.status == "failed" and batch.failed_at is not None
    assert batch.errors is not None and batch.errors.object == "list"
    [error] = batch.errors.data or []
    assert (error.code, error.line) == (code, line) and error.message
    assert batch.output_file_id is None and live.inference.asked == []


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"endpoint": "/v1/embeddings"}, "endpoint"),
        ({"input_file_id": "file-nobody"}, "input_file_id"),
        ({"input_file_id": "file-test"}, "input_file_id"),
        ({"completion_window": "1h"}, "completion_window"),
        ({"metadata": {"k" * 65: "v"}}, "metadata"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 1}}, "output_expires_after"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_what_cannot_be_asked_for(live: Live, changes: dict[str, Any], param: str) -> None:
    with live.openai as client:
        file_id = upload(client, lines(request("a", "x")))
        given = {"input_file_id": file_id, "endpoint": CHAT, "completion_window": "24h"}
        answer = live.http.post("/v1/batches", json=given | changes)
        assert answer.status_code == 400
        assert str(answer.json()["error"]["param"]).startswith(param)
        assert client.batches.list().data == []


def test_a_cancel_keeps_what_was_answered(live: Live) -> None:
    live.inference.seconds_a_word = 0.05
    wanted = [request(f"r{number}", "x") for number in range(60)]
    with live.openai as client:
        made = begin(client, lines(*wanted))
        until_true(lambda: _counts(client, made)[1] > 3)
        cancelling = client.batches.cancel(made.id)
        assert cancelling.status == "cancelling" and cancelling.cancelling_at is not None
        batch = ended(client, made)
        assert batch.status == "cancelled" and batch.cancelled_at is not None
        answered = content(client, batch.output_file_id)
        errors = content(client, batch.error_file_id)
        assert 3 < len(answered) < 60
        told = {one["custom_id"] for one in answered} | {one["custom_id"] for one in errors}
        assert told == {one["custom_id"] for one in wanted}
        assert len(answered) + len(errors) == 60
        assert {one["error"]["code"] for one in errors} == {"batch_cancelled"}
        assert all(one["response"] is None for one in errors)
        with pytest.raises(openai.ConflictError):
            client.batches.cancel(made.id)


def _counts(client: OpenAI, batch: OpenAIBatch) -> tuple[int, int]:
    counts = client.batches.retrieve(batch.id).request_counts
    assert counts is not None
    return counts.total, counts.completed


def test_a_batch_whose_time_is_over_keeps_what_was_answered(live: Live) -> None:
    live.inference.seconds_a_word = 0.05
    with live.openai as client:
        made = begin(client, lines(*(request(f"r{number}", "x") for number in range(60))))
        until_true(lambda: _counts(client, made)[1] > 3)
        with live.services.database.write() as session:
            session.get_one(Batch, made.id).expires_at = now()
        batch = ended(client, made)
        assert batch.status == "expired" and batch.expired_at is not None
        errors = content(client, batch.error_file_id)
        assert {one["error"]["code"] for one in errors} == {"batch_expired"}
        assert len(content(client, batch.output_file_id)) + len(errors) == 60


def test_half_of_the_engine_is_left_to_others(live: Live) -> None:
    live.inference.seconds_a_word = 0.02
    with live.openai as client:
        made = [
            begin(client, lines(*(request(f"r{number}", "x") for number in range(20))))
            for _ in range(2)
        ]
        assert [ended(client, batch).status for batch in made] == ["completed"] * 2
    assert live.inference.most_at_once == 4


def test_an_engine_that_starts_later_is_used_as_it_is(live: Live) -> None:
    live.inference.seconds_a_word, live.inference.capacity = 0.02, 12
    live.inference.stop()
    wanted = lines(*(request(f"r{number}", "x") for number in range(40)))
    with live.openai as client:
        early = begin(client, lines(request("a", "x")))
        until_true(lambda: client.batches.retrieve(early.id).status == "in_progress")
        live.inference.start()
        live.inference.most_at_once = 0
        assert ended(client, early).status == "completed"
        assert ended(client, begin(client, wanted)).status == "completed"
    assert live.inference.most_at_once == 6


def test_a_model_that_is_away_is_waited_for(live: Live) -> None:
    live.inference.dead.add(f"base/{BUNDLED_MODEL}")
    live.inference.dead.add(BUNDLED_MODEL)
    with live.openai as client:
        made = begin(client, lines(request("a", "x")))
        until_true(lambda: len(live.inference.asked) > 0)
        assert _counts(client, made) == (1, 0)
        live.inference.dead.clear()
        assert ended(client, made).status == "completed"


def test_files_end_when_they_are_told_to(live: Live) -> None:
    with live.openai as client:
        file = client.files.create(
            file=("r.jsonl", lines(request("a", "x"))),
            purpose="batch",
            expires_after={"anchor": "created_at", "seconds": 3600},
        )
        assert file.expires_at == file.created_at + 3600
        usual = client.files.retrieve(upload(client, b"{}"))
        assert usual.expires_at == usual.created_at + 30 * 24 * 3600
        ends: Any = {"anchor": "created_at", "seconds": 7200}
        batch = ended(client, begin(client, lines(request("a", "x")), output_expires_after=ends))
        output = client.files.retrieve(str(batch.output_file_id))
        assert output.expires_at == output.created_at + 7200
        with live.services.database.write() as session:
            stored = output.id.replace("file-batch-", "bf_")
            session.get_one(BatchFile, stored).expires_at = now() - timedelta(seconds=1)
        with pytest.raises(openai.NotFoundError):
            client.files.content(output.id)
        assert output.id not in {one.id for one in client.files.list()}


def test_files_of_batches_are_files(live: Live) -> None:
    with live.openai as client:
        first = upload(client, lines(request("a", "x")))
        assert client.files.content(first).read() == lines(request("a", "x"))
        assert [one.id for one in client.files.list(purpose="batch")] == [first]
        assert {one.purpose for one in client.files.list()} == {"batch", "fine-tune"}
        assert client.files.delete(first).deleted
        with pytest.raises(openai.NotFoundError):
            client.files.retrieve(first)
        assert list((live.services.storage.root / "files").iterdir()) == []


def test_a_file_that_a_batch_needs_stays(live: Live) -> None:
    live.inference.seconds_a_word = 0.1
    with live.openai as client:
        made = begin(client, lines(*(request(f"r{number}", "x") for number in range(30))))
        with pytest.raises(openai.ConflictError, match="works on this file"):
            client.files.delete(made.input_file_id)
        client.batches.cancel(made.id)
        ended(client, made)
        assert client.files.delete(made.input_file_id).deleted


def test_a_batch_is_made_once(live: Live) -> None:
    with live.openai as client:
        file_id = upload(client, lines(request("a", "x")))
        given = {"input_file_id": file_id, "endpoint": CHAT, "completion_window": "24h"}
        made = [
            live.http.post("/v1/batches", json=given, headers={"Idempotency-Key": "k"}).json()["id"]
            for _ in range(2)
        ]
        assert made[0] == made[1] and len(client.batches.list().data) == 1


def test_a_key_that_may_ask_models_may_have_batches_and_nothing_else(live: Live) -> None:
    _, secret = keys.create_key(
        database=live.services.database, owner="admin", name="k", scopes=["infer"]
    )
    with OpenAI(base_url=f"{live.url}/v1", api_key=secret, max_retries=0) as client:
        batch = ended(client, begin(client, lines(request("a", "x"))))
        assert len(content(client, batch.output_file_id)) == 1
        assert {one.purpose for one in client.files.list()} == {"batch", "batch_output"}
        for refused in (
            lambda: client.files.retrieve("file-test"),
            lambda: client.files.content("file-test"),
            lambda: client.files.delete("file-test"),
            lambda: client.files.create(file=("a.jsonl", b"{}"), purpose="fine-tune"),
        ):
            with pytest.raises(openai.PermissionDeniedError):
                refused()


def test_batches_of_others_do_not_exist(live: Live) -> None:
    _, secret = keys.create_key(database=live.services.database, owner="other", name="k")
    with live.openai as client, live.openai.with_options(api_key=secret) as other:
        batch = ended(client, begin(client, lines(request("a", "x"))))
        assert other.batches.list().data == []
        for refused in (
            lambda: other.batches.retrieve(batch.id),
            lambda: other.batches.cancel(batch.id),
            lambda: other.files.retrieve(batch.input_file_id),
            lambda: other.files.content(str(batch.output_file_id)),
            lambda: other.files.delete(batch.input_file_id),
        ):
            with pytest.raises(openai.NotFoundError):
                refused()
        with pytest.raises(openai.BadRequestError):
            other.batches.create(
                input_file_id=batch.input_file_id, endpoint=CHAT, completion_window="24h"
            )


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
