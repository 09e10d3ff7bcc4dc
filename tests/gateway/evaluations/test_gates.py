"""Gates: rules, what they say of results, and deployments that need them."""

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import ValidationError

from gateway.evaluations.gates import GateRule, evaluate_gate
from gateway.settings import GatewaySettings
from shared.model_library import BUNDLED_MODEL
from tests.gateway.api.live import Live, live_gateway
from tests.gateway.evaluations.asked import TAIL, evaluate, upload, word_rows


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("rougeL >= base + 0.05", {"than": "base", "margin": 0.05, "bound": "lower"}),
        ("rougeL≥baseline-0.1 @ mean", {"margin": -0.1, "bound": "mean"}),
        ("perplexity <= base", {"comparison": "<=", "margin": 0}),
        ("render_rate >= 0.8", {"than": 0.8, "margin": 0}),
        ("render_rate>=.8", {"than": 0.8}),
        ("judge_similarity >= base - .5", {"than": "base", "margin": -0.5}),
    ],
)
def test_rules_are_read(text: str, rule: dict[str, Any]) -> None:
    found = GateRule.model_validate(text)
    assert found.model_dump().items() >= rule.items()
    # What it is written as means the same.
    assert GateRule.model_validate(str(found)) == found


@pytest.mark.parametrize(
    "text", ["", "rougeL", "rougeL > > 1", "magic >= 1", "rougeL >= base * 2", "rougeL >= 1e9999"]
)
def test_what_is_no_rule_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        GateRule.model_validate(text)


@pytest.mark.parametrize(
    "changes", [{"than": 0.5, "margin": 0.1}, {"than": float("inf")}, {"than": float("nan")}]
)
def test_a_rule_that_would_mean_something_else_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        GateRule.model_validate({"metric": "rougeL"} | changes)


def results(**changes: Any) -> dict[str, Any]:
    measured = {"value": 0.7, "low": 0.6, "high": 0.8, "examples": 40}
    apart = {"value": 0.1, "low": 0.04, "high": 0.16, "examples": 40}
    return {
        "id": "ev_1",
        "status": "succeeded",
        "baseline": 0,
        "candidates": [{"name": "base"}, {"name": "tuned"}],
        "results": {
            "examples": 40,
            "candidates": [
                {"name": name, "missing": 0, "metrics": {"rougeL": measured}}
                for name in ("base", "tuned")
            ],
            "comparisons": [{"candidate": 1, "metrics": {"rougeL": apart}}],
        },
    } | changes


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("rougeL >= base + 0.04", True),
        ("rougeL >= base + 0.05", False),
        ("rougeL >= base + 0.05 @ mean", True),
        ("rougeL <= base + 0.16", True),
        ("rougeL <= base + 0.15", False),
        ("rougeL >= 0.6", True),
        ("rougeL >= 0.61", False),
        ("bleu >= base", False),
    ],
)
def test_the_bound_that_speaks_against_the_model_decides(text: str, holds: bool) -> None:
    verdict = evaluate_gate(results(), 1, GateRule.model_validate(text))
    assert verdict.holds is holds
    assert text.split(" @")[0] in verdict.sentence


def test_what_is_not_known_holds_nothing() -> None:
    rule = GateRule.model_validate("rougeL >= base")
    assert not evaluate_gate(results(), 0, rule).holds
    unfinished = evaluate_gate(results(results=None, status="running"), 1, rule)
    assert not unfinished.holds and "running" in unfinished.sentence
    partly = results()
    partly["results"]["comparisons"][0]["metrics"]["rougeL"]["examples"] = 33
    assert "33 of 40 examples" in evaluate_gate(partly, 1, rule).sentence
    alone = results()
    alone["results"]["comparisons"][0]["metrics"]["rougeL"] |= {"low": None, "high": None}
    assert "no interval" in evaluate_gate(alone, 1, rule).sentence
    assert evaluate_gate(alone, 1, GateRule.model_validate("rougeL >= base @ mean")).holds
    lossy = results()
    lossy["results"]["candidates"][0]["missing"] = 3
    assert "3 answers" in evaluate_gate(lossy, 1, rule).sentence


