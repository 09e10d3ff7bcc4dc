"""Waits for something to become true in a page."""

import time
from typing import Any

from playwright.sync_api import Page

PAUSE_MS = 100


def wait_until(page: Page, expression: str, arg: Any = None, *, timeout: float = 15_000) -> None:
    """Ask again and again until ``expression`` is true; ``timeout`` is in milliseconds.

    (Playwright's own `wait_for_function` evaluates a string inside the page whenever its first
    look fails, which the pages' content security policy forbids.)
    """
    deadline = time.monotonic() + timeout / 1000
    while not page.evaluate(expression, arg):
        assert time.monotonic() < deadline, f"never true: {expression}"
        page.wait_for_timeout(PAUSE_MS)
