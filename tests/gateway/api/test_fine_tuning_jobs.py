"""`/v1/fine_tuning/jobs` through OpenAI's unmodified client: jobs as they are seen and listed."""

import time
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from gateway.settings import GatewaySettings
from shared.model_library import BUNDLED_MODEL
from shared.run_events import Advanced, Finished, Measured, Started
from tests.gateway.api.fine_tuning import ERROR_KEYS, REQUEST, create, run_of, tell
from tests.gateway.api.live import Live, live_gateway
from tests.gateway.parts import add_dataset, spec, success

# Those that OpenAI's description of a job calls required, and those that its client can show.
REQUIRED = {
    *("id", "object", "created_at", "finished_at", "model", "fine_tuned_model"),
    *("organization_id", "status", "hyperparameters", "training_file", "validation_file"),
    *("result_files", "trained_tokens", "error", "seed"),
}
OPTIONAL = {"estimated_finish", "method", "integrations", "metadata"}
PLACES = [
    ("GET", ""),
    ("GET", "/events"),
    ("GET", "/checkpoints"),
    ("POST", "/cancel"),
    ("POST", "/pause"),
    ("POST", "/resume"),
]
AUTO = {"n_epochs": "auto", "batch_size": "auto", "learning_rate_multiplier": "auto"}


@pytest.fixture
def live(settings: GatewaySettings) -> Iterator[Live]:
    with live_gateway(settings) as live:
        add_dataset(live.services.database, dataset_id="ds_unseen")
        yield live


def retrieve(live: Live, job_id: str) -> Any:
    with live.openai as client:
        return client.fine_tuning.jobs.retrieve(job_id)


def test_a_new_job(live: Live) -> None:
    job = create(
        live, validation_file="file-unseen", suffix="mine", seed=7, metadata={"team": "red"}
    )
    assert job.to_dict().keys() == REQUIRED | OPTIONAL
    assert job.id.startswith("ftjob-") and job.object == "fine_tuning.job"
    assert (job.status, job.model, job.organization_id) == ("queued", BUNDLED_MODEL, "genplat")
    assert (job.training_file, job.validation_file) == ("file-test", "file-unseen")
    assert (job.seed, job.metadata, job.integrations) == (7, {"team": "red"}, [])
    assert job.hyperparameters.to_dict() == AUTO
    assert job.method is not None
    assert job.method.to_dict() == {"type": "supervised", "supervised": {"hyperparameters": AUTO}}
    nothing = (job.finished_at, job.fine_tuned_model, job.trained_tokens, job.error)
    assert nothing == (None, None, None, None) and job.result_files == []
    run = run_of(live, job.id)
    assert (run["status"], run["spec"]["suffix"], run["spec"]["seed"]) == ("queued", "mine", 7)
    assert run["spec"]["validation_dataset_id"] == "ds_unseen"


def test_a_job_that_learns_and_succeeds(live: Live) -> None:
    job = create(live)
    decided = {
        "num_train_epochs": 3.0,
        "per_device_train_batch_size": 2,
        "learning_rate": 1e-3,
    }
    step = Measured(step=1, total_steps=4, epoch=0.5, loss=2.0, eta_seconds=3600)
    tell(
        live, job.id, Started(worker="w"), Advanced(phase="training", hyperparameters=decided), step
    )
    running = retrieve(live, job.id)
    assert running.status == "running"
    assert 3500 < running.estimated_finish - time.time() < 3700
    assert running.hyperparameters.to_dict() == {
        "n_epochs": 3,
        "batch_size": 2,
        "learning_rate_multiplier": 1.0,
    }
    tell(live, job.id, success(live.services.storage, run_of(live, job.id)["id"]), first=4)
    done = retrieve(live, job.id)
    assert (done.status, done.estimated_finish, done.trained_tokens) == ("succeeded", None, 1234)
    assert done.finished_at >= done.created_at
    assert done.fine_tuned_model == run_of(live, job.id)["fine_tuned_model"]
    with live.openai as client:
        [file_id] = done.result_files
        assert client.files.content(file_id).text.splitlines()[1] == "1,2.0,,,"
        assert client.models.retrieve(done.fine_tuned_model).id == done.fine_tuned_model
        with pytest.raises(openai.ConflictError):
            client.fine_tuning.jobs.cancel(job.id)
        # The job goes with its model.
        assert client.models.delete(done.fine_tuned_model).deleted
        for gone in (client.files.content, client.fine_tuning.jobs.retrieve):
            with pytest.raises(openai.NotFoundError):
                gone(file_id if gone == client.files.content else job.id)


def test_a_job_that_fails(live: Live) -> None:
    job = create(live)
    tell(live, job.id, Finished(status="failed", code="oom_killed", message="Too little memory."))
    failed = retrieve(live, job.id)
    assert (failed.status, failed.result_files) == ("failed", [])
    assert failed.error.to_dict() == {
        "code": "oom_killed",
        "message": "Too little memory.",
        "param": None,
    }


