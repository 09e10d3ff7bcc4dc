"""Checkpoints over HTTP: listed, deployed, asked in chat, while their run goes on without them."""

import asyncio
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.inference_client import InferenceClient
from gateway.reconciler import Reconciler
from gateway.settings import GatewaySettings
from gateway.tables import Run
from shared.model_library import BUNDLED_MODEL
from shared.runs import RunStatus
from shared.storage import Storage, atomic_directory, manifest_problem
from tests.gateway.api.live import Live, live_gateway
from tests.gateway.parts import until_true

WEIGHTS = "adapter_model.safetensors"
CHAT = {"messages": [{"role": "user", "content": "Hi"}]}


@pytest.fixture
def live(settings: GatewaySettings) -> Iterator[Live]:
    with live_gateway(settings) as live:
        yield live


def training_run(live: Live, status: RunStatus = "paused") -> Run:
    """One that goes on some day, and that no sweep takes for lost."""
    return live.succeeded_run(status=status, fine_tuned_model=None)


def save_checkpoint(storage: Storage, run_id: str, step: int, kind: str = "step") -> Path:
    folder = storage.run_checkpoints(run_id) / f"{kind}-{step}"
    with atomic_directory(folder) as temporary:
        (temporary / WEIGHTS).write_bytes(b"weights of %d" % step)
        (temporary / "prompt_template.json").write_text("{}")
        if kind == "step":
            for name in ("optimizer.safetensors", "random.safetensors", "position.json"):
                (temporary / name).write_text("{}")
    return folder


def deploy(live: Live, **body: Any) -> Any:
    return live.http.post("/api/deployments", json={"name": "d"} | body)


@pytest.mark.parametrize("form", ["field", "run", "fine-tuned"])
@pytest.mark.parametrize("kind", ["step", "weights"])
def test_a_checkpoint_is_served_while_its_run_goes_on(live: Live, form: str, kind: str) -> None:
    run = training_run(live)
    source = save_checkpoint(live.services.storage, run.id, 4, kind)
    body: dict[str, Any] = {
        "field": {"model": run.id, "checkpoint": 4},
        "run": {"model": f"{run.id}:ckpt-step-4"},
        "fine-tuned": {"model": f"ft:{BUNDLED_MODEL}:genplat::{run.id[-8:]}:ckpt-step-4"},
    }[form]
    made = deploy(live, **body)
    assert made.status_code == 201, made.text
    assert (made.json()["run_id"], made.json()["checkpoint"]) == (run.id, 4)
    until_true(lambda: live.state("d") == "ready")
    assert live.inference.models["d"]["ref"] == {
        "base_model": BUNDLED_MODEL,
        "run_id": run.id,
        "checkpoint": 4,
        "precision": "auto",
    }
    copy = live.services.storage.run_deployed(run.id, 4)
    assert manifest_problem(copy) is None
    assert {path.name for path in copy.iterdir()} == {
        WEIGHTS,
        "prompt_template.json",
        "manifest.json",
    }
    # The trainer drops its own.
    shutil.rmtree(source)
    assert (copy / WEIGHTS).read_bytes() == b"weights of 4"
    assert deploy(live, **body | {"name": "e"}).status_code == 201
    for name, stays in (("d", True), ("e", False)):
        assert live.http.delete(f"/api/deployments/{name}").status_code == 204
        assert copy.exists() == stays


