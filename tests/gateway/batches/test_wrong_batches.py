"""What cannot be a batch is told of: by line, or by the field."""

from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.gateway.api.live import Live, live_gateway
from tests.gateway.batches.over_openai import CHAT, TEXT, begin, ended, lines, request, upload
from tests.gateway.conftest import gateway_settings
from tests.valkey import Valkey


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, valkey_server: Valkey) -> Iterator[Live]:
    """One for all: nothing is answered here."""
    with live_gateway(gateway_settings(tmp_path_factory.mktemp("gateway"), valkey_server)) as live:
        yield live


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
        ([request("a", "x", model="nobody")], "model_not_found", 1),
        ([b"", b" \r", request("a", "x", model="nobody")], "model_not_found", 3),
        ([b'{"custom_id": "\xff"}'], "invalid_json_line", 1),
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
        assert file_id not in {batch.input_file_id for batch in client.batches.list()}


@pytest.mark.parametrize("seconds", ["3599", "2592001", "-1", "3600.5", "0000003600" + "9" * 400])
def test_no_file_ends_then(live: Live, seconds: str) -> None:
    ends: Any = {"anchor": "created_at", "seconds": seconds}
    with live.openai as client, pytest.raises(openai.BadRequestError) as caught:
        client.files.create(file=("r.jsonl", b"{}"), purpose="batch", expires_after=ends)
    assert caught.value.param == "expires_after"
