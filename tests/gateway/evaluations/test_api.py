"""Evaluations through the public API, over a hand-written inference service."""

import csv
import io
import json
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.evaluations import asking
from gateway.settings import GatewaySettings
from tests.gateway.api.live import Live, live_gateway, refusal
from tests.gateway.evaluations.asked import ended, evaluate, says, upload, word_rows
from tests.gateway.fake_inference import BROKEN
from tests.gateway.parts import until_true


@pytest.fixture
def live(settings: GatewaySettings) -> Iterator[Live]:
    with live_gateway(settings) as live:
        live.inference.says = says
        live.deploy("good")
        live.deploy("plain")
        yield live


def test_a_better_model_is_found_to_be_better(live: Live) -> None:
    dataset = upload(live.http, word_rows(12))
    found = evaluate(live, dataset_id=dataset["id"], candidates=["plain", "good"])
    assert (found["status"], found["done"], found["total"]) == ("succeeded", 24, 24)
    assert found["task"] == "general"
    results = found["results"]
    plain, good = results["candidates"]
    assert good["metrics"]["rougeL"]["value"] == 1 and good["metrics"]["exact_match"]["value"] == 1
    assert 0.5 < plain["metrics"]["rougeL"]["value"] < 0.8
    assert plain["metrics"]["perplexity"]["value"] == pytest.approx(7.389, abs=1e-3)
    (comparison,) = results["comparisons"]
    gain = comparison["metrics"]["rougeL"]
    assert gain["low"] > 0.05 and gain["p_adjusted"] < 0.05 and gain["examples"] == 12
    assert comparison["metrics"]["exact_match"]["test"] == "McNemar, exact"
    # The column "kind" is taken for a tag.
    assert {(one["by"], one["name"]) for one in results["slices"]} >= {
        ("tag", "odd"),
        ("tag", "even"),
    }
    assert any("few" in warning for warning in found["warnings"])
    # (Every answer was asked for once, and with the same seed.)
    assert len(live.inference.asked) == 24
    assert {(body["temperature"], body["seed"]) for body in live.inference.asked} == {(0, 42)}


def test_examples_come_in_the_order_that_is_asked_for(live: Live) -> None:
    dataset = upload(live.http, word_rows(6))
    found = evaluate(
        live, dataset_id=dataset["id"], candidates=["plain", "good"], metrics=["length"]
    )
    path = f"/api/evaluations/{found['id']}/examples"

    def places(**query: Any) -> list[int]:
        return [one["place"] for one in live.http.get(path, params=query).json()["data"]]

    def lengths(**query: Any) -> list[float]:
        page = live.http.get(path, params=query).json()["data"]
        return [one["answers"][query.get("candidate", 1)]["scores"]["length"] for one in page]

    assert places() == [0, 1, 2, 3, 4, 5]
    assert lengths(order="worst") == sorted(lengths())
    assert lengths(order="best", candidate=0) == sorted(lengths(candidate=0), reverse=True)
    assert sorted(places(order="gains")) == [0, 1, 2, 3, 4, 5]
    assert places(tag="odd") == [1, 3, 5]
    first = live.http.get(path, params={"limit": 4}).json()
    assert first["has_more"] and places(limit=4, after=first["data"][-1]["place"]) == [4, 5]
    for wrong in ({"metric": "magic"}, {"candidate": 9}, {"limit": 0}, {"after": 99}):
        assert live.http.get(path, params={"order": "worst"} | wrong).status_code == 400


def test_several_answers_to_one_source_are_its_references(live: Live) -> None:
    rows = [{"prompt": "Say alpha and then 1.", "completion": text} for text in ("x", "y", "x")]
    rows[1]["completion"] = says({"messages": [{"content": rows[0]["prompt"]}], "model": "good"})
    found = evaluate(live, dataset_id=upload(live.http, rows)["id"], candidates=["good"])
    assert found["examples"] == 1 and found["total"] == 1
    assert found["results"]["candidates"][0]["metrics"]["exact_match"]["value"] == 1


