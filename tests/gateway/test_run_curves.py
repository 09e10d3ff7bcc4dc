"""Measured steps and lists of runs, on both databases."""

import pytest

from gateway.database import Database
from gateway.run_curves import best_eval_losses, measured_steps
from gateway.run_lists import listed_runs, run_counts
from shared.errors import NotFound
from tests.gateway.parts import DATASET, OWNER, add_dataset, spec
from tests.gateway.run_rows import add_metrics, add_run


@pytest.fixture
def measured(either_database: Database) -> Database:
    add_dataset(either_database)
    add_run(either_database, "run_a", status="running")
    add_metrics(either_database, "run_a", range(1, 41))
    return either_database


def test_steps_come_in_order_from_where_they_are_wanted(measured: Database) -> None:
    rows = measured_steps(database=measured, owner=OWNER, run_id="run_a")
    assert [row.step for row in rows] == list(range(1, 41))
    later = measured_steps(database=measured, owner=OWNER, run_id="run_a", since=39)
    assert [row.step for row in later] == [39, 40]
    evaluated = measured_steps(database=measured, owner=OWNER, run_id="run_a", evaluated=True)
    assert [row.step for row in evaluated] == [10, 20, 30, 40]
    with pytest.raises(NotFound):
        measured_steps(database=measured, owner="somebody-else", run_id="run_a")


def test_the_best_validation_of_each_run_that_has_one(measured: Database) -> None:
    add_run(measured, "run_b")
    found = best_eval_losses(database=measured, run_ids=["run_a", "run_b"])
    rows = measured_steps(database=measured, owner=OWNER, run_id="run_a", evaluated=True)
    assert found == {"run_a": pytest.approx(rows[-1].eval_loss)}


def test_a_list_names_its_data_and_is_filtered_by_state(measured: Database) -> None:
    add_dataset(measured, dataset_id="ds_more")
    parts = [{"id": DATASET}, {"id": "ds_more", "weight": 2}]
    mixed = spec(dataset_id=None, datasets=parts).model_dump(mode="json")
    add_run(measured, "run_b", status="paused", spec=mixed)
    add_run(measured, "run_c", status="paused", owner="somebody-else")
    page = listed_runs(database=measured, owner=OWNER)
    assert [(item.run.id, item.data) for item in page.data] == [
        ("run_b", f"{DATASET} v1, ds_more v1"),
        ("run_a", f"{DATASET} v1"),
    ]
    assert page.data[0].best_eval_loss is None
    paused = listed_runs(database=measured, owner=OWNER, status="paused")
    assert [item.run.id for item in paused.data] == ["run_b"]
    assert run_counts(database=measured, owner=OWNER) == {"running": 1, "paused": 1}
