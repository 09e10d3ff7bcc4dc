"""The checkpoints of a fine-tuning job through OpenAI's unmodified client."""

from collections.abc import Iterator
from typing import Any

import openai
import pytest

from gateway.settings import GatewaySettings
from shared.run_events import Checkpointed, Started
from tests.gateway.api.fine_tuning import create, tell
from tests.gateway.api.live import Live, live_gateway


@pytest.fixture
def live(settings: GatewaySettings) -> Iterator[Live]:
    with live_gateway(settings) as live:
        yield live


def saved(step: int, *kept: int, **metrics: float) -> Checkpointed:
    return Checkpointed(step=step, path=f"step-{step}", kept=kept, **metrics)


def checkpoints(live: Live, job_id: str, **query: Any) -> list[Any]:
    with live.openai as client:
        return list(client.fine_tuning.jobs.checkpoints.list(job_id, **query))


def test_those_that_are_there_with_their_metrics(live: Live) -> None:
    job = create(live, suffix="mine")
    tell(
        live,
        job.id,
        Started(worker="w"),
        saved(2, 2),
        saved(4, 2, 4, loss=1.5, mean_token_accuracy=0.5),
        saved(6, 4, 6, loss=1.25, eval_loss=1.75, eval_mean_token_accuracy=0.25),
    )
    last, first = checkpoints(live, job.id)
    assert (last.object, last.step_number, first.step_number) == (
        "fine_tuning.job.checkpoint",
        6,
        4,
    )
    assert last.id.startswith("ftckpt_") and last.id != first.id
    assert last.fine_tuning_job_id == job.id and last.created_at >= job.created_at
    tail = job.id[-8:]
    assert last.fine_tuned_model_checkpoint == f"ft:{job.model}:genplat:mine:{tail}:ckpt-step-6"
    assert last.metrics.to_dict() == {
        "step": 6,
        "train_loss": 1.25,
        "train_mean_token_accuracy": None,
        "valid_loss": 1.75,
        "valid_mean_token_accuracy": 0.25,
        "full_valid_loss": 1.75,
        "full_valid_mean_token_accuracy": 0.25,
    }
    assert first.metrics.train_mean_token_accuracy == 0.5


def test_in_pages(live: Live) -> None:
    job = create(live)
    assert checkpoints(live, job.id) == []
    steps = list(range(1, 14))
    tell(live, job.id, Started(worker="w"), *(saved(step, *steps[:step]) for step in steps))
    # Whose place newer ones have taken is told of no more.
    tell(live, job.id, saved(14, 1, 2, 3, 12, 13, 14), first=15)
    for limit in (1, 2, 5, 100):
        found = checkpoints(live, job.id, limit=limit)
        assert [one.step_number for one in found] == [14, 13, 12, 3, 2, 1]
    path = f"/v1/fine_tuning/jobs/{job.id}/checkpoints"
    page = live.http.get(path, params={"limit": 3}).json()
    assert page.keys() == {"object", "data", "first_id", "last_id", "has_more"}
    assert (page["first_id"], page["last_id"]) == (found[0].id, found[2].id)
    assert page["has_more"] is True
    empty = live.http.get(path, params={"after": found[-1].id}).json()
    assert (empty["first_id"], empty["last_id"], empty["has_more"]) == (None, None, False)


def test_a_page_behind_nothing(live: Live) -> None:
    job, other = create(live), create(live)
    for one in (job, other):
        tell(live, one.id, Started(worker="w"), saved(1, 1))
    [own], [theirs] = checkpoints(live, job.id), checkpoints(live, other.id)
    for after in (theirs.id, f"{own.id}0", "1", "", "ftckpt_x-1"):
        with live.openai as client, pytest.raises(openai.BadRequestError) as error:
            client.fine_tuning.jobs.checkpoints.list(job.id, after=after)
        assert error.value.param == "after"
