"""Syntheses over HTTP: from a dataset or an evaluation to a new version with its lineage."""

import json
from typing import Any

from gateway import keys
from gateway.synthesis.pairs import Pair
from gateway.tables import Evaluation
from tests.gateway.api.live import Live
from tests.gateway.fake_inference import BROKEN
from tests.gateway.parts import OWNER
from tests.gateway.synthesis.asked import (
    PATH,
    after,
    begin,
    evaluation,
    example,
    review,
    rows,
    upload,
)
from tests.gateway.synthesis.writing import rows_text, seed_rows, sentence, writes


def test_from_a_seed_to_a_reviewed_new_version(live: Live) -> None:
    seed = upload(live, "birds", seed_rows(), system="Be kind.")
    made = begin(live, dataset_id=seed)
    assert (made["status"], made["name"], made["wanted"]) == ("queued", "birds", 6)
    found = after(live, made["id"])
    assert (found["kept"], found["reviewed"]) == (6, 0)
    assert found["dropped"] == sum(found["reasons"].values()) > 0
    kept = rows(live, made["id"], status="kept")
    [first, second, third, *_] = [row["number"] for row in kept]
    assert review(live, made["id"], first, action="accept").json()["status"] == "accepted"
    edited = review(live, made["id"], second, action="edit", completion="Because I say so.")
    assert edited.json()["status"] == "edited"
    assert edited.json()["original"]["completion"] == kept[1]["completion"]
    assert review(live, made["id"], third, action="reject").json()["status"] == "rejected"
    found = live.http.post(f"{PATH}/{made['id']}/accept-all").json()
    assert (found["reviewed"], found["accepted"]) == (6, 5)

    finished = live.http.post(f"{PATH}/{made['id']}/finish")
    assert finished.status_code == 201, finished.text
    dataset = finished.json()
    assert (dataset["name"], dataset["version"], dataset["rows"]) == ("birds", 2, 8 + 5)
    assert dataset["derived_from"] == {
        "synthesis_id": made["id"],
        "parents": [{"id": seed, "name": "birds", "version": 1, "rows": 8}],
        "evaluation_id": None,
        "generator": "writer",
        "judge": None,
        "counts": {
            "seed": 8,
            "synthetic": 5,
            "generated": 6 + found["dropped"],
            "dropped": found["dropped"],
        },
        "aims": [],
    }
    content = live.http.get(f"/api/datasets/{dataset['id']}/content").text.splitlines()
    last = [json.loads(line)["messages"] for line in content][8:]
    assert {messages[0]["content"] for messages in last} == {"Be kind."}
    assert last[1][2]["content"] == "Because I say so."
    assert kept[2]["prompt"] not in json.dumps(last)
    # However often it is asked for: one dataset.
    assert live.http.post(f"{PATH}/{made['id']}/finish").json()["id"] == dataset["id"]
    assert live.http.get(f"{PATH}/{made['id']}").json()["result_id"] == dataset["id"]
    assert review(live, made["id"], first, action="reject").status_code == 409


def test_what_is_asked_is_no_traffic(live: Live) -> None:
    after(live, begin(live, dataset_id=upload(live, "birds", seed_rows()))["id"])
    assert live.http.get("/api/requests").json()["data"] == []
    assert len(live.inference.asked) >= 3


def test_the_judge_decides_and_leaks_are_named(live: Live) -> None:
    seed = upload(live, "birds", seed_rows())
    first = begin(live, dataset_id=seed)
    after(live, first["id"])
    leaked = [Pair(row["prompt"], "x") for row in rows(live, first["id"], status="kept")[:2]]
    hidden = upload(live, "test set", leaked)
    made = begin(live, dataset_id=seed, judge="writer", leakage=[hidden], count=12)
    after(live, made["id"])
    found = rows(live, made["id"])
    leaks = [row for row in found if row["reason"] == "leakage"]
    same = [row["matched"] for row in leaks if row["matched"]["similarity"] == 1]
    assert [(one["where"], one["row"]) for one in same] == [("test set v1", 1), ("test set v1", 2)]
    judged = [row for row in found if row["score"] is not None]
    assert {row["score"] for row in judged if row["status"] == "pending"} == {5}
    assert all(row["reason"] == "judge" for row in judged if row["score"] == 2)


def test_diagrams_that_do_not_render_are_dropped(live: Live) -> None:
    def diagram(seed: object) -> Pair:
        name = sentence(seed, 1).title()
        return Pair(f"Draw {sentence(seed)}", f"@startuml\nactor {name}\n{name} -> B\n@enduml")

    live.inference.says = lambda body: rows_text([diagram(body["seed"])])
    seed = upload(live, "pictures", [diagram(n) for n in range(5)])
    assert after(live, begin(live, dataset_id=seed, count=2)["id"])["kept"] == 2
    live.inference.drawing = BROKEN
    failed = after(live, begin(live, dataset_id=seed, count=2)["id"], "failed")
    assert failed["error"]["code"] == "nothing_kept" and "render" in failed["reasons"]


