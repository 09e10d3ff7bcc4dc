"""The pages of the request log, from fixed data; hostile texts included."""

from types import SimpleNamespace
from typing import Any

from tests.ui.texts import EVIL, LONG, NOW
from ui import request_filter
from ui.rendering import render
from ui.request_story import answered_by, story


def logged(**changes: Any) -> SimpleNamespace:
    values = {
        "id": "req_" + "0" * 24,
        "created_at": NOW,
        "kind": "chat",
        "client": "192.0.2.7",
        "request_id": "req_1",
        "completion_id": "chatcmpl-1",
        "model": "support",
        "route": "support",
        "drawn": "upstream/large",
        "served_by": "upstream/large",
        "continued_by": None,
        "fallbacks": 0,
        "fallback_reason": None,
        "shadow_of": None,
        "status": 200,
        "error_code": None,
        "stream": True,
        "seconds": 1.234,
        "first_token_seconds": 0.085,
        "prompt_tokens": 12,
        "completion_tokens": 34,
        "finish_reason": "stop",
        "messages": [
            {"role": "system", "content": "Be short."},
            {"role": "user", "content": EVIL},
        ],
        "prompt": EVIL,
        "reply": "A fine answer. " * 60,
        "withheld": None,
        "parameters": {"temperature": 0.5, "stop": [EVIL]},
        "tags": ["case:7"],
        "feedback": 1,
        "feedback_comment": EVIL,
        "correction": None,
        "feedback_at": NOW,
    }
    return SimpleNamespace(**(values | changes))


STEPPED_IN = {
    "served_by": "small",
    "fallbacks": 1,
    "fallback_reason": "upstream_500",
    "feedback": -1,
    "correction": "Better. " + EVIL,
}
FAILED = {
    "model": LONG,
    "route": None,
    "drawn": None,
    "served_by": None,
    "status": 404,
    "error_code": "model_not_found",
    "reply": None,
    "feedback": None,
    "first_token_seconds": None,
    "completion_tokens": None,
}
WITHHELD = {
    "continued_by": "small",
    "kind": "diagram",
    "messages": None,
    "prompt": None,
    "reply": None,
    "withheld": "opted_out",
    "parameters": {},
    "tags": [],
    "feedback": None,
    "feedback_at": None,
}


def _summary(count: int) -> SimpleNamespace:
    return SimpleNamespace(
        count=count,
        failed=1,
        fallbacks=2,
        continued=1,
        thumbs_up=3,
        thumbs_down=1,
        prompt_tokens=123_456,
        completion_tokens=7_890,
        seconds=SimpleNamespace(p50=0.42, p95=61.0),
        by={"served_by": [("upstream/large", 1200), (EVIL, 3)]} if count else {"served_by": []},
    )


def _list(*rows: SimpleNamespace, given: dict[str, str] | None = None, **changes: Any) -> str:
    values = request_filter.values_of(given or {})
    context: dict[str, Any] = {
        "requests": rows,
        "has_more": bool(rows),
        "summary": _summary(len(rows)),
        "values": values,
        "chosen": request_filter.chosen(values),
        "query": lambda **fields: request_filter.query(values, **fields),
        "choices": request_filter.CHOICES,
        "folded": not given,
        "keys": [("", "Any"), ("key_1", EVIL)],
        "answered_by": answered_by,
        "days": 30.0,
        "keeps": "content",
        "masks": True,
        "harvest": {"name": "", "error": None, "errors": {}},
        "error": None,
        "errors": {},
    }
    return render("requests/list.html", **(context | changes))


def _show(**changes: Any) -> str:
    row = logged(**changes)
    return render(
        "requests/show.html",
        request=row,
        story=story(row),
        answered_by=answered_by(row),
        key=EVIL,
        parameters=[("temperature", "0.5"), ("stop", EVIL)],
        values={"rating": "up", "comment": EVIL, "correction": ""},
        error=None,
        errors={"correction": "Too long."},
    )


def request_pages() -> dict[str, str]:
    rows = [logged(), logged(**STEPPED_IN), logged(**FAILED), logged(**WITHHELD)]
    harvest = {"name": EVIL, "error": "None of these requests makes a row.", "errors": {}}
    return {
        "requests-empty": _list(),
        "requests-none": _list(given={"q": EVIL}, errors={"since": "This must be a day."}),
        "requests": _list(*rows),
        "requests-filtered": _list(
            *rows, given={"served_by": EVIL, "kind": "chat", "tag": LONG}, harvest=harvest
        ),
        "request": _show(**STEPPED_IN),
        "request-failed": _show(**FAILED),
        "request-withheld": _show(**WITHHELD),
    }