def test_a_cancelled_evaluation_keeps_its_answers_and_can_be_resumed(live: Live) -> None:
    live.inference.seconds_a_word = 0.1
    dataset = upload(live.http, word_rows(60))
    body = {"dataset_id": dataset["id"], "candidates": ["good"], "metrics": ["exact_match"]}
    begun = live.http.post("/api/evaluations", json=body).json()
    path = f"/api/evaluations/{begun['id']}"
    until_true(lambda: live.http.get(path).json()["done"] > 0)
    assert live.http.delete(path).status_code == 409
    cancelled = live.http.post(f"{path}/cancel").json()
    assert cancelled["status"] == "cancelled" and 0 < cancelled["done"] < 60
    assert live.http.get(f"{path}/report").status_code == 409
    live.inference.seconds_a_word = 0
    assert live.http.post(f"{path}/resume").json()["status"] == "queued"
    found = ended(live, begun["id"])
    assert (found["status"], found["done"]) == ("succeeded", 60)
    assert live.http.post(f"{path}/resume").status_code == 409
    assert live.http.delete(path).status_code == 204
    assert live.http.get(path).status_code == 404


def test_what_a_model_refuses_counts_as_empty_and_what_fails_is_missing(live: Live) -> None:
    dataset = upload(live.http, word_rows(6))
    live.inference.dead = {"good"}
    live.inference.dies_with = (400, "context_length_exceeded")
    found = evaluate(
        live, dataset_id=dataset["id"], candidates=["plain", "good"], metrics=["rougeL"]
    )
    assert found["status"] == "succeeded"
    refused = found["results"]["candidates"][1]
    assert (refused["refused"], refused["missing"], refused["answered"]) == (6, 0, 6)
    assert refused["metrics"]["rougeL"]["value"] == 0
    live.inference.dies_with = (500, "broken")
    found = evaluate(
        live, dataset_id=dataset["id"], candidates=["plain", "good"], metrics=["rougeL"]
    )
    missing = found["results"]["candidates"][1]
    assert (missing["missing"], missing["answered"]) == (6, 0)
    assert missing["metrics"]["rougeL"]["value"] is None


def test_missing_answers_can_be_asked_for_again(live: Live) -> None:
    """Also of an evaluation that came to its end without them."""
    live.inference.dead = {"plain"}
    live.inference.dies_with = (500, "broken")
    spec = {"candidates": ["plain", "good"], "metrics": ["exact_match"]}
    judge = {"model": "good", "kinds": ["quality"], "against": "baseline"}
    dataset = upload(live.http, word_rows(4))
    found = evaluate(live, dataset_id=dataset["id"], judge=judge, **spec)
    path = f"/api/evaluations/{found['id']}"
    assert found["status"] == "succeeded" and found["results"]["judge"]["pairs"] == 0
    assert "good judges its own answers, which models tend to prefer." in found["warnings"]
    assert "4 answers are missing" in live.http.get(f"/evaluations/{found['id']}").text
    live.inference.dead = set()
    live.inference.asked.clear()
    resumed = live.http.post(f"{path}/resume").json()
    # (A verdict on a pair needs both answers: those are asked for again, too.)
    assert (resumed["status"], resumed["done"], resumed["results"]) == ("queued", 4, None)
    found = ended(live, found["id"])
    assert (found["status"], found["done"]) == ("succeeded", found["total"])
    assert [one["missing"] for one in found["results"]["candidates"]] == [0, 0]
    assert found["results"]["judge"]["unreadable"] > 0
    assert sum(body["model"] == "plain" for body in live.inference.asked) == 4
    assert live.http.post(f"{path}/resume").status_code == 409


def test_a_model_that_is_gone_fails_the_evaluation(live: Live) -> None:
    live.inference.seconds_a_word = 0.2
    dataset = upload(live.http, word_rows(60))
    body = {"dataset_id": dataset["id"], "candidates": ["good"], "metrics": ["exact_match"]}
    begun = live.http.post("/api/evaluations", json=body).json()
    until_true(lambda: live.http.get(f"/api/evaluations/{begun['id']}").json()["done"] > 0)
    assert live.http.delete("/api/deployments/good").status_code == 204
    found = ended(live, begun["id"])
    assert found["status"] == "failed"
    assert "no model" in found["error"]["message"]


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"candidates": ["nobody"]}, "candidates.0"),
        ({"candidates": ["good", "upstream/none"]}, "candidates.1"),
        ({"candidates": []}, "candidates"),
        ({"dataset_id": "ds_none"}, "dataset_id"),
        ({"dataset_id": None}, None),
        ({"dataset_id": None, "held_out_of": "run_none"}, "held_out_of"),
        ({"metrics": ["magic"]}, None),
        ({"tag_column": "nothing"}, "tag_column"),
        ({"dataset_id": None, "held_out_of": "run_none", "tag_column": "kind"}, None),
        ({"baseline": "plain"}, None),
        ({"judge": {"model": "nobody"}}, "judge.model"),
    ],
)
def test_what_is_wrong_is_named(live: Live, changes: dict[str, Any], param: str | None) -> None:
    dataset = upload(live.http, word_rows(2))
    body = {"dataset_id": dataset["id"], "candidates": ["good"]} | changes
    answer = live.http.post("/api/evaluations", json=body)
    assert answer.status_code == 422
    assert param is None or answer.json()["error"]["param"] == param


