"""What a run's page shows, as a function of the run's state, and that page's live events."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

from gateway import deployments, run_samples, run_views
from gateway.datasets import store
from gateway.run_story import run_story
from gateway.run_views import RunView
from gateway.services import Services
from gateway.tables import Dataset
from shared.errors import NotFound
from ui import charts, snippets
from ui.rendering import render_block

TEMPLATE = "runs/show.html"
# Events and the blocks that they carry.
_BLOCKS = (("head", "summary"), ("panel", "panel"), ("foot", "foot"))
LOG_LINES = 200
# A fast run may report a hundred times a second; nobody reads that fast. And a long run's panel
# takes longer to make: at most a quarter of the time goes into it.
PAUSE_SECONDS = 0.3
PAUSE_FACTOR = 3

_PHASES = {
    "preparing": "Preparing the base model",
    "loading_model": "Loading the model",
    "training": "Training",
    "evaluating": "Validating",
    "saving": "Saving the model",
}


def run_context(services: Services, owner: str, run_id: str, base_url: str) -> dict[str, Any]:
    """Everything that the run's template names."""
    asked: dict[str, Any] = {"database": services.database, "owner": owner, "run_id": run_id}
    run = run_views.get_run(**asked)
    metrics = run_views.run_metrics(**asked)
    serving = deployments.list_deployments(database=services.database, owner=owner, limit=100)
    return {
        "run": run,
        "final": run.is_terminal,
        "dataset": _dataset(services, owner, run.dataset_id),
        "deployments": [found for found in serving.data if found.run_id == run_id],
        "announcement": announcement(run),
        "phase_text": phase_text(run),
        "elapsed": elapsed(run, datetime.now(UTC)),
        "points": charts.loss_points(metrics),
        "evaluations": [row for row in metrics if row.eval_loss is not None],
        "samples": run_samples.latest_samples(**asked),
        "log": run_story(**asked)[-LOG_LINES:],
        "snippet": snippets.python_snippet(base_url, run.fine_tuned_model or ""),
        "spec_yaml": snippets.spec_yaml(run.spec),
        "decided": [(name, str(value)) for name, value in (run.hyperparameters or {}).items()],
    }


async def panel_events(
    services: Services, owner: str, run_id: str, base_url: str
) -> AsyncIterator[tuple[str, str]]:
    """``panel``: the whole panel; ``head``: the title and buttons, only when they change, so that
    nothing is replaced under a finger; ``foot``: what may be done with a run that has ended;
    ``done`` after the final state."""
    sent: dict[str, str] = {}
    async with services.feed.subscribe(run_id) as wakeups:
        async for _ in wakeups:
            began = time.monotonic()
            try:
                context = await asyncio.to_thread(run_context, services, owner, run_id, base_url)
            except NotFound:
                return
            for event, block in _BLOCKS:
                html = render_block(TEMPLATE, block, **context)
                if sent.get(event, "") != html:
                    sent[event] = html
                    yield event, html
            if context["final"]:
                yield "done", ""
                return
            wakeups.pause = max(PAUSE_SECONDS, PAUSE_FACTOR * (time.monotonic() - began))


def _dataset(services: Services, owner: str, dataset_id: str) -> Dataset | None:
    try:
        return store.get_dataset(database=services.database, owner=owner, dataset_id=dataset_id)
    except NotFound:
        return None


def phase_text(run: RunView) -> str:
    if run.cancel_requested_at is not None:
        return "Stopping"
    if run.status == "queued":
        return "Waiting in the queue"
    return _PHASES.get(run.phase or "", "Starting")


def announcement(run: RunView) -> str:
    """For screen readers: changes with the state and every tenth of the way, not every step."""
    if run.status != "running" or not run.total_steps:
        return f"Run {run.status}"
    return f"{phase_text(run)}, {10 * (10 * run.step // run.total_steps)} percent"


def elapsed(run: RunView, now: datetime) -> float | None:
    if run.started_at is None:
        return None
    return ((run.finished_at or now) - run.started_at).total_seconds()