def spoil(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(b"something else")


def add_a_pickle(folder: Path) -> None:
    (folder / "optimizer.pt").write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")


def link_elsewhere(folder: Path) -> None:
    outside = folder.parent.parent / "outside"
    (folder / WEIGHTS).rename(outside)
    (folder / WEIGHTS).symlink_to(outside)


def lose_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()


@pytest.mark.parametrize("harm", [spoil, add_a_pickle, link_elsewhere, lose_manifest])
def test_a_damaged_checkpoint_is_never_served(live: Live, harm: Any) -> None:
    run = training_run(live)
    harm(save_checkpoint(live.services.storage, run.id, 4))
    answer = deploy(live, model=run.id, checkpoint=4)
    assert (answer.status_code, answer.json()["error"]["param"]) == (422, "model")
    assert "no checkpoint at step 4" in answer.json()["error"]["message"]
    assert not live.services.storage.run_deployed(run.id, 4).exists()


@pytest.mark.parametrize(
    ("body", "param", "word"),
    [
        ({"checkpoint": 9}, "model", "no checkpoint at step 9"),
        ({"checkpoint": 0}, "checkpoint", ""),
        ({"checkpoint": 5, "model": "RUN:ckpt-step-4"}, "checkpoint", "names step 4"),
        ({"checkpoint": 4, "model": BUNDLED_MODEL}, "checkpoint", "only runs have checkpoints"),
        ({"model": "THEIRS:ckpt-step-4"}, "model", "neither a run of yours"),
        ({}, "model", "Its checkpoints can be deployed before"),
    ],
)
def test_a_wrong_checkpoint_is_refused(
    live: Live, body: dict[str, Any], param: str, word: str
) -> None:
    run, theirs = training_run(live), live.succeeded_run(owner="somebody-else")
    for one in (run, theirs):
        save_checkpoint(live.services.storage, one.id, 4)
    model = body.get("model", "RUN").replace("RUN", run.id).replace("THEIRS", theirs.id)
    answer = deploy(live, **body | {"model": model})
    assert (answer.status_code, answer.json()["error"]["param"]) == (422, param)
    assert word in answer.text


def test_a_checkpoint_answers_in_chat_without_a_deployment(live: Live) -> None:
    run, theirs = training_run(live), live.succeeded_run(owner="somebody-else")
    for one in (run, theirs):
        save_checkpoint(live.services.storage, one.id, 4)
    name = f"ft:{BUNDLED_MODEL}:genplat::{run.id[-8:]}:ckpt-step-4"
    answer = live.http.post("/v1/chat/completions", json=CHAT | {"model": name})
    assert answer.status_code == 200, answer.text
    (engine_name,) = live.inference.models
    assert live.inference.models[engine_name]["ref"]["checkpoint"] == 4
    assert manifest_problem(live.services.storage.run_deployed(run.id, 4)) is None
    # Its result is another model.
    live.inference.models.clear()
    done = live.succeeded_run()
    save_checkpoint(live.services.storage, done.id, 2)
    for model in (done.fine_tuned_model, f"{done.fine_tuned_model}:ckpt-step-2"):
        assert live.http.post("/v1/chat/completions", json=CHAT | {"model": model}).is_success
    assert len(live.inference.models) == 2
    for model in (
        f"{done.fine_tuned_model}:ckpt-step-3",
        f"ft:{BUNDLED_MODEL}:genplat::{theirs.id[-8:]}:ckpt-step-4",
        f"{run.id}:ckpt-step-4",
    ):
        refused = live.http.post("/v1/chat/completions", json=CHAT | {"model": model})
        assert refused.status_code in (404, 422), refused.text
    # With the run goes what was loaded of it.
    assert live.http.delete(f"/api/runs/{done.id}").status_code == 204
    assert not live.inference.models


def sweep(live: Live) -> None:
    async def tidy() -> None:
        with_own_client = replace(live.services, inference=InferenceClient(live.services.settings))
        try:
            await Reconciler(with_own_client).tidy()
        finally:
            await with_own_client.inference.close()

    asyncio.run(tidy())


def test_a_copy_that_nobody_uses_goes_and_comes_again(live: Live) -> None:
    run, storage = training_run(live), live.services.storage
    copies = {step: storage.run_deployed(run.id, step) for step in (2, 4, 6, 8)}

    def ask(step: int) -> None:
        name = f"ft:{BUNDLED_MODEL}:genplat::{run.id[-8:]}:ckpt-step-{step}"
        answer = live.http.post("/v1/chat/completions", json=CHAT | {"model": name})
        assert answer.status_code == 200, answer.text

    def left_over(*unused: int) -> set[int]:
        """The copies that stay in a sweep long after those of some steps were used."""
        for step in unused:
            os.utime(copies[step], (1, 1))
        sweep(live)
        return {step for step, copy in copies.items() if copy.exists()}

    for step in copies:
        save_checkpoint(storage, run.id, step)
        ask(step)
    assert deploy(live, model=run.id, checkpoint=6).status_code == 201
    until_true(lambda: live.state("d") == "ready")
    body = {"base_model": BUNDLED_MODEL, "dataset_id": "ds_test"}
    going_on = live.http.post("/api/runs", json=body | {"continue_from": f"{run.id}:ckpt-step-8"})
    assert going_on.status_code == 202, going_on.text
    # All are loaded.
    assert left_over(2, 4, 6, 8) == {2, 4, 6, 8}
    # While the inference service is away, it may hold anything.
    live.inference.stop()
    assert left_over() == {2, 4, 6, 8}
    # It comes back with nothing; what is deployed or needed stays, and what was used lately.
    live.inference.start()
    ask(4)
    live.inference.models.clear()
    assert left_over(2, 6, 8) == {4, 6, 8}
    ask(2)
    assert left_over() == {2, 4, 6, 8}
    live.inference.models.clear()
    assert live.http.post(f"/api/runs/{going_on.json()['id']}/cancel").is_success
    assert left_over(2, 4, 8) == {6}


def test_a_wish_over_http(live: Live) -> None:
    body = {"base_model": BUNDLED_MODEL, "dataset_id": "ds_test"}
    run_id = live.http.post("/api/runs", json=body).json()["id"]

    def ask(verb: str) -> tuple[int, str]:
        answer = live.http.post(f"/api/runs/{run_id}/{verb}")
        found = answer.json()
        return answer.status_code, found.get("status") or found["error"]["message"]

    assert ask("stop") == (409, "Nothing has been learned yet; cancel the run instead.")
    assert ask("resume")[0] == 409
    assert ask("pause") == ask("pause") == (200, "paused")
    assert ask("resume") == ask("resume") == (200, "queued")
    shown = live.http.get(f"/api/runs/{run_id}").json()
    assert shown["attempt"] == 2 and shown["waiting_for"]
    assert live.http.get(f"/api/runs/{run_id}/checkpoints").json() == {
        "object": "list",
        "data": [],
        "has_more": False,
    }
