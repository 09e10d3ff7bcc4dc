"""GPUs without bf16 (a T4): fp16 with gradient scaling, tried on one that would not need it."""

from typing import Any

import pytest
import torch

from shared.run_events import Measured
from shared.storage import Storage
from tests.gpu.test_training import LOSS_WITHIN, NORM_WITHIN
from tests.trainer_service.families import prepare_family
from tests.trainer_service.recipe import losses, train
from tests.trainer_service.runs import make_job
from trainer_service.finetune import train_step
from trainer_service.hardware import Device
from trainer_service.training_setup import set_up

pytestmark = pytest.mark.gpu


@pytest.fixture
def older(gpu: Device) -> Device:
    return gpu.model_copy(update={"bf16": False})


@pytest.mark.parametrize("method", ["lora", "qlora", "full"])
def test_it_trains_as_a_cpu_does(older: Device, storage: Storage, method: str) -> None:
    rate = 2e-3 if method == "full" else 1e-2
    spec: dict[str, Any] = {"method": method, "learning_rate": rate, "max_steps": 30}
    spec |= {"per_device_train_batch_size": 8, "warmup_ratio": 0}
    ours, _ = train(make_job(storage, "run_gpu", **spec), device=older)
    theirs, _ = train(make_job(storage, "run_cpu", **spec))
    found, expected = losses(ours), losses(theirs)
    assert found[1] == pytest.approx(expected[1], rel=LOSS_WITHIN)
    assert found[30] < 0.8 * found[1]
    norms = [e.grad_norm for e in ours if isinstance(e, Measured) and e.step == 1]
    expected_norms = [e.grad_norm for e in theirs if isinstance(e, Measured) and e.step == 1]
    assert norms[0] == pytest.approx(expected_norms[0], rel=NORM_WITHIN)


def test_a_step_that_overflows_is_left_out_and_the_next_ones_learn(
    older: Device, storage: Storage
) -> None:
    job = make_job(storage, method="lora", learning_rate=1e-2, max_steps=100)
    said: list[Any] = []
    training = set_up(job, said.append, check=lambda: None, device=older)
    assert training.precision == "fp16"
    scaler = training.optimizer.scaler = torch.amp.GradScaler("cuda", init_scale=2.0**40)
    learning = training.optimizer.parameters
    before = {name: value.detach().clone() for name, value in learning.items()}
    train_step(training, 0)
    assert scaler.get_scale() == 2.0**39
    assert all(torch.equal(value, before[name]) for name, value in learning.items())
    for step in range(1, 100):
        train_step(training, step)
    measured = [event for event in said if isinstance(event, Measured)]
    assert len(measured) == 100 and scaler.get_scale() < 2.0**30
    assert all(bool(value.isfinite().all()) for value in learning.values())
    assert measured[-1].loss is not None and measured[0].loss is not None
    assert measured[-1].loss < 0.8 * measured[0].loss
    # What is told of a step that was left out crosses the pipe to the supervisor.
    assert Measured.model_validate_json(measured[0].model_dump_json()).step == 1


def test_t5_keeps_fp32_there(older: Device, storage: Storage) -> None:
    """The numbers inside it leave the range of fp16."""
    prepare_family(storage, "t5")
    job = make_job(storage, base_model="tests/t5", max_steps=2)
    training = set_up(job, lambda _: None, check=lambda: None, device=older)
    assert training.precision == "fp32"
    train_step(training, 0)
    assert {value.dtype for value in training.model.parameters()} == {torch.float32}