def test_a_job_is_cancelled(live: Live) -> None:
    job = create(live)
    with live.openai as client:
        assert client.fine_tuning.jobs.cancel(job.id).status == "cancelled"
        assert client.fine_tuning.jobs.cancel(job.id).finished_at is not None
    assert run_of(live, job.id)["status"] == "cancelled"


def test_a_job_is_paused_and_resumed(live: Live) -> None:
    job = create(live)
    with live.openai as client:
        jobs = client.fine_tuning.jobs
        assert jobs.pause(job.id).status == "paused"
        assert jobs.pause(job.id).status == "paused"
        assert jobs.resume(job.id).status == "queued"
        tell(live, job.id, Started(worker="w"), attempt=2)
        assert jobs.pause(job.id).status == "running"
        tell(live, job.id, Finished(status="paused"), first=2, attempt=2)
        assert jobs.retrieve(job.id).status == "paused"
        assert jobs.cancel(job.id).status == "cancelled"
        for refused in (jobs.pause, jobs.resume):
            with pytest.raises(openai.ConflictError, match="cancelled"):
                refused(job.id)


def test_a_run_from_elsewhere_is_a_job(live: Live) -> None:
    asked = spec(learning_rate=1e-4, num_train_epochs=1.5).model_dump(mode="json")
    run = live.http.post("/api/runs", json=asked).json()
    job = retrieve(live, run["id"].replace("run_", "ftjob-"))
    assert job.metadata is None and job.training_file == "file-test"
    assert job.hyperparameters.to_dict() == {
        "n_epochs": 2,
        "batch_size": "auto",
        "learning_rate_multiplier": None,
    }


def test_a_job_that_goes_on_from_a_fine_tuned_model(live: Live) -> None:
    earlier = live.succeeded_run()
    job = create(live, model=earlier.fine_tuned_model)
    assert job.model == earlier.fine_tuned_model
    found = run_of(live, job.id)["spec"]
    assert (found["base_model"], found["continue_from"]) == (BUNDLED_MODEL, earlier.id)


def test_jobs_in_pages(live: Live) -> None:
    made = [create(live).id for _ in range(3)]
    with live.openai as client:
        assert [job.id for job in client.fine_tuning.jobs.list()] == made[::-1]
        assert [job.id for job in client.fine_tuning.jobs.list(limit=1)] == made[::-1]
    page = live.http.get("/v1/fine_tuning/jobs", params={"limit": 2}).json()
    assert (page["object"], page["has_more"], len(page["data"])) == ("list", True, 2)
    rest = live.http.get("/v1/fine_tuning/jobs", params={"after": page["data"][-1]["id"]}).json()
    assert ([job["id"] for job in rest["data"]], rest["has_more"]) == (made[:1], False)


def test_jobs_by_their_metadata(live: Live) -> None:
    plain = create(live).id
    red = create(live, metadata={"team": "red", "round": "1"}).id
    blue = create(live, metadata={"team": "blue", 'a "quoted" key': ""}).id

    def found(**query: str) -> list[str]:
        answer = live.http.get("/v1/fine_tuning/jobs", params=query)
        return [job["id"] for job in answer.json()["data"]]

    with live.openai as client:
        listed = client.fine_tuning.jobs.list(metadata={"team": "red"}, limit=1)
        assert [job.id for job in listed] == [red]
    assert found(**{"metadata[team]": "red", "metadata[round]": "1"}) == [red]
    assert found(**{"metadata[team]": "red", "metadata[round]": "2"}) == []
    assert found(**{'metadata[a "quoted" key]': ""}) == [blue]
    assert found(metadata="null") == [plain]
    assert found() == [blue, red, plain]
    for wrong in ({"metadata": "red"}, {"metadata": "null", "metadata[team]": "red"}):
        answer = live.http.get("/v1/fine_tuning/jobs", params=wrong)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "metadata")


def test_the_same_request_twice_is_one_job(live: Live) -> None:
    key = {"Idempotency-Key": "once"}
    assert create(live, extra_headers=key).id == create(live, extra_headers=key).id
    assert len(live.http.get("/api/runs").json()["data"]) == 1


def test_jobs_of_others_do_not_exist(live: Live) -> None:
    run = live.succeeded_run(owner="somebody-else")
    theirs = run.id.replace("run_", "ftjob-")
    for job_id in (theirs, "ftjob-unknown", run.id, "ftjob-", "x"):
        for method, path in PLACES:
            answer = live.http.request(method, f"/v1/fine_tuning/jobs/{job_id}{path}")
            assert answer.status_code == 404, (method, path, job_id)
            error = answer.json()["error"]
            assert error.keys() == ERROR_KEYS and job_id in error["message"]
        after = live.http.get("/v1/fine_tuning/jobs", params={"after": job_id})
        assert (after.status_code, after.json()["error"]["param"]) == (400, "after")
    assert live.http.get("/v1/fine_tuning/jobs").json()["data"] == []
    for name, value in (("model", run.fine_tuned_model), ("training_file", "file-theirs")):
        answer = live.http.post("/v1/fine_tuning/jobs", json=REQUEST | {name: value})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, name)
