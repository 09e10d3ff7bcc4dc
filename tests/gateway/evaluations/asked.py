"""Data and models that evaluations are tried with; no fixture, no test."""

import json
from typing import Any

import httpx

from tests.gateway.api.live import Live
from tests.gateway.parts import until_true

TAIL = "in this rather long answer of ours"
WORDS = ("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta")


def upload(http: httpx.Client, rows: list[dict[str, Any]], name: str = "words") -> dict[str, Any]:
    content = "\n".join(json.dumps(row) for row in rows)
    answer = http.post(
        "/api/datasets", data={"name": name}, files={"file": (f"{name}.jsonl", content)}
    )
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def word_rows(count: int = 12) -> list[dict[str, Any]]:
    """Each wants the word that its prompt names, and some more."""
    return [
        {
            "prompt": f"Say {WORDS[number % 8]} and then {number}. " + "Please. " * (number % 5),
            "completion": f"{WORDS[number % 8]} follows {number} {TAIL}",
            "kind": "even" if number % 2 == 0 else "odd",
        }
        for number in range(count)
    ]


def says(body: dict[str, Any]) -> str:
    """What is wanted, from the deployment "good"; half of it, from others."""
    asked = body["messages"][-1]["content"].split()
    whole = f"{asked[1]} follows {asked[4].rstrip('.')} {TAIL}"
    return whole if body["model"] == "good" else " ".join(whole.split()[:5])


def ended(live: Live, evaluation_id: str) -> dict[str, Any]:
    """The evaluation, once it is over."""
    path = f"/api/evaluations/{evaluation_id}"
    until_true(lambda: live.http.get(path).json()["status"] in ("succeeded", "failed", "cancelled"))
    return dict(live.http.get(path).json())


def evaluate(live: Live, **spec: Any) -> dict[str, Any]:
    answer = live.http.post("/api/evaluations", json=spec)
    assert answer.status_code == 202, answer.text
    return ended(live, answer.json()["id"])


def data_of(body: dict[str, Any]) -> dict[str, str]:
    return dict(json.loads(body["messages"][1]["content"]))


def by_length(body: dict[str, Any]) -> str:
    """A fair judge that likes long answers."""
    data = data_of(body)
    if "answer" in data:
        return json.dumps({"reason": "r", "score": 5 if data["answer"] == data["desired"] else 2})
    a, b = len(data["answer_A"]), len(data["answer_B"])
    return json.dumps({"reason": "r", "winner": "A" if a > b else "B" if b > a else "tie"})