def test_the_same_key_makes_one_evaluation(live: Live) -> None:
    dataset = upload(live.http, word_rows(2))
    body = {"dataset_id": dataset["id"], "candidates": ["good"], "limit": 1}
    headers = {"Idempotency-Key": "once"}
    first, again = (
        live.http.post("/api/evaluations", json=body, headers=headers) for _ in range(2)
    )
    assert first.status_code == again.status_code == 202
    assert first.json()["id"] == again.json()["id"]
    page = live.http.get("/api/evaluations", params={"dataset_name": "words"}).json()
    assert [one["id"] for one in page["data"]] == [first.json()["id"]]
    assert live.http.get("/api/evaluations", params={"dataset_name": "x"}).json()["data"] == []


def test_reports_hold_everything_and_no_formula(live: Live) -> None:
    evil = '=HYPERLINK("http://evil")<script>alert(1)</script>'
    live.inference.says = lambda body: evil
    dataset = upload(live.http, word_rows(3))
    found = evaluate(live, dataset_id=dataset["id"], candidates=["good"])
    path = f"/api/evaluations/{found['id']}/report"
    page = live.http.get(path)
    assert "attachment" in page.headers["content-disposition"]
    assert "<script>alert" not in page.text and "&lt;script&gt;alert" in page.text
    whole = json.loads(live.http.get(path, params={"format": "json"}).content)
    assert whole["answers"][2]["answers"][0]["text"] == evil
    lines = list(csv.DictReader(io.StringIO(live.http.get(path, params={"format": "csv"}).text)))
    assert len(lines) == 3 and lines[0]["answer"] == f"'{evil}"
    assert lines[0]["rougeL"] != ""


def test_diagrams_are_rendered_where_there_is_a_renderer(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "RENDERER_SECONDS", 0.01)
    source = "@startuml\nAlice -> Bob: hello\n@enduml"
    live.inference.says = lambda body: f"Here it is:\n{source}"
    rows = [{"prompt": f"Draw {n}.", "completion": source} for n in range(3)]
    dataset = upload(live.http, rows)

    def values() -> tuple[float | None, float | None]:
        found = evaluate(live, dataset_id=dataset["id"], candidates=["good"])
        assert (found["status"], found["task"]) == ("succeeded", "plantuml")
        metrics = found["results"]["candidates"][0]["metrics"]
        return metrics["render_rate"]["value"], metrics["structure_f1"]["value"]

    assert values() == (1, 1)
    live.inference.drawing = BROKEN
    assert values() == (0, 1)
    # Nobody can say: it is not measured, and not 0.
    live.inference.no_renderer = True
    assert values() == (None, 1)


def test_what_cannot_be_stored_is_replaced(live: Live) -> None:
    live.inference.says = lambda body: "a\x00b"
    found = evaluate(live, dataset_id=upload(live.http, word_rows(1))["id"], candidates=["good"])
    assert found["status"] == "succeeded"
    (example,) = live.http.get(f"/api/evaluations/{found['id']}/examples").json()["data"]
    assert example["answers"][0]["text"] == "a\ufffdb"


def test_somebody_elses_evaluation_is_not_there(live: Live) -> None:
    from gateway import keys

    dataset = upload(live.http, word_rows(2))
    found = evaluate(live, dataset_id=dataset["id"], candidates=["good"])
    _, secret = keys.create_key(database=live.services.database, owner="other", name="theirs")
    headers = {"Authorization": f"Bearer {secret}"}
    for path in ("", "/examples", "/report"):
        answer = live.http.get(f"/api/evaluations/{found['id']}{path}", headers=headers)
        assert answer.status_code == 404
    assert live.http.get("/api/evaluations", headers=headers).json()["data"] == []
    assert refusal(live.http.get(f"/api/evaluations/{found['id']}x"))[0] == 404
