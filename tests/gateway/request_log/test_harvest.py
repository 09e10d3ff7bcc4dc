"""Traffic, and what people said of it, becomes a dataset."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from gateway import keys
from gateway.settings import GatewaySettings
from tests.gateway.api.live import Live, chat, live_gateway
from tests.gateway.parts import OWNER

SYSTEM = {"role": "system", "content": "Be short."}


@pytest.fixture
def live(settings: GatewaySettings) -> Iterator[Live]:
    with live_gateway(settings) as live:
        live.deploy("small")
        yield live


def ask(live: Live, text: str, **changes: Any) -> str:
    messages = [SYSTEM, {"role": "user", "content": text}]
    answer = chat(live, "small", messages=messages, **changes)
    assert answer.status_code == 200, answer.text
    return answer.headers["x-genplat-request-id"]


def rate(live: Live, request_id: str, **said: Any) -> httpx.Response:
    return live.http.post(f"/api/requests/{request_id}/feedback", json=said)


def harvest(live: Live, **requests: Any) -> httpx.Response:
    return live.http.post("/api/requests/dataset", json={"name": "traffic", "requests": requests})


def rows(live: Live, dataset_id: str) -> dict[str, str]:
    """Answers by question."""
    content = live.http.get(f"/api/datasets/{dataset_id}/content").text
    found = [json.loads(line)["messages"] for line in content.splitlines()]
    assert all(messages[0] == SYSTEM for messages in found)
    return {messages[1]["content"]: messages[2]["content"] for messages in found}


def test_answers_become_rows(live: Live) -> None:
    live.inference.words = ["first"]
    ask(live, "plain")
    ask(live, "opted out", store=False)
    assert rate(live, ask(live, "bad"), rating="down").status_code == 200
    rate(live, ask(live, "corrected"), rating="down", correction="as it should be")
    rate(live, ask(live, "twice"), rating="up")
    live.inference.words = ["second"]
    ask(live, "twice")
    ask(live, "again")
    live.inference.words = ["third"]
    ask(live, "again")
    made = harvest(live)
    assert made.status_code == 201, made.text
    assert rows(live, made.json()["id"]) == {
        "plain": "first",
        "corrected": "as it should be",
        # The one that somebody liked; of equals the newest.
        "twice": "first",
        "again": "third",
    }
    assert made.json()["description"] == "From the request log."
    liked = harvest(live, feedback="up")
    assert rows(live, liked.json()["id"]) == {"twice": "first"}
    assert liked.json()["version"] == 2
    assert liked.json()["description"] == "From the request log: feedback up."


def test_what_failed_is_learned_from_once_it_was_corrected(live: Live) -> None:
    ask(live, "went well")
    live.inference.dead = {"small"}
    for text in ("lost", "corrected"):
        messages = [SYSTEM, {"role": "user", "content": text}]
        assert chat(live, "small", messages=messages).status_code == 503
    live.inference.dead = set()
    (failed,) = live.http.get("/api/requests", params={"q": "corrected"}).json()["data"]
    assert (failed["status"], failed["reply"]) == (503, None)
    assert rate(live, failed["id"], correction="So it is.").status_code == 200
    made = rows(live, harvest(live).json()["id"])
    assert made.keys() == {"went well", "corrected"}
    assert made["corrected"] == "So it is."


def test_every_shape_of_conversation_is_a_row(live: Live) -> None:
    live.inference.words = [" and on"]
    asked = [
        [{"role": "developer", "content": "Be kind."}, {"role": "user", "content": "dev"}],
        [{"role": "user", "content": [{"type": "text", "text": "part"}]}],
        [
            {"role": "user", "content": "one"},
            {"role": "assistant", "content": "two"},
            {"role": "user", "content": "three \u2028\U0001f600"},
        ],
    ]
    for messages in asked:
        assert chat(live, "small", messages=messages).status_code == 200
    begun = [{"role": "user", "content": "go"}, {"role": "assistant", "content": "On"}]
    chat(live, "small", messages=begun, continue_final_message=True)
    made = harvest(live)
    assert made.status_code == 201, made.text
    content = live.http.get(f"/api/datasets/{made.json()['id']}/content").text
    found = [json.loads(line)["messages"] for line in content.split("\n") if line]
    assert [[turn["content"] for turn in turns] for turns in reversed(found)] == [
        ["Be kind.", "dev", " and on"],
        ["part", " and on"],
        ["one", "two", "three \u2028\U0001f600", " and on"],
        ["go", "On and on"],
    ]


def test_a_dataset_of_nothing_is_refused(live: Live) -> None:
    ask(live, "something")
    answer = harvest(live, q="nowhere to be found")
    assert answer.status_code == 422
    assert "None of these requests" in answer.json()["error"]["message"]


def test_feedback_changes_what_it_names(live: Live) -> None:
    request_id = ask(live, "a question")
    rate(live, request_id, rating="up", comment="Good, says jane@mail.example")
    found = rate(live, request_id, correction="Better").json()
    assert (found["feedback"], found["feedback_comment"]) == (1, "Good, says [email]")
    assert found["correction"] == "Better"
    found = rate(live, request_id, rating=None).json()
    assert (found["feedback"], found["correction"]) == (None, "Better")
    assert rate(live, "req_nothing", rating="up").status_code == 404
    assert rate(live, request_id).status_code == 422
    assert rate(live, request_id, rating="good").status_code == 422
    kept_out = ask(live, "a secret", store=False)
    assert rate(live, kept_out, rating="down").status_code == 200
    refused = rate(live, kept_out, correction="x")
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "correction"


def test_whoever_may_ask_may_rate(live: Live) -> None:
    request_id = ask(live, "a question")
    _, secret = keys.create_key(
        database=live.services.database, owner=OWNER, name="app", scopes=("infer",)
    )
    with httpx.Client(base_url=live.url, headers={"Authorization": f"Bearer {secret}"}) as client:
        rated = client.post(f"/api/requests/{request_id}/feedback", json={"rating": "up"})
        assert rated.status_code == 200
        assert rated.json()["feedback"] == 1
        # That is no way to read what others asked.
        assert "a question" not in rated.text
        assert client.get("/api/requests").status_code == 403
        assert client.post("/api/requests/dataset", json={"name": "x"}).status_code == 403
