"""Trainings of a model that two processes share, beside one process's, for `test_sharding`.

Started by torchrun as ``-m tests.trainer_service.sharded_trainings FOLDER``; what each training
said lies in ``FOLDER/NAME.json`` afterwards.
"""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.distributed.tensor import DTensor

from shared.run_events import Measured, Sampled
from shared.storage import Storage
from tests.trainer_service.runs import make_job
from trainer_service.adapters import learn_whole
from trainer_service.data_parallel import Ranks, join, part
from trainer_service.exit_codes import Preempted
from trainer_service.finetune import agreed, learn
from trainer_service.fused_layers import fuse_layers
from trainer_service.hardware import Device
from trainer_service.modeling import load_base
from trainer_service.saving import publish
from trainer_service.sharding import Whole, made_whole, mesh_over, shard
from trainer_service.supervised_loss import loss_of
from trainer_service.training_setup import set_up

# No process could hold the model alone: it is sharded without having to be asked for.
CPU = Device(kind="cpu", name="a cpu", memory_bytes=1)
# Of 19 rows the last step of an epoch has three: one process has two passes, the other one.
TWO: dict[str, Any] = {
    "devices": 2,
    "per_device_train_batch_size": 1, "gradient_accumulation_steps": 2,
}  # fmt: skip
ONE: dict[str, Any] = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}
STEPS: dict[str, Any] = {"max_steps": 8, "eval_steps": 4, "save_steps": 3}
CASES: dict[str, dict[str, Any]] = {
    "llama-full": {"method": "full", "learning_rate": 1e-3},
    "llama-lora": {"load_best_model_at_end": True},
    "gpt_neox-full": {
        "base_model": "tests/gpt_neox", "method": "full", "learning_rate": 1e-3,
        "gradient_checkpointing": True, "max_grad_norm": 0.3,
    },
    "t5-full": {"base_model": "tests/t5", "method": "full", "learning_rate": 1e-3},
    "t5-lora": {"base_model": "tests/t5"},
}  # fmt: skip
STOPPED = 5


def train(
    storage: Storage, name: str, ranks: Ranks, *, stop_at: int | None = None, **spec: Any
) -> None:
    """The whole recipe; preempted after step ``stop_at``."""
    said: dict[str, Any] = {"losses": {}, "norms": {}, "evaluations": [], "samples": []}

    def report(payload: Any) -> None:
        if isinstance(payload, Sampled):
            said["samples"].append(payload.output)
        elif isinstance(payload, Measured) and payload.loss is not None:
            said["losses"][payload.step] = payload.loss
            said["norms"][payload.step] = payload.grad_norm
        elif isinstance(payload, Measured):
            said["evaluations"].append(payload.eval_loss)

    def check() -> None:
        if stop_at is not None and len(said["losses"]) >= stop_at:
            raise Preempted

    job = make_job(storage, name, **{**STEPS, **spec})
    training = set_up(job, report, check=agreed(ranks, check), device=CPU, ranks=ranks)
    said["held"] = sum(held_of(value).numel() for value in parameters(training.model))
    try:
        publish(training, learn(training, lambda: False))
    except Preempted:
        said["preempted"] = True
    states = map(held_of, training.optimizer.tensors().values())
    said["optimizer_bytes"] = sum(state.untyped_storage().nbytes() for state in states)
    if ranks.leads:
        (storage.root / f"{name}.json").write_text(json.dumps(said))


def parameters(model: Any) -> list[torch.Tensor]:
    return list(model.parameters())


def held_of(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def go_on(storage: Storage, ranks: Ranks) -> None:
    """A run that two processes began is ended by two, and by one."""
    spec = CASES["llama-full"]
    train(storage, "stopped", ranks, stop_at=STOPPED, **spec, **TWO)
    if ranks.leads:
        for name in ("resumed-sharded", "resumed-alone"):
            shutil.copytree(storage.run_checkpoints("stopped"), storage.run_checkpoints(name))
    ranks.wait()
    train(storage, "resumed-sharded", ranks, **spec, **TWO)
    if ranks.leads:
        train(storage, "resumed-alone", Ranks(), **spec, **ONE)
    ranks.wait()


def half_precision(storage: Storage, ranks: Ranks) -> None:
    """The gradient that a model gathered in bf16 gets, beside that of fp32."""
    alone = set_up(make_job(storage, "half"), lambda _: None, check=lambda: None, device=CPU)
    gradients = []
    for compute in (None, torch.bfloat16):
        base = load_base(
            storage.base_model("tests/tiny-llama"), method="full", device=CPU,
            precision="fp32",
        )  # fmt: skip
        model = learn_whole(base, alone.numbers, seed=1)
        if compute is None:
            fuse_layers(base)
        loss = loss_of(base)
        whole: Whole = shard(model, mesh_over(ranks, CPU), compute)
        ids = torch.arange(3, 43).view(2, 20)
        with torch.autocast("cpu", torch.bfloat16, enabled=compute is not None):
            whole(loss, ids, ids).loss.backward()
        found = [own.grad for own in parameters(model) if own.grad is not None]
        flat = [made_whole(gradient).reshape(-1) for gradient in found]
        gradients.append(torch.cat(flat))
    said = {
        "dtype": str(gradients[1].dtype),
        "alike": torch.cosine_similarity(*gradients, dim=0).item(),
    }
    if ranks.leads:
        (storage.root / "half.json").write_text(json.dumps(said))


def overflow(storage: Storage, ranks: Ranks) -> None:
    """A gradient that is without end in the other process's share alone costs both their step."""
    job = make_job(storage, "overflow", **CASES["llama-full"], **TWO)
    training = set_up(job, lambda _: None, check=lambda: None, device=CPU, ranks=ranks)
    optimizer = training.optimizer
    scaler = optimizer.scaler = torch.amp.GradScaler("cpu")
    for parameter in optimizer.parameters.values():
        parameter.grad = torch.ones_like(parameter)
    first = next(iter(optimizer.parameters.values()))
    assert isinstance(first.grad, DTensor)
    if not ranks.leads:
        first.grad.to_local().fill_(float("inf"))
    before = made_whole(first.detach()).clone()
    scaler.scale(torch.zeros(()))  # type: ignore[no-untyped-call]
    scaler.unscale_(optimizer.adamw)
    scaler.step(optimizer.adamw)
    scaler.update()
    changed = bool((made_whole(first.detach()) != before).any())
    if ranks.leads:
        said = {"changed": changed, "scale": scaler.get_scale()}
        (storage.root / "overflow.json").write_text(json.dumps(said))


def main(arguments: list[str]) -> None:
    storage = Storage(Path(arguments[0]))
    ranks = join("cpu")
    for name, spec in CASES.items():
        train(storage, f"{name}-sharded", ranks, **spec, **TWO)
        if ranks.leads:
            train(storage, f"{name}-alone", Ranks(), **spec, **ONE)
    go_on(storage, ranks)
    half_precision(storage, replace(ranks, sharded=True))
    overflow(storage, ranks)
    part()


if __name__ == "__main__":
    main(sys.argv[1:])
