"""What evaluations ask: held-out rows, rows that were trained on, tags, draws by seed."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.evaluations.examples import drawn, grouped, read_tags, tag_column
from gateway.settings import GatewaySettings
from gateway.tables import Dataset
from shared.datasets import Record, read_records
from shared.runs import FineTuneSpec
from shared.splits import held_out_sources
from tests.gateway.api.live import Live, live_gateway
from tests.gateway.evaluations.asked import evaluate, says, upload, word_rows


@pytest.fixture
def live(settings: GatewaySettings) -> Iterator[Live]:
    with live_gateway(settings) as live:
        live.inference.says = says
        yield live


def trained(live: Live, dataset_id: str, **spec: Any) -> str:
    """A run that has learned from a dataset, as far as the database is concerned."""
    asked = FineTuneSpec(base_model="x/y", dataset_id=dataset_id, **spec)
    return live.succeeded_run(spec=asked.model_dump(mode="json"), dataset_id=dataset_id).id


def asked_texts(live: Live) -> set[str]:
    return {body["messages"][-1]["content"] for body in live.inference.asked}


def test_what_a_run_held_out_is_what_its_trainer_held_out(live: Live) -> None:
    dataset = upload(live.http, word_rows(30))
    run = trained(live, dataset["id"], validation_split=0.2, seed=7)
    found = evaluate(live, held_out_of=run, candidates=[run], metrics=["exact_match"])
    records = list(read_records(live.services.storage.dataset_records(dataset["id"])))
    held_out = held_out_sources(records, share=0.2, seed=7)
    validation = [record for record in records if record.source_key in held_out]
    assert asked_texts(live) == {record.prompt[-1].content for record in validation}
    assert found["examples"] == len(validation) == 6
    assert not any("trained on" in warning for warning in found["warnings"])


def test_rows_that_were_trained_on_are_warned_of(live: Live) -> None:
    dataset = upload(live.http, word_rows(30))
    run = trained(live, dataset["id"], validation_split=0.2, seed=7)
    follower = trained(live, upload(live.http, word_rows(2), "other")["id"], continue_from=run)
    found = evaluate(live, dataset_id=dataset["id"], candidates=[run, follower], metrics=["length"])
    told = [warning for warning in found["warnings"] if "trained on 24 of these 30" in warning]
    # What a run goes on from has learned, too.
    assert len(told) == 2


def test_a_run_that_validates_on_other_data_is_asked_that(live: Live) -> None:
    learned, other = upload(live.http, word_rows(9)), upload(live.http, word_rows(4), "other")
    run = trained(live, learned["id"], validation_dataset_id=other["id"], validation_split=0.1)
    found = evaluate(live, held_out_of=run, candidates=[run], metrics=["length"])
    assert (found["examples"], found["dataset_id"]) == (4, other["id"])


def test_a_run_without_validation_has_nothing_held_out(live: Live) -> None:
    run = trained(live, upload(live.http, word_rows(5))["id"], validation_split=0)
    answer = live.http.post("/api/evaluations", json={"held_out_of": run, "candidates": [run]})
    assert answer.status_code == 422 and answer.json()["error"]["param"] == "held_out_of"


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_tags_belong_to_their_rows(live: Live, kind: str) -> None:
    """Also where bad rows between them were left out."""
    if kind == "csv":
        content = "text,target,category\na,1,red\nb,,gone\nc,3,blue\n"
    else:
        rows = [("a", "1", "red"), ("b", "", "gone"), ("c", "3", "blue")]
        lines = [{"prompt": p, "completion": c, "category": t} for p, c, t in rows]
        content = "\n".join(json.dumps(line) for line in lines)
    answer = live.http.post(
        "/api/datasets",
        data={"name": "tagged", "skip_bad_rows": "true"},
        files={"file": (f"x.{kind}", content)},
    )
    assert answer.status_code == 201, answer.text
    with live.services.database.read() as session:
        dataset = session.get_one(Dataset, answer.json()["id"])
    assert tag_column(dataset, None) == "category"
    found = read_tags(live.services.storage, dataset, "category")
    assert found == {0: "red", 1: "blue"}


def test_draws_are_the_same_again() -> None:
    examples = grouped([Record.from_pair(str(n % 50), str(n)) for n in range(100)])
    assert len(examples) == 50 and examples[3].references == ["3", "53"]
    first, same = (drawn(examples, limit=10, seed=1) for _ in range(2))
    assert first == same != drawn(examples, limit=10, seed=2)
    assert [one.row for one in first] == sorted(one.row for one in first)
    assert drawn(examples, limit=None, seed=1) == examples
