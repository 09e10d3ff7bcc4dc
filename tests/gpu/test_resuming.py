"""A run on a GPU that was stopped and resumed is the run that was never stopped."""

import pytest
import torch
from safetensors.torch import load_file

from shared.storage import Storage
from tests.trainer_service.families import prepare_family
from tests.trainer_service.recipe import losses, stop_after, train
from tests.trainer_service.runs import make_job
from tests.trainer_service.tiny import TINY_MODEL
from trainer_service.hardware import Device

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize(
    ("model", "method", "bf16"),
    [
        (TINY_MODEL, "lora", True),
        (TINY_MODEL, "qlora", True),
        (TINY_MODEL, "full", True),
        (TINY_MODEL, "lora", False),
        ("tests/t5", "lora", True),
        ("tests/t5", "full", True),
    ],
)
def test_a_resumed_run_is_the_run_that_was_never_stopped(
    gpu: Device, storage: Storage, model: str, method: str, bf16: bool
) -> None:
    """Without ``bf16`` as on a GPU that lacks it: fp16, whose scale is part of a checkpoint."""
    device = gpu.model_copy(update={"bf16": bf16})
    if model != TINY_MODEL:
        prepare_family(storage, model.removeprefix("tests/"), dropout=0.1)
    # Dropout makes the GPU's random numbers count.
    spec = {"max_steps": 30, "save_steps": 10, "lora_dropout": 0.1, "eval_steps": 12}
    spec |= {"base_model": model, "method": method, "learning_rate": 1e-3}
    straight, unbroken = train(make_job(storage, "run_straight", **spec), device=device)
    job = make_job(storage, "run_resumed", **spec)
    before, nothing = train(job, check=stop_after(12), device=device)
    torch.cuda.manual_seed(123)
    after, finished = train(job, device=device)
    assert nothing is None and finished is not None and unbroken is not None
    assert losses(before) and not set(losses(before)) & set(losses(after))
    ours, theirs = losses(before) | losses(after), losses(straight)
    assert ours.keys() == theirs.keys()
    assert max(abs(ours[step] - theirs[step]) for step in ours) < 1e-4
    file = "model.safetensors" if method == "full" else "adapter_model.safetensors"
    expected = load_file(storage.run_result("run_straight") / file)
    for name, value in load_file(job.result / file).items():
        assert torch.allclose(value, expected[name], atol=1e-5), name


def test_other_random_numbers_would_have_been_seen(gpu: Device, storage: Storage) -> None:
    """Or the test above would prove nothing of the GPU's: they do change what is learned."""
    spec = {"max_steps": 4, "lora_dropout": 0.1, "learning_rate": 1e-3}
    curves = []
    for seed in (1, 2):
        job = make_job(storage, f"run_{seed}", **spec)

        def check(seed: int = seed) -> None:
            torch.cuda.manual_seed(seed)

        events, _ = train(job, check=check, device=gpu)
        curves.append(losses(events))
    assert max(abs(curves[0][step] - curves[1][step]) for step in (2, 3, 4)) > 1e-3
