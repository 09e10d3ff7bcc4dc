"""Every page of the UI from fixed data, hostile texts included: for tests and for looking at."""

import json
import math
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

from ui import chat_form, run_fields, run_form, snippets
from ui.charts import RUN_CHARTS, curves_of, points_json
from ui.formats import loss
from ui.rendering import error_page, render
from ui.run_comparison import charts_of, result_row, setting_rows
from ui.samples import shown_samples
from ui.start_steps import next_step, start_steps

NOW = datetime.now(UTC)
EVIL = """<script>alert(1)</script><img src=x onerror=alert(1)>'"{{7*7}}"""
LONG = "averylongnamewithoutanyspace" * 8
BASE = "HuggingFaceTB/SmolLM2-135M-Instruct"
SOURCE = "@startuml\nactor User\nUser -> Shop : order\nShop -> Bank : confirm\n@enduml"


def dataset(**changes: Any) -> SimpleNamespace:
    values = {
        "id": "ds_1",
        "name": "plantuml-scenarios",
        "description": "Scenarios in words, and the diagram that shows them.",
        "version": 2,
        "filename": "plantuml.jsonl",
        "file_type": "jsonl",
        "format": "prompt/completion",
        "rows": 212,
        "bytes": 132_400,
        "sha256": "ab" * 32,
        "columns": ["prompt", "completion"],
        "warnings": [],
        "created_at": NOW - timedelta(hours=2),
    }
    return SimpleNamespace(**(values | changes))


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


def chat_page(**changes: Any) -> str:
    context: dict[str, Any] = {
        "groups": [("Deployments", [("diagrams", "diagrams")]), ("Base", [(BASE, "SmolLM2 135M")])],
        "values": {
            "model": "diagrams",
            "mode": "text",
            "message": "",
            "temperature": "0",
            "max_tokens": "512",
            "max_attempts": "3",
        },
        "errors": {},
        "error": None,
        "messages": [],
        "history": "[]",
    }
    return render("chat/chat.html", **(context | changes))


def conversation() -> list[chat_form.Turn]:
    drawn = {
        "rendered": True,
        "attempts": 2,
        "id": "dg_1",
        "error": None,
    }
    undrawn = {
        "rendered": False,
        "attempts": 3,
        "id": "dg_2",
        "error": {"line": 3, "message": EVIL},
    }
    turns: list[dict[str, Any]] = [
        {"role": "user", "content": "What do you draw?"},
        {"role": "assistant", "content": "Scenarios.\n" + EVIL, "model": "diagrams"},
        {"role": "user", "content": "The user sends an order, the shop asks the bank."},
        {"role": "assistant", "content": SOURCE, "model": "diagrams", "diagram": drawn},
        {"role": "user", "content": LONG},
        {"role": "assistant", "content": EVIL, "model": None, "diagram": undrawn},
    ]
    return [chat_form.Turn.model_validate(turn) for turn in turns]


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


def library() -> list[SimpleNamespace]:
    def item(name: str, state: str, error: str | None = None) -> SimpleNamespace:
        entry = SimpleNamespace(
            id=f"org/{name}",
            name=name,
            parameters=134_515_008,
            context_length=8192,
            licence="Apache-2.0",
        )
        return SimpleNamespace(entry=entry, state=state, error=error)

    return [
        item("SmolLM2 135M Instruct", "ready"),
        item("SmolLM2 360M Instruct", "preparing"),
        item("Qwen2.5 0.5B Instruct", "missing"),
        item("Local", "available"),
        item("Broken", "failed", EVIL),
    ]


def _home(**counts: Any) -> str:
    known = {"datasets": 0, "runs": 0, "succeeded": 0, "live": 0, "deployments": 0}
    steps = start_steps(**(known | {"newest_success": ""} | counts))
    return render(
        "home/home.html",
        steps=steps,
        next_step=next_step(steps),
        runs=[run(), succeeded()] if counts else [],
        deployments=[deployment()] if counts else [],
    )


def _edit_route(**changes: Any) -> str:
    context: dict[str, Any] = {
        "name": None,
        "deployments": ["diagrams", "base"],
        "values": {
            "name": "support",
            "targets": [
                {"deployment": "diagrams", "weight": "90"},
                {"deployment": "", "weight": ""},
            ],
            "fallbacks": ["base", ""],
        },
        "errors": {},
        "error": None,
        "snippets": [],
    }
    return render("routes/edit.html", **(context | changes))


