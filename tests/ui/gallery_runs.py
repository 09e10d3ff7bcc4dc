"""The gallery's pages of runs: form, list, comparison, and a run's page in every state."""

from types import SimpleNamespace
from typing import Any

from tests.ui.dataset_gallery import dataset
from tests.ui.gallery_objects import (
    checkpoints,
    deployment,
    log_lines,
    metrics,
    run,
    samples,
    succeeded,
)
from tests.ui.texts import BASE, EVIL, LONG, NOW
from ui import run_fields, run_form, snippets
from ui.charts import RUN_CHARTS, curves_of, points_json
from ui.formats import loss
from ui.rendering import render
from ui.run_comparison import charts_of, result_row, setting_rows
from ui.samples import shown_samples


def run_context(shown: SimpleNamespace, **changes: Any) -> dict[str, Any]:
    rows = metrics(shown.step)
    evaluations = [row for row in rows if row.eval_loss is not None]
    written = changes.get("samples", samples() if evaluations else None)
    return {
        "run": shown,
        "problem": None,
        "sources": [(dataset(), 1), (None, 0.5)],
        "deployments": [],
        "announcement": "Training, 40 percent",
        "phase_text": "Training",
        "elapsed": 243.0,
        "charts": RUN_CHARTS,
        "x_label": "Step",
        "points": points_json(curves_of(rows)),
        "evaluations": evaluations,
        "best": evaluations[-1] if evaluations else None,
        "samples": written,
        "shown_samples": shown_samples(written.samples) if written else [],
        "checkpoints": checkpoints(shown.step),
        "more_checkpoints": shown.step > 100,
        "log": log_lines(),
        "call_snippets": snippets.call_snippets("http://127.0.0.1:8000", "ft:x"),
        "spec_yaml": snippets.spec_yaml(shown.spec),
        "decided": [("learning_rate", "0.001"), ("max_steps", "212")],
    } | changes


def run_page(shown: SimpleNamespace, **changes: Any) -> str:
    return render("runs/show.html", **run_context(shown, **changes))


def runs_page(shown: list[SimpleNamespace], **changes: Any) -> str:
    states = [one.status for one in shown]
    context: dict[str, Any] = {
        "runs": [
            SimpleNamespace(run=one, data="plantuml-scenarios v2, " + EVIL, best_eval_loss=0.5013)
            for one in shown
        ],
        "has_more": bool(shown),
        "state": None,
        "counts": {state: states.count(state) for state in states},
        "elapsed": lambda one: None if one.started_at is None else 4021.0,
        "has_datasets": False,
    }
    return render("runs/list.html", **(context | changes))


def compare_page() -> str:
    decided = {"learning_rate": 0.001, "lora_r": 16}
    shown = [
        run(hyperparameters=decided),
        succeeded(spec={"suffix": EVIL, "method": "full", "learning_rate": 0.002}),
        run("failed", spec={"suffix": LONG, "method": "lora"}),
    ]
    names = ["diagrams", EVIL, LONG]
    measured = [metrics(84), metrics(212), metrics(63)]
    for place, rows in enumerate(measured):
        for row in rows:
            row.loss += place / 5
    settings = setting_rows(shown, ["plantuml v2", "plantuml v2 × 2", EVIL])
    points = {
        f"{place}.{name}": curve
        for place, rows in enumerate(measured)
        for name, curve in curves_of(rows).items()
    }
    return render(
        "runs/compare.html",
        error=None,
        runs=list(zip(shown, names, strict=True)),
        charts=charts_of(names),
        x_label="Step",
        x="step",
        links={"step": "/runs/compare?run=1&run=2&x=step", "epoch": "/runs/compare?x=epoch"},
        points=points_json(points),
        results=[
            result_row("State", [one.status for one in shown], str),
            result_row("Training loss, last", [0.42, 0.41, None], loss, min, ["", "step 212", ""]),
        ],
        differing=[row for row in settings if row.differs],
        equal=[row for row in settings if not row.differs],
    )


def new_run_page(**changes: Any) -> str:
    values = changes.pop("values", run_form.initial_values(dataset_id="ds_1"))
    errors = changes.get("errors", {})
    context: dict[str, Any] = {
        "datasets": [("ds_1", "plantuml-scenarios v2, 212 rows"), ("ds_2", LONG)],
        "base_models": [(BASE, "SmolLM2 135M Instruct (ready)")],
        "continue_choices": [("", "The base model as it is"), ("run_1", f"diagrams, over {LONG}")],
        "values": values,
        "mix_rows": run_form.rows_to_show(values),
        "errors": errors,
        "error": None,
        "groups": run_fields.GROUPS,
        "validation_datasets": [run_fields.NO_VALIDATION_DATASET, ("ds_2", "held out, 24 rows")],
        "validation_split": run_fields.VALIDATION_SPLIT,
        "methods": run_fields.METHODS,
        "presets": run_fields.PRESETS,
        "open_mix": run_form.mixes(values, errors),
        "open_advanced": run_form.changed_advanced(values, errors),
    }
    return render("runs/new.html", **(context | changes))


def every_error() -> dict[str, str]:
    names = [*run_form.NAMES, "weight-0", "weight-1"]
    return dict.fromkeys(names, "This cannot be, and here is what to do about it.")


def mixed_values() -> run_form.Values:
    spec = {
        "base_model": BASE,
        "datasets": [{"id": "ds_1", "weight": 1}, {"id": "ds_2", "weight": 0.5}],
        "continue_from": "run_1",
        "early_stopping_patience": 3,
    }
    return run_form.values_like(spec)


def run_pages() -> dict[str, str]:
    return {
        "runs-empty": runs_page([]),
        "runs": runs_page(
            [
                run(),
                succeeded(spec={"suffix": EVIL[:60], "method": "full"}),
                run("failed", spec={"suffix": LONG[:64], "method": "qlora"}),
                run("queued", step=0, total_steps=None, started_at=None, queue_position=3),
                run("paused"),
            ]
        ),
        "runs-none-failed": runs_page([], state="cancelled", counts={"running": 2}),
        "runs-compare": compare_page(),
        "runs-compare-one": render(
            "runs/compare.html", error="Choose 2 to 6 runs in the list; 1 came here."
        ),
        "run-new": new_run_page(),
        "run-new-errors": new_run_page(errors=every_error(), error=EVIL),
        "run-continue": new_run_page(values=mixed_values()),
        "run-new-empty": new_run_page(datasets=[]),
        "run-queued": run_page(
            run(
                "queued",
                queue_position=2,
                step=0,
                total_steps=None,
                loss=None,
                waiting_for="Number 2 in the queue: one run will be taken before it.",
            ),
            log=[],
        ),
        "run": run_page(run()),
        "run-begun": run_page(run(step=1, eval_loss=None), samples=None, checkpoints=[]),
        "run-long": run_page(run(step=5000, total_steps=10_000), samples=samples(42)),
        "run-pausing": run_page(run(pause_requested_at=NOW)),
        "run-paused": run_page(run("paused", phase=None, eta_seconds=None)),
        "run-cancelled": run_page(run("cancelled", loss=None)),
        "run-failed": run_page(
            run("failed", error=SimpleNamespace(code="out_of_memory", message=EVIL))
        ),
        "run-done": run_page(
            succeeded(stopped="early", hyperparameters={"load_best_model_at_end": True})
        ),
        "run-deployed": run_page(
            succeeded(stopped="user"),
            deployments=[deployment(), deployment(name="diagrams-step-63", checkpoint=63)],
        ),
        "run-conflict": run_page(run(stop_requested_at=NOW), problem=EVIL),
    }
