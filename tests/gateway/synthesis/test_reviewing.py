"""What people say of the rows of a synthesis, and what becomes of it."""

from typing import Any

import pytest

from gateway.synthesis import finishing
from gateway.synthesis.pairs import Pair
from tests.gateway.api.live import Live
from tests.gateway.synthesis.asked import PATH, after, begin, review, rows, upload
from tests.gateway.synthesis.writing import seed_rows, sentence


def test_only_the_accepted_rows_and_those_that_people_know_better_about(live: Live) -> None:
    made = begin(live, dataset_id=upload(live, "birds", seed_rows()))
    after(live, made["id"])
    nothing = live.http.post(f"{PATH}/{made['id']}/finish")
    assert nothing.status_code == 422 and "Accept at least one" in nothing.text
    dropped = rows(live, made["id"], status="dropped")[0]
    assert dropped["reason"] in ("duplicate", "length", "near_duplicate") and dropped["said"]
    review(live, made["id"], dropped["number"], action="accept")
    body = {"include_seed": False, "name": "new ones"}
    dataset = live.http.post(f"{PATH}/{made['id']}/finish", json=body).json()
    assert (dataset["name"], dataset["version"], dataset["rows"]) == ("new ones", 1, 1)


def test_undo_and_bad_reviews(live: Live) -> None:
    made = begin(live, dataset_id=upload(live, "birds", seed_rows()))
    after(live, made["id"])
    row = rows(live, made["id"], status="kept")[0]
    review(live, made["id"], row["number"], action="edit", prompt="Other", completion="Text")
    undone = review(live, made["id"], row["number"], action="undo").json()
    assert undone == row
    for said in (
        {"action": "edit"},
        {"action": "accept", "prompt": "x"},
        {"action": "burn"},
        {"action": "edit", "prompt": "  "},
    ):
        assert review(live, made["id"], row["number"], **said).status_code == 422, said
    assert review(live, made["id"], 4711, action="accept").status_code == 404


def test_an_edit_makes_no_row_that_is_there_or_that_an_evaluation_asks(live: Live) -> None:
    seeds = seed_rows()
    hidden = Pair(f"Whence {sentence('hidden', 30)}?", "Nobody knows that.")
    made = begin(
        live, dataset_id=upload(live, "birds", seeds), leakage=[upload(live, "test", [hidden])]
    )
    after(live, made["id"])
    first, second = rows(live, made["id"], status="kept")[:2]
    for prompt, said in (
        (seeds[3].prompt.upper(), "the same as row 4 of birds v1"),
        (f"  {second['prompt']}!", f"the same as row {second['number']}."),
        (f"Please: {hidden.prompt}", "the same as row 1 of test v1, an evaluation's"),
    ):
        answer = review(live, made["id"], first["number"], action="edit", prompt=prompt)
        assert answer.status_code == 422 and said in answer.text, answer.text
        assert answer.json()["error"]["param"] == "prompt"
    assert rows(live, made["id"], status="kept")[0] == first
    # What somebody else rejected may come again in better words.
    review(live, made["id"], second["number"], action="reject")
    answer = review(live, made["id"], first["number"], action="edit", prompt=second["prompt"])
    assert answer.json()["status"] == "edited"
    # And who knows better than the filters about a dropped row may edit that, too.
    dropped = next(row for row in rows(live, made["id"]) if row["reason"] == "duplicate")
    prompt = dropped["prompt"].lower()
    answer = review(live, made["id"], dropped["number"], action="edit", prompt=prompt)
    assert answer.json()["status"] == "edited"


def test_what_is_reviewed_while_the_dataset_is_made_counts(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = begin(live, dataset_id=upload(live, "birds", seed_rows()))
    after(live, made["id"])
    number = rows(live, made["id"], status="kept")[0]["number"]
    live.http.post(f"{PATH}/{made['id']}/accept-all")
    create = finishing.create_dataset

    def late(**arguments: Any) -> Any:
        assert review(live, made["id"], number, action="reject").status_code == 200
        return create(**arguments)

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(finishing, "create_dataset", late)
        refused = live.http.post(f"{PATH}/{made['id']}/finish")
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "reviewed_meanwhile")
    assert len(live.http.get("/api/datasets").json()["data"]) == 2
    assert live.http.post(f"{PATH}/{made['id']}/finish").json()["rows"] == 8 + 5


def test_without_its_seed_it_can_be_finished_alone(live: Live) -> None:
    seed = upload(live, "birds", seed_rows())
    made = begin(live, dataset_id=seed)
    after(live, made["id"])
    live.http.post(f"{PATH}/{made['id']}/accept-all")
    assert live.http.delete(f"/api/datasets/{seed}").status_code == 204
    refused = live.http.post(f"{PATH}/{made['id']}/finish")
    assert (refused.status_code, refused.json()["error"]["param"]) == (422, "include_seed")
    body = {"include_seed": False}
    assert live.http.post(f"{PATH}/{made['id']}/finish", json=body).json()["rows"] == 6


def test_numbers_that_no_database_holds_are_refused(live: Live) -> None:
    made = begin(live, dataset_id=upload(live, "birds", seed_rows()))
    after(live, made["id"])
    path = f"{PATH}/{made['id']}/rows"
    assert live.http.get(path, params={"after": 10**30}).status_code == 422
    assert live.http.patch(f"{path}/{10**30}", json={"action": "accept"}).status_code == 422
