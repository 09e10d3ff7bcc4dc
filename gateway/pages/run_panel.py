"""What a run's page shows, as a function of the run's state, and that page's live events."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

from gateway import deployments, run_curves, run_views
from gateway.datasets import store
from gateway.run_samples import samples_at
from gateway.run_story import run_story
from gateway.run_views import RunView
from gateway.services import Services
from gateway.tables import Dataset
from shared.errors import NotFound
from ui import charts, samples, snippets
from ui.rendering import render_block

TEMPLATE = "runs/show.html"
# Events and the blocks that they carry.
BLOCKS = (
    ("head", "summary"),
    ("said", "said"),
    ("panel", "panel"),
    ("result", "result"),
    ("points", "points"),
    ("evaluations", "evaluations"),
    ("checkpoints", "checkpoints"),
    ("samples", "samples"),
    ("log", "log"),
    ("settings", "settings"),
    ("foot", "foot"),
)
LOG_LINES = 200
SHOWN_CHECKPOINTS = 50
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


def run_context(
    services: Services,
    owner: str,
    run_id: str,
    base_url: str,
    *,
    since: int = 0,
    sample_step: int | None = None,
) -> dict[str, Any]:
    """Everything that the run's template names; of its curves the part from step ``since`` on."""
    asked: dict[str, Any] = {"database": services.database, "owner": owner, "run_id": run_id}
    run = run_views.get_run(**asked)
    # A run that was resumed measures again what it had measured before.
    since = min(since, run.step)
    curves = charts.curves_of(run_curves.measured_steps(**asked, since=since))
    evaluations = run_curves.measured_steps(**asked, evaluated=True)
    checkpoints = run_views.list_checkpoints(**asked, limit=SHOWN_CHECKPOINTS)
    serving = deployments.list_deployments(database=services.database, owner=owner, limit=100)
    return {
        "run": run,
        "problem": None,
        "sources": _sources(services, owner, run),
        "deployments": [found for found in serving.data if found.run_id == run_id],
        "announcement": announcement(run),
        "phase_text": phase_text(run),
        "elapsed": elapsed(run, datetime.now(UTC)),
        "charts": charts.RUN_CHARTS,
        "x_label": "Step",
        "points": charts.points_json(curves, since=since),
        "evaluations": evaluations,
        "best": min(evaluations, key=lambda row: row.eval_loss, default=None),
        "checkpoints": checkpoints.data,
        "more_checkpoints": checkpoints.has_more,
        "log": run_story(**asked)[-LOG_LINES:],
        "call_snippets": snippets.call_snippets(base_url, run.fine_tuned_model or ""),
        "spec_yaml": snippets.spec_yaml(run.spec),
        "decided": [(name, str(value)) for name, value in (run.hyperparameters or {}).items()],
        **samples_context(services, owner, run_id, sample_step),
    }


def samples_context(
    services: Services, owner: str, run_id: str, step: int | None
) -> dict[str, Any]:
    """What was written at one evaluation: at ``step``, or at the last one."""
    found = samples_at(database=services.database, owner=owner, run_id=run_id, step=step)
    return {
        "samples": found,
        "shown_samples": samples.shown_samples(found.samples) if found else [],
    }


async def panel_events(
    services: Services, owner: str, run_id: str, base_url: str
) -> AsyncIterator[tuple[str, str]]:
    """Each part of the page whenever it changes, whole, so that nothing else is replaced under a
    finger; of the curves (``points``) all at first, and then what was measured since the event
    before; ``done`` after the final state."""
    sent: dict[str, str] = {}
    since = 0
    async with services.feed.subscribe(run_id) as wakeups:
        async for _ in wakeups:
            began = time.monotonic()
            try:
                context = await asyncio.to_thread(
                    run_context, services, owner, run_id, base_url, since=since
                )
            except NotFound:
                return
            run: RunView = context["run"]
            for event, block in BLOCKS:
                html = render_block(TEMPLATE, block, **context)
                if sent.get(event, "") != html:
                    sent[event] = html
                    yield event, html
            if run.is_terminal:
                yield "done", ""
                return
            since = run.step
            wakeups.pause = max(PAUSE_SECONDS, PAUSE_FACTOR * (time.monotonic() - began))


def _sources(services: Services, owner: str, run: RunView) -> list[tuple[Dataset | None, float]]:
    """What the run learns from, with weights; None for what was deleted."""
    parts = run.spec.get("datasets") or [{"id": run.dataset_id, "weight": 1}]
    return [(_dataset(services, owner, part["id"]), part["weight"]) for part in parts]


def _dataset(services: Services, owner: str, dataset_id: str) -> Dataset | None:
    try:
        return store.get_dataset(database=services.database, owner=owner, dataset_id=dataset_id)
    except NotFound:
        return None


def phase_text(run: RunView) -> str:
    if run.cancel_requested_at is not None:
        return "Stopping"
    if run.stop_requested_at is not None:
        return "Stopping, and saving the model"
    if run.pause_requested_at is not None:
        return "Pausing, as soon as a checkpoint is saved"
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
