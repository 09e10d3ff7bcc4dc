"""What the peers of a training benchmark share: the same settings for all, and our own recipe."""

import time
from pathlib import Path
from typing import Any

BATCH = 8


def our_spec(base_model: str, rate: float) -> dict[str, Any]:
    """A shell user's file for our recipe: one epoch, evaluated once, at its end."""
    return {
        "base_model": base_model,
        "dataset": "train.jsonl",
        "validation_dataset": "held_out.jsonl",
        "output_dir": "out",
        "num_train_epochs": 1,
        "per_device_train_batch_size": BATCH,
        "learning_rate": rate,
        "lr_scheduler_type": "constant",
        "warmup_ratio": 0,
        "lora_r": 16,
        "lora_alpha": 32,
        "eval_steps": 1_000_000,
        "save_steps": 1_000_000,
        "seed": 42,
    }


def genplat(arguments: dict[str, Any]) -> dict[str, Any]:
    """Our own recipe, as a shell user runs it."""
    import uuid

    from shared.run_events import Measured
    from shared.storage import Storage
    from trainer_service.finetune import fine_tune, quiet_libraries
    from trainer_service.job_files import shell_job

    quiet_libraries()
    folder = Path(arguments["folder"])
    spec = arguments["spec"] | {"output_dir": f"out-{uuid.uuid4().hex[:8]}"}
    job = shell_job(spec, base=folder, storage=Storage(folder))
    losses: list[float] = []

    def report(payload: Any) -> None:
        if isinstance(payload, Measured) and payload.eval_loss is not None:
            losses.append(payload.eval_loss)

    end = fine_tune(job, report, check=lambda: None)
    assert end.train_seconds is not None
    return {"tokens_per_second": arguments["real"] / end.train_seconds, "held_out_loss": losses[-1]}


def trainer_settings(folder: Path, rate: float) -> dict[str, Any]:
    """The same for the trainers of transformers and TRL."""
    return {
        "output_dir": str(folder / "peer"),
        "per_device_train_batch_size": BATCH,
        "num_train_epochs": 1,
        "learning_rate": rate,
        "lr_scheduler_type": "constant",
        "max_grad_norm": 1.0,
        "weight_decay": 0.0,
        "optim": "adamw_torch_fused",
        "use_cpu": True,
        "bf16": False,
        "fp16": False,
        "report_to": [],
        "save_strategy": "no",
        "disable_tqdm": True,
        "seed": 42,
    }


def collate(batch: list[dict[str, list[int]]], width: int) -> dict[str, Any]:
    """Rows of a peer, padded to ``width``; 0: to the longest of them."""
    import torch

    width = width or max(len(row["input_ids"]) for row in batch)
    ids = torch.zeros(len(batch), width, dtype=torch.long)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
    for place, row in enumerate(batch):
        length = len(row["input_ids"])
        ids[place, :length] = torch.tensor(row["input_ids"])
        labels[place, :length] = torch.tensor(row["labels"])
        mask[place, :length] = 1
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def step_clock() -> Any:
    """A callback that notes when the first step began and the last one ended."""
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        began = ended = 0.0

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.began = self.began or time.perf_counter()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.ended = time.perf_counter()

    return Clock()
