"""Syntheses asked for over HTTP, for tests of the API."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from gateway.settings import GatewaySettings
from gateway.synthesis.pairs import Pair
from gateway.tables import Evaluation, EvaluationAnswer, EvaluationExample
from tests.gateway.api.live import Live, live_gateway
from tests.gateway.parts import OWNER, until_true
from tests.gateway.synthesis.writing import writes

PATH = "/api/syntheses"


@contextmanager
def gateway_with_writer(settings: GatewaySettings) -> Iterator[Live]:
    with live_gateway(settings) as live:
        live.inference.says = writes
        live.deploy("writer")
        yield live


def upload(live: Live, name: str, pairs: list[Pair], system: str = "") -> str:
    before = [{"role": "system", "content": system}] if system else []
    lines = [
        json.dumps(
            {
                "messages": [
                    *before,
                    {"role": "user", "content": pair.prompt},
                    {"role": "assistant", "content": pair.completion},
                ]
            }
        )
        for pair in pairs
    ]
    file = ("rows.jsonl", "\n".join(lines).encode())
    made = live.http.post("/api/datasets", data={"name": name}, files={"file": file})
    assert made.status_code == 201, made.text
    return str(made.json()["id"])


def begin(live: Live, **spec: Any) -> dict[str, Any]:
    answer = live.http.post(PATH, json={"model": "writer", "count": 6, "per_request": 2} | spec)
    assert answer.status_code == 202, answer.text
    found: dict[str, Any] = answer.json()
    return found


def after(live: Live, synthesis_id: str, status: str = "reviewing") -> dict[str, Any]:
    path = f"{PATH}/{synthesis_id}"
    until_true(lambda: live.http.get(path).json()["status"] not in ("queued", "running"))
    found: dict[str, Any] = live.http.get(path).json()
    assert found["status"] == status, found
    return found


def rows(live: Live, synthesis_id: str, **query: Any) -> list[dict[str, Any]]:
    answer = live.http.get(f"{PATH}/{synthesis_id}/rows", params={"limit": 100} | query)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["data"]
    return found


def review(live: Live, synthesis_id: str, number: int, **said: Any) -> httpx.Response:
    return live.http.patch(f"{PATH}/{synthesis_id}/rows/{number}", json=said)


def example(asked: Evaluation, place: int, pair: Pair) -> EvaluationExample:
    return EvaluationExample(
        evaluation_id=asked.id,
        place=place,
        row=place + 1,
        messages=[{"role": "user", "content": pair.prompt}],
        targets=[pair.completion],
    )


def evaluation(live: Live) -> str:
    """One that succeeded: half of its examples, of two kinds, were failed."""
    kinds = ("The invoice of customer {} is paid by card at the bank", "Boat {} sails down a river")
    with live.services.database.write() as session:
        found = Evaluation(
            owner=OWNER,
            dataset_id="ds_test",
            task="text",
            metrics=["exact_match"],
            candidates=[{"name": "writer", "model": "writer", "kind": "deployment"}],
            examples=16,
            total=16,
            status="succeeded",
            results={"metrics": [{"name": "exact_match", "better": "higher"}]},
        )
        session.add(found)
        session.flush()
        for place in range(16):
            said = kinds[place % 4 == 3].format("abcdefghijklmnop"[place])
            session.add(example(found, place, Pair(said, f"Well, {said.lower()} indeed.")))
            session.add(
                EvaluationAnswer(
                    evaluation_id=found.id,
                    candidate=0,
                    place=place,
                    scores={"exact_match": float(place < 8)},
                )
            )
    return found.id
