"""Activations computed twice instead of kept give the same gradients, in every architecture."""

from typing import Any

import pytest
import torch

from shared.storage import Storage
from tests.trainer_service.families import CONFIGS, prepare_family
from tests.trainer_service.runs import make_job
from trainer_service.batching import collate
from trainer_service.hardware import Device
from trainer_service.training_setup import set_up

CPU = Device(kind="cpu", name="a cpu", memory_bytes=1)


def gradients(
    storage: Storage, name: str, method: str, checkpointing: bool
) -> tuple[int, dict[str, torch.Tensor]]:
    """How often an attention layer computed, and the gradients of a batch; with dropout, so that
    the second pass must drop what the first one dropped."""
    job = make_job(
        storage,
        base_model=f"tests/{name}",
        method=method,
        lora_dropout=0.1,
        gradient_checkpointing=checkpointing,
    )
    training = set_up(job, lambda _: None, check=lambda: None, device=CPU)
    passes = [0]

    def count(*_: Any) -> None:
        passes[0] += 1

    for module in training.model.modules():
        if type(module).__name__.endswith("Attention"):
            module.register_forward_pre_hook(count)
    if method != "full":
        # A fresh adapter's B is zero, and so is A's gradient.
        torch.manual_seed(1)
        for key, value in training.optimizer.parameters.items():
            if "lora_B" in key:
                torch.nn.init.normal_(value, std=0.1)
    torch.manual_seed(2)
    batch = collate(training.lessons.rows[:4], pad_token_id=training.lessons.pad_token_id)
    training.loss(*batch).loss.backward()
    found = {
        key: value.grad
        for key, value in training.model.named_parameters()
        if value.grad is not None
    }
    return passes[0], found


@pytest.mark.parametrize("method", ["lora", "qlora", "full"])
@pytest.mark.parametrize("name", CONFIGS)
def test_gradients_are_equal_with_and_without(storage: Storage, name: str, method: str) -> None:
    prepare_family(storage, name, dropout=0.1 if "t5" in name else 0.0)
    once, kept = gradients(storage, name, method, checkpointing=False)
    twice, computed_again = gradients(storage, name, method, checkpointing=True)
    assert twice == 2 * once > 0
    assert kept.keys() == computed_again.keys() and any(map(torch.any, kept.values()))
    for key, value in kept.items():
        assert torch.allclose(value, computed_again[key], rtol=1e-5, atol=1e-6), key
