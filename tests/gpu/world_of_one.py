"""One GPU as a world of its own, for `test_launching`: NCCL and FSDP2 as with several.

Started by torchrun as ``-m tests.gpu.world_of_one FOLDER``; what it found lies in
``FOLDER/found.json`` afterwards.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch import distributed
from torch.distributed.tensor import DTensor

from shared.run_events import Measured, Sampled
from shared.storage import Storage
from tests.trainer_service.runs import make_job
from trainer_service import data_parallel, training_setup
from trainer_service.data_parallel import Ranks
from trainer_service.finetune import learn
from trainer_service.hardware import find_device
from trainer_service.saving import publish
from trainer_service.training_setup import set_up

SPEC = {"max_steps": 6, "save_steps": 3, "eval_steps": 3, "per_device_train_batch_size": 8}


def train(storage: Storage, name: str, method: str, ranks: Ranks) -> dict[str, Any]:
    said: dict[str, Any] = {"losses": [], "samples": 0}

    def report(payload: Any) -> None:
        if isinstance(payload, Measured) and payload.loss is not None:
            said["losses"].append(payload.loss)
        said["samples"] += isinstance(payload, Sampled)

    rate = 1e-3 if method == "full" else 5e-3
    job = make_job(storage, name, method=method, learning_rate=rate, **SPEC)
    training_setup.is_sharded = lambda *_: ranks.sharded
    training = set_up(job, report, check=lambda: None, device=find_device(), ranks=ranks)
    publish(training, learn(training, lambda: False))
    parameters = list(training.model.parameters())
    return said | {
        "divided": all(isinstance(value, DTensor) for value in parameters),
        "devices": sorted({value.device.type for value in parameters}),
    }


def exchanged() -> list[float]:
    """Gradients and wishes go through the GPU, where NCCL can reach them."""
    gradients = [torch.full((2, 2), 3.0, device="cuda"), torch.ones(5, device="cuda")]
    data_parallel._sum_together(gradients)
    wish = torch.tensor([1], device=data_parallel._exchange_device())
    distributed.all_reduce(wish, op=distributed.ReduceOp.MAX)
    return [float(part.sum()) for part in (*gradients, wish)]


def main(arguments: list[str]) -> None:
    storage = Storage(Path(arguments[0]))
    # (`join` meets others where there are several; one alone exchanges nothing.)
    distributed.init_process_group("nccl")
    found: dict[str, Any] = {"exchanged": exchanged()}
    for method in ("lora", "full"):
        for sharded in (False, True):
            name = f"{method}-{'sharded' if sharded else 'whole'}"
            found[name] = train(storage, name, method, Ranks(sharded=sharded))
    distributed.destroy_process_group()
    (storage.root / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
