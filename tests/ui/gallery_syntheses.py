"""The pages of synthetic data with data that is as odd as it may be."""

from types import SimpleNamespace
from typing import Any

from gateway.synthesis.filtering import REASONS
from gateway.synthesis.spec import AXES
from tests.ui.texts import BASE, EVIL, LONG, NOW, SOURCE
from ui import synthesis_form
from ui.rendering import render

STATUSES = ("kept", "pending", "accepted", "edited", "rejected", "dropped")


def synthesis(**changes: Any) -> SimpleNamespace:
    values = {
        "id": "syn_1",
        "name": "plantuml-scenarios",
        "status": "reviewing",
        "dataset_id": "ds_1",
        "evaluation_id": "ev_1",
        "aims": [
            {"label": "invoice, card, bank", "examples": 12, "share": 0.75},
            {"label": EVIL, "examples": 4, "share": 0.25},
        ],
        "wanted": 50,
        "kept": 41,
        "dropped": 12,
        "requests": 15,
        "reviewed": 7,
        "accepted": 5,
        "reasons": {"leakage": 4, "near_duplicate": 6, "render": 2},
        "prompt_tokens": 10_400,
        "completion_tokens": 6_200,
        "warnings": ["3 rows of a hold several turns: they are no examples."],
        "error": None,
        "result_id": None,
        "spec": {"model": BASE, "judge": "upstream/large", "min_score": 4},
        "created_at": NOW,
    }
    return SimpleNamespace(**(values | changes))


def row(**changes: Any) -> SimpleNamespace:
    values = {
        "number": 7,
        "status": "pending",
        "prompt": "A customer pays the invoice by card; the bank tells the shop.",
        "completion": SOURCE,
        "original": None,
        "aim": "invoice, card, bank",
        "axis": "",
        "reason": None,
        "said": None,
        "matched": None,
        "score": 4.0,
        "judged": "Right, and in the form of the examples.",
        "rendered": True,
    }
    return SimpleNamespace(**(values | changes))


def dropped() -> SimpleNamespace:
    matched = {"where": EVIL, "row": 1209, "text": LONG + EVIL, "similarity": 0.871}
    return row(
        number=8,
        status="dropped",
        reason="leakage",
        said=f"The question is 87% the same as row 1,209 of {EVIL}.",
        matched=matched,
        completion=EVIL,
    )


def _row_page(found: SimpleNamespace, **changes: Any) -> str:
    context: dict[str, Any] = {
        "synthesis": synthesis(),
        "row": found,
        "values": {"prompt": found.prompt, "completion": found.completion},
        "draws": found.completion == SOURCE,
        "changes": {},
        "problem": None,
    }
    return render("syntheses/row.html", **(context | changes))


def _form(**changes: Any) -> str:
    context: dict[str, Any] = {
        "values": synthesis_form.EMPTY | {"leakage": "ds_2"},
        "models": [("upstream/large", "upstream/large (service LLM)"), (BASE, "SmolLM2 (base)")],
        "datasets": [("ds_1", "plantuml v2, 212 rows"), ("ds_2", f"{LONG} v1, 40 rows")],
        "evaluations": [("ev_1", "plantuml v2, 22 Nov 22:10")],
        "evaluation": None,
        "default_axes": AXES,
        "errors": {},
        "error": None,
    }
    return render("syntheses/new.html", **(context | changes))


def _show(found: SimpleNamespace, **changes: Any) -> str:
    context: dict[str, Any] = {
        "synthesis": found,
        "dataset": "plantuml v2",
        "reasons": REASONS,
        "dropped": [dropped()],
        "more_dropped": True,
        "problem": None,
    }
    return render("syntheses/show.html", **(context | changes))


def _loop_form() -> str:
    context: dict[str, Any] = {
        "values": {
            "dataset_id": "ds_1",
            "like_run": "run_1",
            "like_evaluation": "ev_1",
            "baseline": "",
            "rules": "rougeL >= base",
            "deployment": "plantuml-3",
            "route": "support",
            "weight": "100",
        },
        "datasets": [("ds_1", "plantuml v2, 212 rows")],
        "runs": [("run_1", LONG)],
        "evaluations": [("ev_1", EVIL)],
        "routes": [("support", "support")],
        "errors": {"rules": "There is no metric 'x'."},
        "error": None,
    }
    return render("loops/new.html", **context)


def loop_pages() -> dict[str, str]:
    values = {
        "id": "lp_1",
        "status": "running",
        "stage": "evaluating",
        "run_id": "run_1",
        "evaluation_id": "ev_1",
        "deployment": None,
        "verdicts": None,
        "warnings": [EVIL],
        "error": None,
        "spec": {
            "deployment": "plantuml-3",
            "dataset_id": "ds_1",
            "route": "support",
            "weight": 10.0,
        },
        "created_at": NOW,
    }
    running = SimpleNamespace(**values)
    failed = SimpleNamespace(
        **values
        | {
            "status": "failed",
            "error": SimpleNamespace(message=EVIL),
            "verdicts": [{"holds": True, "sentence": EVIL}, {"holds": False, "sentence": LONG}],
        }
    )
    return {
        "loops-empty": render("loops/list.html", loops=[], has_more=False),
        "loops": render("loops/list.html", loops=[running, failed], has_more=True),
        "loop-new": _loop_form(),
        "loop-running": render("loops/show.html", item=running, problem=None),
        "loop-failed": render("loops/show.html", item=failed, problem="Too late."),
    }


def synthesis_pages() -> dict[str, str]:
    failed = synthesis(status="failed", error=SimpleNamespace(message=EVIL), dataset_id=None)
    chosen = {
        "candidates": [("0", "base"), ("1", EVIL)],
        "metrics": [("rouge_l", "rouge_l"), ("render_rate", "render_rate")],
    }
    rows: dict[str, Any] = {
        "synthesis": synthesis(),
        "has_more": True,
        "status_shown": "kept",
        "statuses": STATUSES,
        "reasons": REASONS,
    }
    return loop_pages() | {
        "syntheses-empty": render("syntheses/list.html", syntheses=[], has_more=False),
        "syntheses": render(
            "syntheses/list.html",
            syntheses=[synthesis(), synthesis(name=LONG, status="running", evaluation_id=None)],
            has_more=True,
        ),
        "synthesis-new": _form(),
        "synthesis-new-aimed": _form(evaluation=chosen),
        "synthesis-new-wrong": _form(
            evaluation=chosen, errors={"below": EVIL, "axes": "Too many."}, error="Wrong."
        ),
        "synthesis-running": _show(synthesis(status="running"), dropped=[]),
        "synthesis": _show(synthesis()),
        "synthesis-done": _show(synthesis(status="succeeded", result_id="ds_3")),
        "synthesis-failed": _show(failed, problem="Too late."),
        "synthesis-row": _row_page(row()),
        "synthesis-row-edited": _row_page(
            row(status="edited", axis=EVIL), changes={"completion": EVIL, "prompt": LONG}
        ),
        "synthesis-row-dropped": _row_page(dropped(), problem="Empty."),
        "synthesis-rows": render(
            "syntheses/rows.html", rows=[row(), dropped(), row(status="edited", number=9)], **rows
        ),
        "synthesis-rows-empty": render("syntheses/rows.html", rows=[], **rows),
    }
