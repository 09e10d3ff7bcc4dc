"""A run that goes on from another run's weights, or says why it cannot."""

import contextlib
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from shared.errors import GenPlatError, InvalidData
from shared.prompt_template import PromptTemplate
from shared.run_events import Measured, Payload
from shared.runs import ContinueFrom
from shared.storage import Storage, manifest_problem
from tests.trainer_service.runs import make_command, write_dataset
from tests.trainer_service.tiny import prepare_tiny_model
from trainer_service import exit_codes
from trainer_service.finetune import fine_tune
from trainer_service.hardware import Device
from trainer_service.job_files import Job, SupervisedSpec, shell_job, supervised_job

CPU = Device(kind="cpu", name="a cpu", memory_bytes=1)


def make_job(storage: Storage, run_id: str, origin: ContinueFrom | None = None, **spec: Any) -> Job:
    numbers = {"max_steps": 8, "learning_rate": 1e-2, "save_steps": 4, "warmup_ratio": 0}
    command = make_command(storage, run_id, **numbers | {"lora_r": "auto"} | spec)
    command = command.model_copy(update={"continue_from": origin})
    return supervised_job(SupervisedSpec(command=command, data_dir=storage.root))


def train(job: Job, *, steps: int | None = None) -> list[float]:
    """The losses of a training, stopped after so many ``steps``."""
    events: list[Payload] = []

    def check() -> None:
        if steps is not None and len(losses(events)) >= steps:
            raise exit_codes.Preempted

    with contextlib.suppress(exit_codes.Preempted):
        fine_tune(job, events.append, check=check, device=CPU)
    return losses(events)


def losses(events: list[Payload]) -> list[float]:
    return [e.loss for e in events if isinstance(e, Measured) and e.loss is not None]


@pytest.mark.parametrize(
    ("first", "second"), [("lora", "lora"), ("lora", "qlora"), ("qlora", "lora"), ("full", "full")]
)
@pytest.mark.parametrize("step", [None, 4])
def test_learning_goes_on_from_the_weights_of_another_run(
    storage: Storage, first: str, second: str, step: int | None
) -> None:
    """With a learning rate of next to nothing the first loss is that of the weights taken over."""
    full = {"learning_rate": 1e-3} if first == "full" else {"lora_r": 4, "lora_alpha": 12}
    begun = train(make_job(storage, "run_a", method=first, **full))
    origin = ContinueFrom(run_id="run_a", step=step)
    gone_on = train(make_job(storage, "run_b", origin, method=second, learning_rate=1e-9))
    anew = train(make_job(storage, "run_c", method=second, learning_rate=1e-9))
    # (The order of rows is the same in all three.)
    assert anew[0] == pytest.approx(begun[0], rel=0.1)
    assert gone_on[0] < 0.95 * anew[0]
    if first != "full":
        assert '"r": 4' in (storage.run_result("run_b") / "adapter_config.json").read_text()
        assert (
            '"lora_alpha": 12' in (storage.run_result("run_b") / "adapter_config.json").read_text()
        )


def test_the_prompt_stays_that_of_the_first_run(storage: Storage) -> None:
    train(make_job(storage, "run_a", task_prefix="fix: "))
    train(make_job(storage, "run_b", ContinueFrom(run_id="run_a")))
    assert PromptTemplate.load(storage.run_result("run_b")).task_prefix == "fix: "
    train(make_job(storage, "run_c", ContinueFrom(run_id="run_a"), task_prefix=""))
    assert PromptTemplate.load(storage.run_result("run_c")).task_prefix == ""


def test_once_begun_the_first_run_is_not_needed_any_more(storage: Storage) -> None:
    train(make_job(storage, "run_a", lora_r=4))
    origin = ContinueFrom(run_id="run_a")
    train(make_job(storage, "run_straight", origin))
    before = train(make_job(storage, "run_b", origin), steps=5)
    shutil.rmtree(storage.run("run_a"))
    after = train(make_job(storage, "run_b", origin))
    assert len(before) == 5 and len(after) == 3
    straight = load_file(storage.run_result("run_straight") / "adapter_model.safetensors")
    resumed = load_file(storage.run_result("run_b") / "adapter_model.safetensors")
    assert all(torch.allclose(straight[name], resumed[name], atol=1e-5) for name in straight)


def test_a_deployed_checkpoint_is_found_where_it_was_put_aside(storage: Storage) -> None:
    train(make_job(storage, "run_a"))
    kept = storage.run_checkpoints("run_a") / "step-4"
    shutil.copytree(kept, storage.run_deployed("run_a", 4))
    (kept / "adapter_model.safetensors").write_bytes(b"broken")
    origin = ContinueFrom(run_id="run_a", step=4)
    assert len(train(make_job(storage, "run_b", origin))) == 8
    assert manifest_problem(storage.run_result("run_b")) is None


@pytest.mark.parametrize(
    ("origin", "spoil", "reason"),
    [
        (ContinueFrom(run_id="run_a"), "adapter_model.safetensors", "are damaged"),
        (ContinueFrom(run_id="run_a"), "adapter_config.json", "are damaged"),
        (ContinueFrom(run_id="run_a", step=3), "", "the weights of step-3 are gone"),
        (ContinueFrom(run_id="run_nobody"), "", "are gone"),
    ],
)
def test_weights_that_are_not_there_or_not_whole_are_one_sentence(
    storage: Storage, origin: ContinueFrom, spoil: str, reason: str
) -> None:
    train(make_job(storage, "run_a"))
    if spoil:
        (storage.run_result("run_a") / spoil).write_bytes(b"{}")
    with pytest.raises(InvalidData, match=reason) as caught:
        train(make_job(storage, "run_b", origin))
    assert caught.value.param == "continue_from"
    assert str(storage.root) not in caught.value.message


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"base_model": "tests/other"}, "base_model"),
        ({"method": "full"}, "method"),
        ({"lora_r": 5}, "lora_r"),
        ({"lora_alpha": 5}, "lora_alpha"),
        ({"target_modules": ["q_proj"]}, "target_modules"),
    ],
)
def test_a_run_that_does_not_fit_is_refused_by_field(
    storage: Storage, changes: dict[str, Any], field: str
) -> None:
    prepare_tiny_model(storage, "tests/other")
    train(make_job(storage, "run_a", lora_r=4))
    with pytest.raises(GenPlatError, match=f"^{field}: ") as caught:
        train(make_job(storage, "run_b", ContinueFrom(run_id="run_a"), **changes))
    assert caught.value.param == field


def test_a_shell_user_names_the_folder_of_an_earlier_training(
    storage: Storage, tmp_path: Path
) -> None:
    train(make_job(storage, "run_a", lora_r=4))
    shutil.copytree(storage.run("run_a"), tmp_path / "earlier")
    data = write_dataset(storage)
    (tmp_path / "pairs.jsonl").write_bytes(storage.dataset_records(data.id).read_bytes())
    for place in ("earlier", "earlier/checkpoints/step-4"):
        content = {
            "base_model": "tests/tiny-llama",
            "dataset": "pairs.jsonl",
            "output_dir": place.replace("/", "-") + "-more",
            "continue_from": place,
            "max_steps": 2,
        }
        job = shell_job(content, base=tmp_path, storage=storage)
        assert len(train(job)) == 2
        assert '"r": 4' in (job.result / "adapter_config.json").read_text()
