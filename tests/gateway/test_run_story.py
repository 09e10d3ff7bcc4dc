"""A run's events as lines for people."""

from datetime import UTC, datetime

import pytest

from gateway.database import Database
from gateway.run_story import LOOKED_AT, run_story
from gateway.tables import Run, RunEventRow
from shared.errors import NotFound
from shared.run_events import (
    Advanced,
    Checkpointed,
    Finished,
    Logged,
    Measured,
    Payload,
    Started,
)
from tests.gateway.parts import DATASET, OWNER, add_dataset, spec


def tell(database: Database, *payloads: Payload, attempt: int = 1) -> str:
    """A run whose events are ``payloads``; its id."""
    add_dataset(database)
    run = Run(
        owner=OWNER, spec=spec().model_dump(mode="json"), base_model="org/m", dataset_id=DATASET
    )
    with database.write() as session:
        session.add(run)
        session.flush()
        for seq, payload in enumerate(payloads, start=1):
            row = RunEventRow(
                run_id=run.id,
                attempt=attempt,
                seq=seq,
                stream_id=f"{attempt}-{seq}",
                type=payload.type,
                time=datetime.now(UTC),
                payload=payload.model_dump(mode="json"),
            )
            session.add(row)
    return run.id


def measured(step: int, **changes: float | None) -> Measured:
    values = {"loss": 0.5, "tokens_per_second": 412.4} | changes
    return Measured.model_validate(values | {"step": step, "total_steps": 200, "epoch": 0.1})


def test_a_run_tells_its_story_in_order(database: Database) -> None:
    run_id = tell(
        database,
        Started(worker="w"),
        Started(worker="w", device="cpu"),
        Advanced(phase="loading_model", train_examples=190, validation_examples=22),
        Logged(level="warn", message="A row was cut."),
        Advanced(phase="training"),
        measured(1),
        measured(2),
        measured(10),
        measured(10, loss=None, eval_loss=0.61),
        Checkpointed(step=10, path="step-10"),
        Finished(status="succeeded", train_seconds=80.4, trained_tokens=16_541),
    )
    lines = run_story(database=database, owner=OWNER, run_id=run_id)
    assert [line.message for line in lines] == [
        "Attempt 1 runs on cpu.",
        "190 rows to learn from, 22 to validate with.",
        "A row was cut.",
        "Step 1 of 200: loss 0.5000, 412 tokens/s.",
        "Step 10 of 200: loss 0.5000, 412 tokens/s.",
        "Step 10: validation loss 0.6100.",
        "Checkpoint saved at step 10.",
        "Succeeded in 80 s, 16,541 tokens.",
    ]
    assert lines[2].level == "warn"


def test_a_long_run_does_not_forget_how_it_began(database: Database) -> None:
    steps = map(measured, range(1, LOOKED_AT + 11))
    run_id = tell(database, Started(worker="w", device="cpu"), *steps)
    first, second, *_ = run_story(database=database, owner=OWNER, run_id=run_id)
    assert first.message == "Attempt 1 runs on cpu."
    assert second.message.startswith("Step 20 of")


@pytest.mark.parametrize(
    ("end", "level", "said"),
    [
        (Finished(status="failed", code="oom", message="No memory."), "error", "No memory."),
        (Finished(status="cancelled"), "warn", "Cancelled."),
        (Finished(status="preempted"), "warn", "back to the queue"),
    ],
)
def test_every_end_is_told(database: Database, end: Finished, level: str, said: str) -> None:
    resumed = Advanced(phase="training", resumed_from_step=50)
    run_id = tell(database, resumed, end, attempt=2)
    first, last = run_story(database=database, owner=OWNER, run_id=run_id)
    assert first.message == "Goes on from the checkpoint at step 50."
    assert last.level == level and said in last.message


def test_the_story_of_somebody_elses_run_is_not_told(database: Database) -> None:
    run_id = tell(database, Advanced(phase="training"))
    with pytest.raises(NotFound):
        run_story(database=database, owner="somebody-else", run_id=run_id)
