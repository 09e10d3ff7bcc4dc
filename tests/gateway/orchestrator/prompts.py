"""Prompts that others have answered, by which a fallback is measured."""

from typing import Any

from gateway.tables import LoggedRequest
from tests.gateway.orchestrator.experiments.traffic import OWNER, ROUTE, row

WHOSE: dict[str, Any] = {"owner": OWNER, "name": ROUTE}
FALLBACK = {"fallbacks": [{"deployment": "new"}]}


def prompt(number: int = 0, **changes: Any) -> LoggedRequest:
    values = {
        "messages": [{"role": "user", "content": f"Question {number}?"}],
        "reply": "Hello there!",
        "kind": "chat",
    }
    return row("old", **(values | changes))
