"""One name of a request in the logs of all that worked on it, in processes as they really run."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.services import GATEWAY, INFERENCE, trainer
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


@pytest.mark.chaos
def test_a_run_is_told_of_under_the_id_of_the_request_that_made_it(tmp_path: Path) -> None:
    with running_stack(tmp_path, trainers=1, log_json="true") as stack:
        client = stack.client
        stack.stages.order("step_begins", "raise 5")
        client.http.headers["x-request-id"] = "makes-a-run"
        run_id = client.start_run(max_steps=2)
        client.http.headers["x-request-id"] = "looks-at-it"
        client.wait_end(run_id)
        (made,) = told(stack, GATEWAY, "makes-a-run")
        assert made["message"] == f"Run {run_id} was made."
        messages = [record["message"] for record in told(stack, trainer(1), "makes-a-run")]
        # The child's own words, and those of the worker that watched over it, also of the attempt
        # that the gateway made of itself.
        assert "Training crashed" in messages
        assert f"Run {run_id} attempt 1: failed" in messages
        assert f"Run {run_id} attempt 2: succeeded" in messages