@pytest.fixture
def live(settings: GatewaySettings) -> Iterator[Live]:
    with live_gateway(settings) as live:
        yield live


def test_a_deployment_that_requires_an_evaluation(live: Live) -> None:
    """The run says what is wanted; the base model half of it."""
    run = live.succeeded_run()
    engine = f"run/{run.id}"

    def says(body: dict[str, Any]) -> str:
        asked = body["messages"][-1]["content"].split()
        whole = f"{asked[1]} follows {asked[4].rstrip('.')} {TAIL}"
        return whole if body["model"] == engine else " ".join(whole.split()[:5])

    live.inference.says = says
    dataset = upload(live.http, word_rows(20))
    found = evaluate(
        live, dataset_id=dataset["id"], candidates=[BUNDLED_MODEL, run.id], metrics=["rougeL"]
    )
    assert found["status"] == "succeeded", found["error"]

    def deploy(rule: str, model: str = run.id, **changes: Any) -> Any:
        require = {"evaluation": found["id"], "rules": [rule]} | changes
        body = {"name": "tuned", "model": model, "require": require}
        return live.http.post("/api/deployments", json=body)

    closed = deploy("rougeL >= base + 0.9")
    assert closed.status_code == 409
    assert closed.json()["error"]["code"] == "gate_closed"
    assert "rougeL >= base + 0.9 does not hold" in closed.json()["error"]["message"]
    itself = deploy("rougeL >= base", BUNDLED_MODEL)
    assert itself.status_code == 409 and "itself" in itself.json()["error"]["message"]
    other = deploy("rougeL >= base", live.succeeded_run().id)
    assert other.json()["error"]["code"] == "gate_not_measured"
    assert deploy("rougeL >= base", evaluation="ev_none").status_code == 422
    assert deploy("rougeL is good").status_code == 422
    assert live.http.get("/api/deployments/tuned").status_code == 404
    opened = deploy("rougeL >= base + 0.1")
    assert opened.status_code == 201, opened.text
    assert opened.json()["gate"]["evaluation"] == found["id"]
    page = live.http.get("/deployments/tuned").text
    assert "rougeL &gt;= base + 0.1 holds" in page and f"/evaluations/{found['id']}" in page

    asked = {"rules": ["rougeL >= base + 0.9", "rougeL >= 0.5"]}
    answer = live.http.post(f"/api/evaluations/{found['id']}/gate", json=asked).json()
    assert [one["holds"] for one in answer["verdicts"]] == [False, True]
    assert not answer["holds"] and answer["candidate"] == run.id


def test_a_deployment_by_the_form_may_require_one_too(live: Live) -> None:
    run = live.succeeded_run()
    live.inference.says = lambda body: "the same"
    dataset = upload(live.http, word_rows(20))
    found = evaluate(
        live, dataset_id=dataset["id"], candidates=[BUNDLED_MODEL, run.id], metrics=["rougeL"]
    )
    sent = {"name": "tuned", "model": run.id, "evaluation": found["id"]}
    answer = live.http.post("/deployments", data=sent | {"rules": "rougeL >= base + 0.1"})
    assert answer.status_code == 422 and "does not hold" in answer.text
    # Rules about nothing are no leave to deploy.
    answer = live.http.post("/deployments", data=sent | {"evaluation": "", "rules": "bleu >= base"})
    assert answer.status_code == 422 and "Choose the evaluation" in answer.text
    page = live.http.get("/deployments/new", params={"model": run.id, "evaluation": found["id"]})
    assert "rougeL &gt;= base + 0.05</textarea>" in page.text
    answer = live.http.post("/deployments", data=sent | {"rules": "rougeL is good"})
    assert answer.status_code == 422 and "is no rule" in answer.text
    # Twenty equal answers do not prove that it is as good elsewhere; a margin says how sure to be.
    answer = live.http.post("/deployments", data=sent | {"rules": "rougeL >= base"})
    assert answer.status_code == 422 and "lower bound -0.1" in answer.text
    answer = live.http.post("/deployments", data=sent | {"rules": "rougeL >= base - 0.2\n"})
    assert answer.headers["location"] == "/deployments/tuned"