def test_aimed_at_the_failures_of_an_evaluation(live: Live) -> None:
    made = begin(live, evaluation_id=evaluation(live), count=8, clusters=2)
    assert [(aim["examples"], aim["share"]) for aim in made["aims"]] == [(6, 0.75), (2, 0.25)]
    assert "invoice" in made["aims"][0]["label"]
    found = after(live, made["id"])
    asked = [body["messages"][1]["content"] for body in live.inference.asked]
    assert all("goes wrong today" in text for text in asked)
    # The writer repeats an example in each answer: that must never be learned.
    assert found["reasons"]["leakage"] >= found["requests"] / 2
    live.http.post(f"{PATH}/{made['id']}/accept-all")
    dataset = live.http.post(f"{PATH}/{made['id']}/finish").json()
    assert dataset["rows"] == 8
    assert dataset["derived_from"]["evaluation_id"] == made["evaluation_id"]
    assert len(dataset["derived_from"]["aims"]) == 2


def test_what_an_evaluation_holds_out_of_the_seed_is_neither_shown_nor_kept(live: Live) -> None:
    seeds = seed_rows(12)
    seed = upload(live, "birds", seeds)
    held_out = seeds[3:6]
    with live.services.database.write() as session:
        spec = {"held_out_of": "run_1", "candidates": ["writer"]}
        found = Evaluation(
            owner=OWNER, dataset_id=seed, task="text", spec=spec, examples=3, total=3
        )
        session.add(found)
        session.flush()
        for place, pair in enumerate(held_out):
            session.add(example(found, place, pair))

    def leaks(body: dict[str, Any]) -> str:
        return rows_text([Pair(f"{held_out[0].prompt} Please.", "Because.")]) + "\n" + writes(body)

    live.inference.says = leaks
    made = begin(live, dataset_id=seed, min_characters=1)
    assert "3 rows of birds are asked by evaluations as held out" in made["warnings"][0]
    after(live, made["id"])
    shown = json.dumps([body["messages"] for body in live.inference.asked])
    assert not any(pair.prompt in shown for pair in held_out)
    assert any(pair.prompt in shown for pair in seeds)
    [matched] = {
        row["matched"]["where"]
        for row in rows(live, made["id"], status="dropped")
        if row["reason"] == "leakage"
    }
    assert matched == "what is held out of birds"


REFUSED: list[tuple[dict[str, Any], str | None]] = [
    ({}, None),
    ({"dataset_id": "ds_nothing"}, "dataset_id"),
    ({"evaluation_id": "ev_nothing"}, "evaluation_id"),
    ({"dataset_id": "SEED", "model": "nobody"}, "model"),
    ({"dataset_id": "SEED", "judge": "upstream/none"}, "judge"),
    ({"dataset_id": "SEED", "leakage": ["ds_none"]}, "leakage"),
    ({"dataset_id": "SEED", "name": "a\x00b"}, "name"),
    ({"dataset_id": "SEED", "min_characters": 9, "max_characters": 8}, None),
    ({"evaluation_id": "EV", "metric": "rouge9"}, "metric"),
    ({"evaluation_id": "EV", "candidate": 3}, "candidate"),
    ({"evaluation_id": "EV", "below": -1}, "below"),
]


def test_what_cannot_be_done_is_refused_with_its_field(live: Live) -> None:
    names = {"SEED": upload(live, "birds", seed_rows()), "EV": evaluation(live)}
    for given, param in REFUSED:
        spec = {key: names.get(str(value), value) for key, value in given.items()}
        answer = live.http.post(PATH, json={"model": "writer"} | spec)
        assert answer.status_code == 422, (given, answer.text)
        if param:
            assert answer.json()["error"]["param"] == param, given


def test_lists_cancel_delete_and_other_owners(live: Live) -> None:
    live.inference.holds_for = 100
    seed = upload(live, "birds", seed_rows())
    body = {"model": "writer", "dataset_id": seed}
    twice = [
        live.http.post(PATH, json=body, headers={"Idempotency-Key": "k"}).json()["id"]
        for _ in range(2)
    ]
    assert twice[0] == twice[1]
    path = f"{PATH}/{twice[0]}"
    assert live.http.delete(path).status_code == 409
    assert [one["id"] for one in live.http.get(PATH).json()["data"]] == [twice[0]]
    _, secret = keys.create_key(database=live.services.database, owner="other", name="x")
    theirs = {"Authorization": f"Bearer {secret}"}
    for method, where in (
        ("GET", path),
        ("GET", f"{path}/rows"),
        ("PATCH", f"{path}/rows/1"),
        ("POST", f"{path}/accept-all"),
        ("POST", f"{path}/finish"),
        ("POST", f"{path}/cancel"),
        ("DELETE", path),
    ):
        body = {"action": "accept"} if method == "PATCH" else {}
        answer = live.http.request(method, where, headers=theirs, json=body)
        assert answer.status_code == 404, (method, where)
    assert live.http.post(f"{path}/cancel").json()["status"] == "cancelled"
    assert live.http.post(f"{path}/cancel").json()["status"] == "cancelled"
    assert live.http.post(f"{path}/finish").status_code == 409
    live.inference.holds_for = 0
    assert live.http.delete(path).status_code == 204
    assert live.http.get(path).status_code == 404
