"""What is asked of models is in the log, with how it ended; as much of it as may be kept."""

from datetime import timedelta
from typing import Any

import httpx
import pytest

from gateway import keys
from gateway.request_log.retention import forget
from gateway.settings import GatewaySettings
from gateway.tables import LoggedRequest, now
from tests.gateway.api.live import Live, chat, live_gateway
from tests.gateway.dying_upstream import DyingUpstream
from tests.gateway.service_behind import gateway_before, service_behind  # noqa: F401 - fixtures

TELL = {"messages": [{"role": "user", "content": "Tell jane@mail.example of Größe"}]}


def logged(live: Live, **wanted: Any) -> list[dict[str, Any]]:
    answer = live.http.get("/api/requests", params=wanted)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["data"]
    return found


def whole(live: Live, request_id: str) -> dict[str, Any]:
    found: dict[str, Any] = live.http.get(f"/api/requests/{request_id}").json()
    return found


def test_an_answer_is_kept_with_who_gave_it(live: Live, upstream: DyingUpstream) -> None:
    answer = chat(live, "best", **TELL, temperature=0.5, metadata={"case": "7"})
    (listed,) = logged(live)
    found = whole(live, answer.headers["x-genplat-request-id"])
    assert listed["id"] == found["id"]
    assert found["request_id"] == answer.headers["x-request-id"]
    assert upstream.request_ids == [found["request_id"]]
    assert found["messages"] == [{"role": "user", "content": "Tell [email] of Größe"}]
    assert found["prompt"] == "Tell [email] of Größe"
    assert found["reply"] == upstream.text
    assert (found["model"], found["route"]) == ("best", "best")
    assert (found["drawn"], found["served_by"]) == ("upstream/service", "upstream/service")
    assert (found["status"], found["fallbacks"], found["finish_reason"]) == (200, 0, "stop")
    assert found["kind"] == "chat"
    assert found["client"] == "127.0.0.1"
    assert found["parameters"] == {"temperature": 0.5}
    assert found["tags"] == ["case:7"]
    assert 0 < found["seconds"] < 20
    assert found["first_token_seconds"] is None
    # The answer's own id finds it too.
    assert whole(live, found["completion_id"])["id"] == found["id"]


def test_a_stream_is_kept_as_it_was_read(live: Live, upstream: DyingUpstream) -> None:
    chat(live, "best", **TELL, stream=True)
    (found,) = logged(live)
    assert found["reply"] == upstream.text
    assert found["stream"] is True
    assert found["completion_id"] == "chatcmpl-up"
    assert 0 < found["first_token_seconds"] <= found["seconds"]
    assert found["completion_tokens"] == len(upstream.words)


def test_who_stepped_in_is_told(live: Live, upstream: DyingUpstream) -> None:
    upstream.status = 500
    chat(live, "best")
    (found,) = logged(live)
    assert (found["drawn"], found["served_by"]) == ("upstream/service", "small")
    assert (found["fallbacks"], found["fallback_reason"]) == (1, "upstream_500")
    assert logged(live, fallback=True) == [found]
    assert logged(live, fallback=False) == []


def test_who_went_on_in_the_middle_is_told(live: Live, upstream: DyingUpstream) -> None:
    upstream.cut_at = len(upstream.stream()) // 2
    chat(live, "best", stream=True)
    (found,) = logged(live)
    assert (found["served_by"], found["continued_by"]) == ("upstream/service", "small")
    assert found["reply"] == upstream.text
    assert live.http.get("/api/requests/summary").json()["continued"] == 1


def test_what_failed_is_kept_too(live: Live, upstream: DyingUpstream) -> None:
    body = {"name": "alone", "targets": [{"upstream": "service"}]}
    assert live.http.post("/api/routes", json=body).status_code == 201
    upstream.status = 429
    assert chat(live, "alone").status_code == 429
    assert chat(live, "nowhere").status_code == 404
    nowhere, alone = logged(live, outcome="failed")
    assert (alone["status"], alone["error_code"]) == (429, "upstream_rate_limited")
    assert (alone["drawn"], alone["served_by"], alone["reply"]) == ("upstream/service", None, None)
    assert (nowhere["status"], nowhere["model"]) == (404, "nowhere")
    assert logged(live, outcome="ok") == []


def test_a_reader_who_leaves_is_told(live: Live, upstream: DyingUpstream) -> None:
    upstream.silent_at = len(upstream.stream()) // 2
    body = TELL | {"model": "best", "stream": True}
    with live.http.stream("POST", "/v1/chat/completions", json=body) as answer:
        next(answer.iter_bytes())
    found: list[dict[str, Any]] = []
    for _ in range(100):
        if found := logged(live):
            break
    assert (found[0]["status"], found[0]["error_code"]) == (499, "client_closed_request")


