"""The events of a fine-tuning job through OpenAI's unmodified client."""

from collections.abc import Iterator
from typing import Any

import openai
import pytest

from gateway.settings import GatewaySettings
from shared.run_events import (
    Advanced,
    Checkpointed,
    Finished,
    Logged,
    Measured,
    Payload,
    Sampled,
    Started,
)
from tests.gateway.api.fine_tuning import create, run_of, tell
from tests.gateway.api.live import Live, live_gateway
from tests.gateway.parts import success


@pytest.fixture
def live(settings: GatewaySettings) -> Iterator[Live]:
    with live_gateway(settings) as live:
        yield live


def step(number: int, loss: float, **others: Any) -> Measured:
    return Measured(step=number, total_steps=2, epoch=number / 2, loss=loss, **others)


HISTORY: tuple[Payload, ...] = (
    Started(worker="w", device="cpu"),
    Advanced(phase="training"),
    step(1, 2.5, mean_token_accuracy=0.25, learning_rate=1e-3),
    Sampled(step=1, prompt="p", target="t", output="o"),
    Logged(level="warn", message="Row 3 was cut."),
    step(2, 1.25),
    Measured(step=2, total_steps=2, epoch=1, eval_loss=1.5, eval_mean_token_accuracy=0.5),
    Checkpointed(step=2, path="step-2"),
)


def events(live: Live, job_id: str, **query: Any) -> list[Any]:
    with live.openai as client:
        return list(client.fine_tuning.jobs.list_events(job_id, **query))


def test_a_job_from_its_creation_to_its_model(live: Live) -> None:
    job = create(live)
    tell(live, job.id, *HISTORY)
    run = run_of(live, job.id)
    tell(live, job.id, success(live.services.storage, run["id"]), first=len(HISTORY) + 1)
    model = run_of(live, job.id)["fine_tuned_model"]
    found = events(live, job.id)
    assert [event.message for event in reversed(found)] == [
        f"Created fine-tuning job: {job.id}",
        "Fine-tuning job started",
        "Step 1/2: training loss=2.5000",
        "Row 3 was cut.",
        "Step 2/2: training loss=1.2500",
        "Step 2/2: validation loss=1.5000",
        "Checkpoint created at step 2",
        f"New fine-tuned model created: {model}",
        "The job has successfully completed",
    ]
    assert {event.object for event in found} == {"fine_tuning.job.event"}
    assert [event.level for event in found].count("warn") == 1
    assert all(event.id.startswith("ftevent-") for event in found)
    metrics = [event.data for event in reversed(found) if event.type == "metrics"]
    assert metrics == [
        {
            "step": 1,
            "total_steps": 2,
            "train_loss": 2.5,
            "train_mean_token_accuracy": 0.25,
            "learning_rate": 1e-3,
        },
        {"step": 2, "total_steps": 2, "train_loss": 1.25},
        {"step": 2, "total_steps": 2, "valid_loss": 1.5, "valid_mean_token_accuracy": 0.5},
    ]
    assert all(event.data == {} for event in found if event.type == "message")


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_pages_of_any_size_hold_the_same(live: Live, limit: int) -> None:
    job = create(live)
    tell(live, job.id, *HISTORY)
    tell(
        live,
        job.id,
        success(live.services.storage, run_of(live, job.id)["id"]),
        first=len(HISTORY) + 1,
    )
    assert events(live, job.id, limit=limit) == events(live, job.id)


def test_an_event_keeps_its_id_while_others_come(live: Live) -> None:
    job = create(live)
    tell(live, job.id, *HISTORY[:3])
    before = events(live, job.id)
    tell(live, job.id, *HISTORY[3:], first=4)
    assert events(live, job.id)[-len(before) :] == before
    behind = events(live, job.id, after=before[0].id)
    assert behind == before[1:]


def test_a_long_history(live: Live) -> None:
    job = create(live)
    tell(live, job.id, *(Logged(message=str(number)) for number in range(450)))
    found = [event.message for event in events(live, job.id, limit=400)]
    assert found == [
        *(str(number) for number in reversed(range(450))),
        f"Created fine-tuning job: {job.id}",
    ]


@pytest.mark.parametrize("limit", [1, 20])
def test_a_success_before_the_last_step_says_why(live: Live, limit: int) -> None:
    job = create(live)
    end = success(live.services.storage, run_of(live, job.id)["id"])
    tell(live, job.id, step(1, 2.5), end.model_copy(update={"stopped": "early"}))
    found = [event.message for event in events(live, job.id, limit=limit)]
    assert found[0] == "The job has successfully completed"
    assert found[2].startswith("Training stopped early") and found[2].endswith("at step 1")
    assert len(found) == 5


def test_ends_that_no_worker_told_of(live: Live) -> None:
    job = create(live)
    with live.openai as client:
        client.fine_tuning.jobs.cancel(job.id)
    end, created = events(live, job.id)
    assert (end.message, end.level) == ("Fine-tuning job cancelled", "warn")
    assert events(live, job.id, limit=1) == [end, created]


def test_a_pause(live: Live) -> None:
    job = create(live)
    with live.openai as client:
        tell(live, job.id, Started(worker="w"), step(1, 2.5))
        client.fine_tuning.jobs.pause(job.id)
        tell(live, job.id, Finished(status="paused"), first=3)
        assert events(live, job.id)[0].message == "Fine-tuning job paused"
        client.fine_tuning.jobs.resume(job.id)
        assert "attempt 2" in events(live, job.id)[0].message


def test_an_attempt_that_fails_and_one_that_ends_it(live: Live) -> None:
    job = create(live)
    lost = Finished(status="failed", code="crashed", message="It crashed.", retry=True)
    tell(live, job.id, Started(worker="w"), lost)
    over = Finished(status="failed", code="bad_data", message="Row 7 is no text.")
    tell(live, job.id, Started(worker="w"), over, attempt=2)
    found = [(event.level, event.message) for event in reversed(events(live, job.id))]
    assert found[1:] == [
        ("info", "Fine-tuning job started"),
        ("error", "Failed: It crashed."),
        ("warn", "Attempt 1 failed; the run waits for attempt 2."),
        ("info", "Fine-tuning job started again: attempt 2"),
        ("error", "Fine-tuning job failed: Row 7 is no text."),
    ]


def test_a_page_behind_nothing(live: Live) -> None:
    job, other = create(live), create(live)
    theirs = events(live, other.id)[0].id
    own = events(live, job.id)[0].id
    for after in ("ftevent-unknown", theirs, f"{own}0", own.replace("-0-0-0", "-1-1-0"), "x-1-2"):
        with live.openai as client, pytest.raises(openai.BadRequestError) as error:
            client.fine_tuning.jobs.list_events(job.id, after=after)
        assert error.value.param == "after"
