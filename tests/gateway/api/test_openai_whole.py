"""OpenAI's unmodified client against the whole platform: models are really trained, and answer."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from openai import OpenAI

from shared.model_library import BUNDLED_MODEL
from tests.e2e.stack import ADMIN_KEY, RunningStack, running_stack
from tests.trainer_service.tiny import TINY_MODEL

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[3]
EXAMPLE = re.compile(r"```python\n(.*?)```", re.DOTALL)
ENDED = ("succeeded", "failed", "cancelled")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    with running_stack(tmp_path_factory.mktemp("openai") / "data") as stack:
        yield stack


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 240
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.2)


def test_the_example_of_the_docs_works_as_it_is(stack: RunningStack) -> None:
    found = EXAMPLE.search((ROOT / "docs" / "openai.md").read_text(encoding="utf-8"))
    assert found is not None
    program = found[1].replace(BUNDLED_MODEL, TINY_MODEL)
    assert program != found[1]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=ROOT,
        env=os.environ | {"GENPLAT_URL": stack.url, "GENPLAT_API_KEY": ADMIN_KEY},
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr
    assert "succeeded The job has successfully completed" in done.stdout
    assert re.search(r"^\d+,\d+\.\d+,", done.stdout, re.MULTILINE), "no line of the result file"


def test_a_job_is_paused_resumed_cancelled_and_gone_on_from(stack: RunningStack) -> None:
    with OpenAI(base_url=f"{stack.url}/v1", api_key=ADMIN_KEY, max_retries=0) as client:
        jobs = client.fine_tuning.jobs
        file = client.files.create(file=ROOT / "examples" / "grammar.csv", purpose="fine-tune")
        asked = {"model": TINY_MODEL, "training_file": file.id}
        long = {"genplat": {"max_steps": 20_000, "save_steps": 10, "eval_steps": 10_000}}
        job = jobs.create(**asked, extra_body=long)
        wait_for(lambda: jobs.checkpoints.list(job.id).data)
        jobs.pause(job.id)
        wait_for(lambda: jobs.retrieve(job.id).status == "paused")
        assert jobs.list_events(job.id).data[0].message == "Fine-tuning job paused"
        steps = [one.step_number for one in jobs.checkpoints.list(job.id)]
        assert jobs.resume(job.id).status == "queued"
        wait_for(lambda: jobs.checkpoints.list(job.id).data[0].step_number > steps[0])
        jobs.cancel(job.id)
        wait_for(lambda: jobs.retrieve(job.id).status == "cancelled")
        assert jobs.retrieve(job.id).estimated_finish is None

        checkpoint = jobs.checkpoints.list(job.id).data[0]
        assert checkpoint.metrics.train_loss is not None
        name = checkpoint.fine_tuned_model_checkpoint
        short = {"genplat": {"max_steps": 2, "validation_split": 0}}
        further = jobs.create(**asked | {"model": name}, extra_body=short)
        wait_for(lambda: jobs.retrieve(further.id).status in ENDED)
        ended = jobs.retrieve(further.id)
        assert (ended.status, ended.model) == ("succeeded", name)
        assert ended.fine_tuned_model is not None
        content = client.files.content(ended.result_files[0]).text
        assert [line.partition(",")[0] for line in content.splitlines()] == ["step", "1", "2"]
        assert client.models.delete(ended.fine_tuned_model).deleted
        assert further.id not in {one.id for one in jobs.list()}
