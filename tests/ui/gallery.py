"""Every page of the UI from fixed data, hostile texts included: for tests and for looking at."""

import json
import math
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

from tests.ui.dataset_gallery import dataset, dataset_pages
from tests.ui.texts import BASE, EVIL, LONG, NOW, SOURCE
from ui import chat_form, run_form, snippets
from ui.charts import loss_points
from ui.rendering import error_page, render
from ui.start_steps import next_step, start_steps


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
    }
    return SimpleNamespace(**(values | changes))


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
        "precision": "fp32",
        "error": None,
        "created_at": NOW - timedelta(minutes=30),
    }
    return SimpleNamespace(**(values | changes))


def metrics(steps: int = 84) -> list[SimpleNamespace]:
    return [
        SimpleNamespace(
            step=step,
            loss=2.4 * math.exp(-step / 30) + 0.4 + 0.08 * math.sin(step * 1.7),
            eval_loss=2.2 * math.exp(-step / 34) + 0.5 if step % 21 == 0 else None,
        )
        for step in range(1, steps + 1)
    ]


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


def run_page(shown: SimpleNamespace, **changes: Any) -> str:
    rows = metrics(shown.step)
    context = {
        "run": shown,
        "final": shown.status in ("succeeded", "failed", "cancelled"),
        "dataset": dataset(),
        "deployments": [],
        "announcement": "Training, 40 percent",
        "phase_text": "Training",
        "elapsed": 243.0,
        "points": loss_points(rows),
        "evaluations": [row for row in rows if row.eval_loss is not None],
        "samples": [
            SimpleNamespace(
                step=84, prompt="The user orders a book.", output=SOURCE, target=SOURCE + EVIL
            )
        ],
        "log": log_lines(),
        "snippet": snippets.python_snippet("http://127.0.0.1:8000", "ft:x"),
        "spec_yaml": snippets.spec_yaml(shown.spec),
        "decided": [("learning_rate", "0.001"), ("max_steps", "212")],
    }
    return render("runs/show.html", **(context | changes))


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
    context: dict[str, Any] = {
        "datasets": [("ds_1", "plantuml-scenarios v2, 212 rows")],
        "base_models": [(BASE, "SmolLM2 135M Instruct (ready)")],
        "values": run_form.initial_values(dataset_id="ds_1"),
        "errors": {},
        "error": None,
        "groups": run_form.GROUPS,
        "validation_datasets": [run_form.NO_VALIDATION_DATASET, ("ds_2", "held out, 24 rows")],
        "validation_split": run_form.VALIDATION_SPLIT,
        "methods": run_form.METHODS,
        "presets": run_form.PRESETS,
        "open_advanced": False,
    }
    return render("runs/new.html", **(context | changes))


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
    bad = {"learning_rate": "Write a number, or auto."}
    key = SimpleNamespace(
        id="key_1",
        name=EVIL,
        hint="gp-abcd",
        created_at=NOW,
        last_used_at=None,
    )
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
        **dataset_pages(library()[2]),
        "runs-empty": render("runs/list.html", runs=[], has_more=False, has_datasets=False),
        "runs": render(
            "runs/list.html",
            runs=[run(), succeeded(), run("failed"), run("queued", step=0, total_steps=None)],
            has_more=False,
            has_datasets=True,
        ),
        "run-new": new_run_page(),
        "run-new-errors": new_run_page(errors=bad, open_advanced=True),
        "run-new-empty": new_run_page(datasets=[]),
        "run-queued": run_page(
            run("queued", queue_position=2, step=0, total_steps=None, loss=None), log=[], samples=[]
        ),
        "run": run_page(run()),
        "run-failed": run_page(
            run("failed", error=SimpleNamespace(code="out_of_memory", message=EVIL))
        ),
        "run-done": run_page(succeeded()),
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
