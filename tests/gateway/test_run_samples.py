"""Samples of every evaluation, on both databases."""

import pytest

from gateway.database import Database
from gateway.run_samples import samples_at
from shared.errors import NotFound
from tests.gateway.parts import OWNER, add_dataset
from tests.gateway.run_rows import add_run, add_sample


@pytest.fixture
def sampled(either_database: Database) -> Database:
    add_dataset(either_database)
    add_run(either_database, "run_a")
    add_run(either_database, "run_b")
    for step, output in ((9, "one"), (10, "two"), (100, "three")):
        add_sample(either_database, "run_a", step=step, output=output)
        add_sample(either_database, "run_a", step=step, output=output + "!", prompt="q")
    add_sample(either_database, "run_b", step=7, output="another run's")
    return either_database


def test_without_a_step_the_last_evaluation_is_shown_beside_the_one_before(
    sampled: Database,
) -> None:
    found = samples_at(database=sampled, owner=OWNER, run_id="run_a")
    assert found is not None and found.is_latest
    assert (found.steps, found.step, found.previous) == ((9, 10, 100), 100, 10)
    assert [(one.prompt, one.output, one.before) for one in found.samples] == [
        ("p", "three", "two"),
        ("q", "three!", "two!"),
    ]


def test_every_evaluation_is_kept_and_the_first_has_none_before(sampled: Database) -> None:
    found = samples_at(database=sampled, owner=OWNER, run_id="run_a", step=9)
    assert found is not None and not found.is_latest
    assert (found.step, found.previous) == (9, None)
    assert [(one.output, one.before) for one in found.samples] == [("one", None), ("one!", None)]


def test_a_step_that_was_never_evaluated_shows_the_last_one(sampled: Database) -> None:
    found = samples_at(database=sampled, owner=OWNER, run_id="run_a", step=11)
    assert found is not None and found.step == 100


def test_a_repeated_evaluation_shows_what_the_last_attempt_wrote(sampled: Database) -> None:
    add_sample(sampled, "run_a", step=10, output="again", attempt=2)
    found = samples_at(database=sampled, owner=OWNER, run_id="run_a", step=10)
    assert found is not None
    assert [one.output for one in found.samples] == ["again"]


def test_nothing_written_yet_and_nobody_elses_run(sampled: Database) -> None:
    add_run(sampled, "run_c")
    assert samples_at(database=sampled, owner=OWNER, run_id="run_c") is None
    with pytest.raises(NotFound):
        samples_at(database=sampled, owner="somebody-else", run_id="run_a")
