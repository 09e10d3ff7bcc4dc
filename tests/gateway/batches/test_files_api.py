"""Files of batches as `/v1/files`, and who may see them."""

from datetime import timedelta
from typing import Any

import openai
import pytest
from openai import OpenAI

from gateway import keys
from gateway.tables import BatchFile, now
from tests.gateway.api.live import Live
from tests.gateway.batches.over_openai import CHAT, begin, content, ended, lines, request, upload


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
