"""What the gallery's pages show: a dataset, runs, what they measured and wrote; from fixed data."""

import math
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

from tests.ui.texts import BASE, EVIL, LONG, NOW, SOURCE


def run(status: str = "running", **changes: Any) -> SimpleNamespace:
    values = {
        "id": "run_1",
        "status": status,
        "phase": "training",
        "attempt": 1,
        "queue_position": None,
        "step": 84,
        "total_steps": 212,
        "epoch": 0.79,
        "loss": 0.4213,
        "eval_loss": 0.5127,
        "tokens_per_second": 412.0,
        "eta_seconds": 128.0,
        "memory_bytes": 1_830_000_000,
        "best_step": 84,
        "stopped": None,
        "error": None,
        "fine_tuned_model": None,
        "base_model": BASE,
        "dataset_id": "ds_1",
        "device": "cpu",
        "spec": {"suffix": "diagrams", "method": "lora", "base_model": BASE, "dataset_id": "ds_1"},
        "hyperparameters": {"learning_rate": 0.001},
        "created_at": NOW - timedelta(minutes=9),
        "started_at": NOW - timedelta(minutes=4),
        "finished_at": None,
        "cancel_requested_at": None,
        "pause_requested_at": None,
        "stop_requested_at": None,
        "waiting_for": None,
    }
    shown = SimpleNamespace(**(values | changes))
    shown.is_terminal = status in ("succeeded", "failed", "cancelled")
    return shown


def succeeded(**changes: Any) -> SimpleNamespace:
    done = {
        "phase": None,
        "step": 212,
        "eta_seconds": None,
        "finished_at": NOW,
        "fine_tuned_model": f"ft:{BASE}:genplat:diagrams:k3v9x2aa",
    }
    return run("succeeded", **(done | changes))


def deployment(**changes: Any) -> SimpleNamespace:
    values = {
        "name": "diagrams",
        "state": "ready",
        "run_id": "run_1",
        "base_model": BASE,
        "checkpoint": None,
        "precision": "fp32",
        "error": None,
        "gate": {"evaluation": "ev_1", "sentences": [EVIL]},
        "created_at": NOW - timedelta(minutes=30),
    }
    return SimpleNamespace(**(values | changes))


def metrics(steps: int = 84) -> list[SimpleNamespace]:
    return [
        SimpleNamespace(
            step=step,
            epoch=step / 106,
            loss=2.4 * math.exp(-step / 30) + 0.4 + 0.08 * math.sin(step * 1.7),
            eval_loss=2.2 * math.exp(-step / 34) + 0.5 if step % 21 == 0 else None,
            mean_token_accuracy=0.9 - 0.6 * math.exp(-step / 30),
            eval_mean_token_accuracy=0.85 - 0.6 * math.exp(-step / 34) if step % 21 == 0 else None,
            learning_rate=1e-3 * min(step / 10, 1.2 - step / 240),
            grad_norm=1.5 + math.sin(step * 2.3) + (9 if step == 50 else 0),
            tokens_per_second=410 + 12 * math.sin(step),
            memory_bytes=1_500_000_000 + 330_000_000 * (step > 21),
        )
        for step in range(1, steps + 1)
    ]


def samples(step: int = 84) -> SimpleNamespace:
    written = [
        ("The user orders a book.", SOURCE, SOURCE, None),
        ("The shop asks the bank.", SOURCE, SOURCE.replace("order", "pay " + EVIL), SOURCE),
        (LONG, "short", LONG, LONG),
    ]
    return SimpleNamespace(
        steps=(21, 42, 63, 84),
        step=step,
        previous=None if step == 21 else step - 21,
        is_latest=step == 84,
        samples=[
            SimpleNamespace(prompt=prompt, target=target, output=output, before=before)
            for prompt, target, output, before in written
        ],
    )


def log_lines() -> list[SimpleNamespace]:
    texts = [
        "Attempt 1 starts on cpu.",
        "190 rows to learn from, 22 to validate with.",
        "Step 21: validation loss 1.6867",
        "Step 42: validation loss 1.1398",
        EVIL,
    ]
    return [
        SimpleNamespace(
            time=NOW - timedelta(seconds=60 - index * 9),
            level="warn" if index == 4 else "info",
            message=text,
        )
        for index, text in enumerate(texts)
    ]


def checkpoints(step: int) -> list[SimpleNamespace]:
    return [
        SimpleNamespace(
            step=at,
            created_at=NOW,
            loss=0.5 + 1 / at,
            eval_loss=None if at == 21 else 0.6 + 1 / at,
            mean_token_accuracy=0.81,
            eval_mean_token_accuracy=0.78,
            best=at == 63,
            available=at > 42,
        )
        for at in (84, 63, 42, 21)
        if at <= step
    ]
