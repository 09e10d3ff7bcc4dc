"""One name of a request in the logs of all that worked on it, in processes as they really run."""

import json
from pathlib import Path
from typing import Any

from tests.chaos.services import GATEWAY, INFERENCE
from tests.chaos.stack import Stack, running_stack
from tests.trainer_service.tiny import TINY_MODEL


def told(stack: Stack, name: str, request_id: str) -> list[dict[str, Any]]:
    """What a service's log says of one request."""
    lines = (stack.logs / f"{name}.log").read_text().splitlines()
    records = [json.loads(line) for line in lines if line.startswith("{")]
    assert records
    return [record for record in records if record.get("request_id") == request_id]


def ask(stack: Stack, request_id: str, **more: Any) -> Any:
    body = {"model": TINY_MODEL, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 8}
    return stack.client.http.post(
        "/v1/chat/completions", json=body | more, headers={"x-request-id": request_id}
    )


def test_a_fault_is_found_in_both_logs_under_one_id(tmp_path: Path) -> None:
    with running_stack(tmp_path, trainers=0, inference=True, log_json="true") as stack:
        for name in ("first-loads-it", "all-is-well"):
            assert ask(stack, name).status_code == 200
        stack.stages.order("prompt_is_read", "raise 5")
        failed = ask(stack, "prompt-is-lost")
        assert failed.status_code >= 500
        assert failed.headers["x-request-id"] == "prompt-is-lost"
        stack.stages.order("token_is_decoded", "raise 5")
        broken = ask(stack, "step-is-lost", stream=True)
        assert '"error"' in broken.text
        stack.stages.clear()
        (line,) = told(stack, INFERENCE, "prompt-is-lost")
        assert "prompt failed" in line["message"] and "Input/output error" in line["exception"]
        assert any("did not answer" in x["message"] for x in told(stack, GATEWAY, "prompt-is-lost"))
        assert any("broke off" in x["message"] for x in told(stack, GATEWAY, "step-is-lost"))
        lost = (stack.logs / f"{INFERENCE}.log").read_text()
        assert "requests in its rows end: step-is-lost" in lost
        for name in (GATEWAY, INFERENCE):
            assert told(stack, name, "all-is-well") == []