def test_other_ways_to_ask_are_kept(live: Live) -> None:
    body = {"model": "small", "prompt": "Once upon"}
    assert live.http.post("/v1/completions", json=body).status_code == 200
    inputs = {"inputs": ["one", "two"]}
    assert live.http.post("/api/deployments/small/predict", json=inputs).status_code == 200
    drawing = {"model": "small", "scenario": "Alice greets Bob."}
    assert live.http.post("/api/diagrams", json=drawing).status_code == 201
    found = {item["kind"]: item for item in logged(live)}
    assert found["completion"]["prompt"] == "Once upon"
    assert {item["prompt"] for item in logged(live, kind="prediction")} == {"one", "two"}
    assert found["diagram"]["prompt"] == "Alice greets Bob."
    assert found["diagram"]["rendered"] is True
    assert found["diagram"]["reply"].startswith("@startuml")


@pytest.mark.parametrize(
    ("headers", "changes"), [({"X-GenPlat-Log": "metadata"}, {}), ({}, {"store": False})]
)
def test_words_may_be_kept_out(live: Live, headers: dict[str, str], changes: Any) -> None:
    body = TELL | {"model": "best", "metadata": {"who": "Jane"}, "stop": "secret"} | changes
    answer = live.http.post("/v1/chat/completions", json=body, headers=headers)
    found = whole(live, answer.headers["x-genplat-request-id"])
    assert found["withheld"] == "opted_out"
    assert [found[name] for name in ("messages", "prompt", "reply", "client")] == [None] * 4
    assert (found["parameters"], found["tags"]) == ({}, [])
    assert (found["status"], found["served_by"]) == (200, "upstream/service")


def test_a_request_may_be_kept_out(live: Live) -> None:
    answer = live.http.post(
        "/v1/chat/completions", json=TELL | {"model": "best"}, headers={"X-GenPlat-Log": "none"}
    )
    assert "x-genplat-request-id" not in answer.headers
    assert logged(live) == []
    wrong = live.http.post(
        "/v1/chat/completions", json=TELL | {"model": "best"}, headers={"X-GenPlat-Log": "nope"}
    )
    assert wrong.status_code == 400
    assert "X-GenPlat-Log" in wrong.json()["error"]["message"]


@pytest.mark.parametrize(("kept", "withheld"), [("metadata", ["opted_out"]), ("none", [])])
def test_an_operator_may_keep_less(
    settings: GatewaySettings, kept: str, withheld: list[str]
) -> None:
    with live_gateway(settings.model_copy(update={"request_log": kept})) as live:
        live.deploy("small")
        chat(live, "small")
        assert [item["withheld"] for item in logged(live)] == withheld


def test_requests_are_found_by_words_and_facts(live: Live) -> None:
    chat(live, "best", messages=[{"role": "user", "content": "100% of Größe_1"}])
    chat(
        live,
        "small",
        messages=[{"role": "user", "content": "100x of nothing"}],
        metadata={"a": "b"},
    )
    assert [item["model"] for item in logged(live)] == ["small", "best"]
    assert [item["model"] for item in logged(live, q="100%")] == ["best"]
    assert [item["model"] for item in logged(live, q="GRÖße_")] == ["best"]
    assert len(logged(live, q="so on")) == 2
    assert [item["model"] for item in logged(live, tag="a:b")] == ["small"]
    assert logged(live, tag="a") == []
    assert [item["model"] for item in logged(live, route="best")] == ["best"]
    assert [item["model"] for item in logged(live, served_by="small")] == ["small"]
    assert logged(live, since=(now() + timedelta(hours=1)).isoformat()) == []
    page = live.http.get("/api/requests", params={"limit": 1}).json()
    assert page["has_more"] is True
    rest = logged(live, after=page["data"][0]["id"])
    assert [item["model"] for item in rest] == ["best"]
    for wrong in (
        {"outcome": "good"},
        {"since": "0001-01-01T00:00:00+14:00"},
        {"until": "9999-12-31T23:59:59-14:00"},
    ):
        assert live.http.get("/api/requests", params=wrong).status_code == 422
    summary = live.http.get("/api/requests/summary").json()
    assert (summary["count"], summary["failed"]) == (2, 0)
    assert {"name": "small", "count": 1} in summary["by"]["served_by"]
    assert summary["seconds"]["p50"] > 0


def test_nobody_sees_the_requests_of_others(live: Live) -> None:
    chat(live, "best")
    (own,) = logged(live)
    _, secret = keys.create_key(database=live.services.database, owner="other", name="theirs")
    theirs = httpx.Client(base_url=live.url, headers={"Authorization": f"Bearer {secret}"})
    with theirs as client:
        assert client.get("/api/requests").json()["data"] == []
        assert client.get("/api/requests/summary").json()["count"] == 0
        for place in (own["id"], own["completion_id"]):
            assert client.get(f"/api/requests/{place}").status_code == 404
            rated = client.post(f"/api/requests/{place}/feedback", json={"rating": "down"})
            assert rated.status_code == 404


def test_what_is_old_is_forgotten(live: Live) -> None:
    for _ in range(3):
        chat(live, "small")
    first = logged(live)[0]["id"]
    with live.services.database.write() as session:
        row = session.get_one(LoggedRequest, first)
        row.created_at = now() - timedelta(days=8)
        session.add(row)
    assert forget(database=live.services.database, days=7) == 1
    assert first not in {item["id"] for item in logged(live)}
    assert len(logged(live)) == 2