def pages() -> dict[str, str]:
    """Every page in the states that matter, by a name for its URL."""
    upload_samples = [("CSV: text, target", "text,target\nhe go,he goes")]
    upload = {"name": "", "description": "", "text_column": "", "target_column": ""}
    key = SimpleNamespace(
        id="key_1",
        name=EVIL,
        hint="gp-abcd",
        created_at=NOW,
        last_used_at=None,
    )
    details = [
        {"line": 3, "column": "target", "message": EVIL},
        {"line": 1209, "column": 17, "message": "this byte is not UTF-8."},
        {"line": None, "column": None, "message": "the file is empty."},
    ]
    upload_page = {
        "samples": upload_samples,
        "values": upload,
        "max_bytes": 512_000_000,
        "filename": "rows.csv",
        "max_details": 20,
    }
    no_model = {"id": "", "folder": "", "name": "", "context_length": ""}
    models_page = {"library": library(), "import_root": "/data/imports", "error": None}
    try_it = {
        "values": {"inputs": ""},
        "errors": {},
        "error": None,
        "output": EVIL,
        "snippets": snippets.chat_snippets("http://127.0.0.1:8000", "diagrams"),
    }
    route = SimpleNamespace(
        name="support",
        targets=[{"deployment": "diagrams", "weight": 90}, {"deployment": "base", "weight": 10}],
        fallbacks=[{"deployment": "base"}],
        updated_at=NOW,
    )
    return {
        "login": render("login/login.html", error=None, next="/"),
        "login-wrong": render("login/login.html", error="This key is not valid.", next=EVIL),
        "error": error_page(status=404, message=EVIL, request_id="req_1"),
        "error-403": error_page(status=403, message="This form came from another site."),
        "home-empty": _home(),
        "home": _home(datasets=2, runs=2, succeeded=1, live=1, newest_success="run_1"),
        "home-done": _home(datasets=2, runs=2, succeeded=1, deployments=1),
        "datasets-empty": render("datasets/list.html", datasets=[], has_more=False),
        "datasets": render(
            "datasets/list.html",
            datasets=[dataset(), dataset(name=EVIL, warnings=["a"]), dataset(name=LONG)],
            has_more=True,
        ),
        "dataset-new": render(
            "datasets/new.html", **upload_page, error=None, details=[], errors={}
        ),
        "dataset-errors": render(
            "datasets/new.html",
            **upload_page,
            error="2 lines cannot be used.",
            details=details,
            errors={"file": "Choose it again."},
        ),
        "dataset": render(
            "datasets/show.html",
            dataset=dataset(warnings=["3 rows are there twice."]),
            error=None,
            base_models=[(BASE, "SmolLM2 135M (ready)"), ("a/b", LONG)],
            shown_model=library()[2],
            rendered=[
                [
                    SimpleNamespace(
                        text="<|im_start|>user\nDraw an order<|im_end|>\n", learned=False
                    ),
                    SimpleNamespace(text=SOURCE + "<|im_end|>", learned=True),
                ]
            ],
            rows=[{"prompt": EVIL, "completion": SOURCE}, {"prompt": LONG, "completion": ""}],
            columns=["prompt", "completion"],
        ),
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
        "models": render(
            "models/list.html",
            **models_page,
            tuned=[succeeded()],
            adding=False,
            values=no_model,
            errors={},
        ),
        "models-errors": render(
            "models/list.html",
            **models_page,
            tuned=[],
            adding=True,
            values=no_model | {"folder": EVIL},
            errors={"folder": EVIL, "id": "Write owner/name."},
        ),
        "deployments-empty": render("deployments/list.html", deployments=[], has_more=False),
        "deployments": render(
            "deployments/list.html",
            deployments=[deployment(), deployment(name="base", run_id=None, state="failed")],
            has_more=False,
        ),
        "deployment-new": render(
            "deployments/new.html",
            models=[("run_1", "diagrams")],
            values={"model": "run_1", "name": "", "precision": "auto"},
            precisions=[("auto", "auto")],
            errors={"name": "Taken."},
            error=None,
        ),
        "deployment": render(
            "deployments/show.html", deployment=deployment(error=EVIL, state="failed"), **try_it
        ),
        "routes-empty": render(
            "routes/list.html", routes=[], has_more=False, has_deployments=False
        ),
        "routes": render("routes/list.html", routes=[route], has_more=False, has_deployments=True),
        "route-new": _edit_route(errors={"targets": "Give at least one deployment."}),
        "route": _edit_route(name="support"),
        "chat-empty": chat_page(groups=[]),
        "chat-new": chat_page(),
        "chat": chat_page(
            messages=[chat_form.Turn.model_validate(turn) for turn in conversation()],
            history=json.dumps([{"role": EVIL}]),
        ),
        "keys-empty": render(
            "keys/list.html",
            keys=[],
            has_more=False,
            secret=None,
            values={"name": ""},
            errors={},
            error=None,
        ),
        "keys": render(
            "keys/list.html",
            keys=[key],
            has_more=False,
            secret="gp-" + "x" * 43,
            values={"name": ""},
            errors={},
            error=None,
        ),
    }
