"""The pages of batches, from fixed data."""

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

from tests.ui.texts import BASE, EVIL, LONG, NOW
from ui.rendering import render


def batch(status: str = "in_progress", **changes: Any) -> SimpleNamespace:
    values = {
        "id": "batch_k3v9x2aak3v9x2aak3v9x2aa",
        "status": status,
        "endpoint": "/v1/chat/completions",
        "model": BASE,
        "errors": None,
        "total": 1200,
        "completed": 480,
        "failed": 3,
        "input_tokens": 40_000,
        "output_tokens": 81_230,
        "output_file_id": None,
        "error_file_id": None,
        "created_at": NOW - timedelta(minutes=9),
    }
    return SimpleNamespace(**(values | changes))


def batch_pages() -> dict[str, str]:
    error = {"code": "c", "line": 3, "message": EVIL, "param": None}
    wrong = batch("failed", total=0, model=None, errors=[error] * 30)
    done = batch("completed", completed=1197, output_file_id="bf_o", error_file_id="bf_e")
    return {
        "batches-empty": _list([]),
        "batches": _list([batch(), batch("expired", model=LONG), wrong, done]),
        "batches-refused": _list([batch()], errors={"file": EVIL}),
        "batch": _show(batch(), live=True),
        "batch-failed": _show(wrong),
        "batch-done": _show(done),
        "batch-hostile": _show(batch(model=EVIL), live=True),
    }


def _list(batches: list[SimpleNamespace], **changes: Any) -> str:
    context: dict[str, Any] = {
        "batches": batches,
        "has_more": bool(batches),
        "endpoints": [("/v1/chat/completions", "/v1/chat/completions")],
        "values": {"endpoint": "/v1/chat/completions"},
        "max_bytes": 200 * 1024 * 1024,
        "errors": {},
        "error": None,
    }
    return render("batches/list.html", **(context | changes))


def _show(shown: SimpleNamespace, *, live: bool = False) -> str:
    return render("batches/show.html", batch=shown, live=live, cancellable=live)
