"""Runs and what they reported, written straight into a database; no fixture, no test."""

import math
from typing import Any

from gateway.database import Database
from gateway.tables import MetricRow, Run, RunEventRow, now
from tests.gateway.parts import DATASET, OWNER, spec


def add_run(database: Database, run_id: str, *, owner: str = OWNER, **columns: Any) -> str:
    """A run of ``columns`` beside what every run has."""
    asked = spec(suffix=run_id.removeprefix("run_"))
    values = {
        "id": run_id,
        "owner": owner,
        "spec": asked.model_dump(mode="json"),
        "base_model": asked.base_model,
        "dataset_id": DATASET,
    }
    with database.write() as session:
        session.add(Run(**(values | columns)))
    return run_id


def add_metrics(database: Database, run_id: str, steps: range, *, every: int = 10) -> None:
    """A falling loss, validated ``every`` so many steps."""
    with database.write() as session:
        for step in steps:
            loss = 2 * math.exp(-step / 50)
            session.merge(
                MetricRow(
                    run_id=run_id,
                    step=step,
                    epoch=step / 100,
                    loss=loss,
                    eval_loss=loss + 0.1 if step % every == 0 else None,
                    grad_norm=50.0 if step == 17 else 1.0,
                    learning_rate=1e-3,
                    tokens_per_second=400.0,
                )
            )


def add_sample(
    database: Database, run_id: str, *, step: int, output: str, attempt: int = 1, prompt: str = "p"
) -> None:
    payload = {"step": step, "prompt": prompt, "target": "wanted", "output": output}
    with database.write() as session:
        seq = 100 * step + len(output) + ord(prompt[0])
        session.add(
            RunEventRow(
                run_id=run_id,
                attempt=attempt,
                seq=seq,
                stream_id=f"{attempt}-{seq}",
                type="sample",
                time=now(),
                payload={"type": "sample", **payload},
            )
        )
