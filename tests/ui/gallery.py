"""Every page of the UI from fixed data, hostile texts included: for tests and for looking at."""

import json
from types import SimpleNamespace
from typing import Any

from tests.ui.dataset_gallery import dataset_pages
from tests.ui.gallery_batches import batch_pages
from tests.ui.gallery_evaluations import evaluation_pages
from tests.ui.gallery_models import library, model_pages
from tests.ui.gallery_objects import (
    deployment,
    run,
    succeeded,
)
from tests.ui.gallery_requests import request_pages
from tests.ui.gallery_runs import run_pages
from tests.ui.gallery_syntheses import synthesis_pages
from tests.ui.gallery_trials import readiness, trial_pages
from tests.ui.texts import BASE, EVIL, LONG, NOW, SOURCE
from ui import chat_form, snippets
from ui.rendering import error_page, render
from ui.start_steps import next_step, start_steps


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
        {
            "role": "assistant",
            "content": "Scenarios.\n" + EVIL,
            "model": "diagrams",
            "request_id": "req_" + "a" * 24,
        },
        {"role": "user", "content": "The user sends an order, the shop asks the bank."},
        {"role": "assistant", "content": SOURCE, "model": "diagrams", "diagram": drawn},
        {"role": "user", "content": LONG},
        {"role": "assistant", "content": EVIL, "model": None, "diagram": undrawn},
    ]
    return [chat_form.Turn.model_validate(turn) for turn in turns]


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
        "upstreams": ["upstream/large"],
        "drill": None,
        "readiness": None,
        "what_runs": None,
        "faults": {"cut": "streams break off", "500": "errors (500)"},
        "values": {
            "name": "support",
            "targets": [
                {"label": "diagrams", "weight": "90", "seconds": "2.5"},
                {"label": "upstream/large", "weight": "10", "seconds": ""},
                {"label": "", "weight": "", "seconds": ""},
            ],
            "fallbacks": [{"label": "base", "seconds": ""}, {"label": "", "seconds": ""}],
            "choice": "user",
            "shadow": "diagrams",
            "shadow_share": "25",
        },
        "errors": {},
        "error": None,
        "snippets": [],
    }
    return render("routes/edit.html", **(context | changes))


EMPTY_KEY = {
    "name": "",
    "scope": "admin",
    "days": "0",
    "requests_per_minute": "",
    "tokens_per_minute": "",
}


def pages() -> dict[str, str]:
    """Every page in the states that matter, by a name for its URL."""
    key = SimpleNamespace(
        id="key_1",
        name=EVIL,
        hint="gp-abcd",
        scopes=["infer", "read"],
        expires_at=NOW,
        requests_per_minute=60,
        tokens_per_minute=100_000,
        created_at=NOW,
        last_used_at=None,
    )
    try_it = {
        "values": {"inputs": ""},
        "errors": {},
        "error": None,
        "output": EVIL,
        "snippets": snippets.chat_snippets("http://127.0.0.1:8000", "diagrams"),
    }
    route = SimpleNamespace(
        name="support",
        targets=[{"upstream": "large", "weight": 90}, {"deployment": "base", "weight": 10}],
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
        **run_pages(),
        **batch_pages(),
        **model_pages(),
        **synthesis_pages(),
        **evaluation_pages(),
        **request_pages(),
        "deployments-empty": render("deployments/list.html", deployments=[], has_more=False),
        "deployments": render(
            "deployments/list.html",
            deployments=[deployment(), deployment(name="base", run_id=None, state="failed")],
            has_more=False,
        ),
        "deployment-new": render(
            "deployments/new.html",
            models=[("run_1", "diagrams")],
            values={
                "model": "run_1",
                "name": "",
                "precision": "auto",
                "evaluation": "ev_1",
                "rules": EVIL,
            },
            precisions=[("auto", "auto")],
            evaluations=[("", "None"), ("ev_1", LONG)],
            errors={"name": "Taken.", "require": EVIL},
            error=None,
        ),
        "deployment": render(
            "deployments/show.html", deployment=deployment(error=EVIL, state="failed"), **try_it
        ),
        "routes-empty": render(
            "routes/list.html",
            routes=[],
            has_more=False,
            has_deployments=False,
            drilled=[],
            on_trial={},
        ),
        "routes": render(
            "routes/list.html",
            routes=[route],
            has_more=False,
            has_deployments=True,
            drilled=[route.name],
            on_trial={route.name: "experiment"},
        ),
        "route-new": _edit_route(
            errors={"targets": "Give at least one deployment.", "shadow": EVIL}
        ),
        "route": _edit_route(name="support"),
        **{
            f"route-readiness-{status}": _edit_route(name="support", readiness=readiness(status))
            for status in ("queued", "done", "failed")
        },
        "route-drill": _edit_route(
            name="support", drill={"fault": "cut", "until": NOW}, what_runs="migration"
        ),
        **trial_pages(),
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
            values=EMPTY_KEY,
            errors={},
            error=None,
        ),
        "keys": render(
            "keys/list.html",
            keys=[key],
            has_more=False,
            secret="gp-" + "x" * 43,
            values=EMPTY_KEY,
            errors={},
            error=None,
        ),
    }
