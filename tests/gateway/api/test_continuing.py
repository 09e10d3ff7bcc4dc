"""Runs that go on from what another run learned, over HTTP."""

from collections.abc import Iterator
from typing import Any

import pytest

from gateway.runs import queued_command
from gateway.settings import GatewaySettings
from gateway.tables import Run
from shared.model_library import BUNDLED_MODEL
from shared.runs import ContinueFrom
from tests.gateway.api.live import Live, live_gateway
from tests.gateway.api.test_checkpoints import save_checkpoint
from tests.gateway.parts import DATASET, spec

SHAPE = {"lora_r": 12, "lora_alpha": 30, "target_modules": ["q_proj", "v_proj"]}


@pytest.fixture
def live(settings: GatewaySettings) -> Iterator[Live]:
    with live_gateway(settings) as live:
        yield live


def earlier_run(live: Live, *, status: str = "succeeded", **changes: Any) -> Run:
    asked = spec(**changes).model_dump(mode="json")
    return live.succeeded_run(spec=asked, hyperparameters=SHAPE, status=status)


def create(live: Live, **body: Any) -> Any:
    return live.http.post(
        "/api/runs", json={"base_model": BUNDLED_MODEL, "dataset_id": DATASET} | body
    )


@pytest.mark.parametrize("form", ["id", "fine-tuned", "base_model"])
def test_a_run_goes_on_from_a_result(live: Live, form: str) -> None:
    earlier = earlier_run(live, task_prefix="draw: ")
    body = {
        "id": {"continue_from": earlier.id},
        "fine-tuned": {"continue_from": earlier.fine_tuned_model},
        "base_model": {"base_model": earlier.fine_tuned_model},
    }[form]
    answer = create(live, **body)
    assert answer.status_code == 202, answer.text
    made = answer.json()["spec"]
    assert (made["continue_from"], made["base_model"]) == (earlier.id, BUNDLED_MODEL)
    assert {name: made[name] for name in SHAPE} == SHAPE
    assert made["task_prefix"] == "draw: "
    command = queued_command(database=live.services.database, run_id=answer.json()["id"])
    assert command is not None
    assert command.continue_from == ContinueFrom(run_id=earlier.id)


def test_a_run_goes_on_from_a_checkpoint_that_is_dropped_afterwards(live: Live) -> None:
    earlier = earlier_run(live, status="paused")
    save_checkpoint(live.services.storage, earlier.id, 4)
    answer = create(live, continue_from=f"{earlier.id}:ckpt-step-4", method="qlora")
    assert answer.status_code == 202, answer.text
    assert answer.json()["spec"]["continue_from"] == f"{earlier.id}:ckpt-step-4"
    command = queued_command(database=live.services.database, run_id=answer.json()["id"])
    assert command is not None
    assert command.continue_from == ContinueFrom(run_id=earlier.id, step=4)
    copy = live.services.storage.run_deployed(earlier.id, 4)
    assert copy.is_dir()
    # What a run that waits needs is not removed with a deployment.
    body = {"name": "d", "model": earlier.id, "checkpoint": 4}
    assert live.http.post("/api/deployments", json=body).status_code == 201
    assert live.http.delete("/api/deployments/d").status_code == 204
    assert copy.is_dir()


@pytest.mark.parametrize(
    ("body", "param", "word"),
    [
        ({"continue_from": "run_unknown"}, "continue_from", "no run of yours"),
        ({"continue_from": "THEIRS"}, "continue_from", "no run of yours"),
        ({"continue_from": "PAUSED"}, "continue_from", "is paused"),
        ({"continue_from": "PAUSED:ckpt-step-9"}, "continue_from", "no checkpoint at step 9"),
        ({"base_model": "ft:x:genplat::abcdefgh"}, "base_model", "no run of yours"),
        ({"base_model": "FT", "continue_from": "PAUSED"}, "continue_from", "leave"),
        ({"base_model": "google-t5/t5-small", "continue_from": "RUN"}, "base_model", "made on"),
        ({"method": "full", "continue_from": "RUN"}, "method", "full fits full"),
        ({"continue_from": "FULL"}, "method", "full fits full"),
        ({"lora_r": 8, "continue_from": "RUN"}, "lora_r", "has 12"),
        ({"lora_alpha": 8, "continue_from": "RUN"}, "lora_alpha", "has 30"),
        (
            {"target_modules": "all-linear", "continue_from": "RUN"},
            "target_modules",
            "['q_proj', 'v_proj']",
        ),
    ],
)
def test_what_does_not_fit_is_refused(
    live: Live, body: dict[str, Any], param: str, word: str
) -> None:
    names = {
        "RUN": earlier_run(live),
        "PAUSED": earlier_run(live, status="paused"),
        "FULL": earlier_run(live, method="full"),
        "THEIRS": live.succeeded_run(owner="somebody-else"),
    }
    for field, value in body.items():
        if isinstance(value, str):
            for name, run in names.items():
                head, colon, tail = value.partition(":")
                if head == name:
                    body = body | {field: f"{run.id}{colon}{tail}"}
            if value == "FT":
                body = body | {field: names["RUN"].fine_tuned_model}
    answer = create(live, **body)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (422, param), error
    assert word in error["message"]


def test_what_was_decided_the_same_way_is_accepted(live: Live) -> None:
    earlier = earlier_run(live)
    assert create(live, continue_from=earlier.id, **SHAPE).status_code == 202
    assert create(live, continue_from=earlier.id, lora_dropout=0.1).status_code == 202
    whole = earlier_run(live, method="full")
    answer = create(live, continue_from=whole.id, method="full", lora_r=4)
    assert answer.status_code == 202 and answer.json()["spec"]["lora_r"] == 4


def test_a_run_that_another_needs_cannot_be_deleted(live: Live) -> None:
    earlier = earlier_run(live)
    new = create(live, continue_from=earlier.id).json()
    refused = live.http.delete(f"/api/runs/{earlier.id}")
    assert refused.status_code == 409 and new["id"] in refused.json()["error"]["message"]
    assert live.http.post(f"/api/runs/{new['id']}/cancel").status_code == 200
    assert live.http.delete(f"/api/runs/{earlier.id}").status_code == 204


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"early_stopping_patience": 3}, "early_stopping_patience"),
        ({"load_best_model_at_end": True}, "load_best_model_at_end"),
    ],
)
def test_choosing_by_validation_needs_something_to_validate_on(
    live: Live, body: dict[str, Any], param: str
) -> None:
    answer = create(live, validation_split=0, **body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (422, param)
    assert "validation_split" in answer.json()["error"]["message"]
    assert create(live, validation_split=0.2, **body).status_code == 202
    # What a preset would have chosen is no wish.
    assert create(live, validation_split=0, preset="thorough").status_code == 202
    off = {"early_stopping_patience": 0, "load_best_model_at_end": False}
    assert create(live, validation_split=0, **off).status_code == 202


def test_the_prefix_of_the_base_model_is_the_runs_own(live: Live) -> None:
    made = create(live).json()
    assert made["spec"]["task_prefix"] == ""
    assert create(live, task_prefix="x: ").json()["spec"]["task_prefix"] == "x: "
