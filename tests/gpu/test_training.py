"""Every method learns on a GPU what it learns on a CPU, and is held there as it should be."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from bitsandbytes.nn.modules import Linear4bit

from shared.datasets import Record
from shared.run_events import Measured, Sampled
from shared.runs import Method
from shared.storage import Storage
from tests.trainer_service.families import prepare_family
from tests.trainer_service.recipe import losses, train
from tests.trainer_service.runs import make_job
from tests.trainer_service.tiny import prepare_tiny_model
from trainer_service.evaluating import validation_loss
from trainer_service.finetune import train_step
from trainer_service.hardware import Device
from trainer_service.job_files import WeightedRecords
from trainer_service.modeling import load_base
from trainer_service.optimization import autocast
from trainer_service.training_setup import Training, set_up

pytestmark = pytest.mark.gpu

METHODS: tuple[Method, ...] = ("lora", "qlora", "full")
FAMILIES = ("llama", "qwen2", "gpt_neox", "t5", "byt5")
PAIRS = [Record.from_pair(f"{a}{b}", f"{b}{a}{a}") for a in "abcdefgh" for b in "12345678"]
# The CPU computes in fp32. Each bf16 rounding is off by up to 0.2% at random, which the mean over
# a step's hundreds of places evens out, in the loss more than in the gradient's norm.
LOSS_WITHIN, NORM_WITHIN = 0.01, 0.05


def training_on(device: Device, storage: Storage, name: str, **spec: Any) -> Training:
    prepare_family(storage, name)
    job = make_job(storage, base_model=f"tests/{name}", **spec)
    return set_up(job, lambda _: None, check=lambda: None, device=device)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", FAMILIES)
def test_steps_are_those_of_a_cpu_and_the_loss_falls(
    gpu: Device, storage: Storage, name: str, method: Method
) -> None:
    prepare_family(storage, name)
    spec: dict[str, Any] = {
        "base_model": f"tests/{name}", "method": method, "learning_rate": 1e-2, "max_steps": 30,
        "eval_steps": 30, "per_device_train_batch_size": 8, "warmup_ratio": 0,
    }  # fmt: skip
    if method == "full":
        spec["learning_rate"] = 2e-3
    ours, finished = train(make_job(storage, "run_gpu", **spec), device=gpu)
    theirs, _ = train(make_job(storage, "run_cpu", **spec))
    assert finished is not None and finished.status == "succeeded"
    found, expected = losses(ours), losses(theirs)
    # The first steps: later ones begin from weights that drifted apart.
    assert [found[step] for step in (1, 2)] == pytest.approx(
        [expected[step] for step in (1, 2)], rel=LOSS_WITHIN
    )
    first, reference = (
        next(e for e in events if isinstance(e, Measured)) for events in (ours, theirs)
    )
    assert first.grad_norm == pytest.approx(reference.grad_norm, rel=NORM_WITHIN)
    assert found[30] < 0.8 * found[1]
    assert found[30] == pytest.approx(expected[30], rel=0.2)
    assert all(event.output for event in ours if isinstance(event, Sampled))


@pytest.mark.parametrize("name", ["llama", "t5"])
def test_64_rows_are_learned_by_heart(gpu: Device, storage: Storage, name: str) -> None:
    prepare_family(storage, name)
    job = make_job(
        storage, base_model=f"tests/{name}", method="full", max_steps=300, learning_rate=5e-3,
        per_device_train_batch_size=16, warmup_ratio=0.1, validation_split=0,
    )  # fmt: skip
    job = replace(job, datasets=(WeightedRecords(PAIRS),), validation=PAIRS)
    training = set_up(job, lambda _: None, check=lambda: None, device=gpu)
    for step in range(300):
        train_step(training, step)
    training.model.eval()
    with autocast(gpu, training.precision):
        _, accuracy = validation_loss(
            training.loss,
            training.lessons.validation_rows,
            device=gpu.torch_name,
            pad_token_id=training.lessons.pad_token_id,
            check=lambda: None,
        )
    assert accuracy > 0.95


def test_it_is_computed_in_bf16_and_learned_in_fp32(gpu: Device, storage: Storage) -> None:
    """A frozen base in half precision, but what learns never: small steps would be lost."""
    for method in METHODS:
        training = training_on(gpu, storage, "llama", method=method)
        train_step(training, 0)
        assert training.precision == "bf16"
        learning = {key for key, value in training.model.named_parameters() if value.requires_grad}
        for key, value in training.model.named_parameters():
            assert value.device.type == "cuda", key
            if key in learning:
                assert value.dtype == torch.float32, key
            elif value.dtype != torch.uint8:
                assert value.dtype == torch.bfloat16, key
        packed = [m for m in training.model.modules() if isinstance(m, Linear4bit)]
        assert bool(packed) == (method == "qlora")
        assert all(module.weight.dtype == torch.uint8 for module in packed)
        states = training.optimizer.tensors().values()
        assert {state.device.type for state in states} == {"cuda"}
        assert {state.dtype for state in states} == {torch.float32}


def test_four_bits_are_those_of_the_cpu(gpu: Device, storage: Storage) -> None:
    """Quantised there and computed in fp32: the same weights, up to the order of sums."""
    folder = prepare_family(storage, "llama")
    ids = torch.arange(3, 40).unsqueeze(0)
    logits = []
    for device in (Device(kind="cpu", name="a cpu", memory_bytes=1), gpu):
        model = load_base(folder, method="qlora", device=device, precision="fp32").eval()
        with torch.no_grad():
            logits.append(model(ids.to(device.torch_name)).logits.cpu())
    assert torch.allclose(logits[1], logits[0], rtol=1e-3, atol=1e-3)


def test_the_memory_told_is_the_gpus(gpu: Device, storage: Storage) -> None:
    events, _ = train(make_job(storage, max_steps=3), device=gpu)
    told = [event.memory_bytes for event in events if isinstance(event, Measured)]
    assert None not in told and told == sorted(told, key=int)
    assert 0 < torch.cuda.memory_allocated() < int(told[-1] or 0)
    assert told[-1] == torch.cuda.max_memory_allocated()


def test_activation_checkpointing_takes_less_and_learns_the_same(
    gpu: Device, storage: Storage
) -> None:
    prepare_tiny_model(storage, hidden_size=256, intermediate_size=1024, num_hidden_layers=8)
    records = [Record.from_pair(f"say {index} {'x' * 400}", "y") for index in range(32)]
    curves, peaks = [], []
    for checkpointing in (False, True):
        job = make_job(
            storage, f"run_{checkpointing}", max_steps=3, per_device_train_batch_size=16,
            gradient_checkpointing=checkpointing, validation_split=0, learning_rate=1e-4,
        )  # fmt: skip
        job = replace(job, datasets=(WeightedRecords(records),))
        torch.cuda.reset_peak_memory_stats()
        held = torch.cuda.memory_allocated()
        events, _ = train(job, device=gpu)
        curves.append(list(losses(events).values()))
        peaks.append(torch.cuda.max_memory_allocated() - held)
    # (Attention on GPUs sums its gradients in any order.)
    assert curves[1] == pytest.approx(curves[0], rel=LOSS_WITHIN)
    assert peaks[1] < 0.6 * peaks[0]


def test_attention_is_planned_for_no_shape(gpu: Device, storage: Storage) -> None:
    """cuDNN's would be, for each batch of another: that took half of a step."""
    training = training_on(gpu, storage, "llama", method="lora")
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        train_step(training, 0)
    done = {event.key for event in profile.key_averages() if "attention" in event.key}
    assert any("flash" in name or "efficient" in name for name in done), done
    assert not any("cudnn" in name for name in done)
