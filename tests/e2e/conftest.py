"""A real Chromium for tests, found on the machine; without one they are skipped, loudly."""

import os
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
MISSING = "NO BROWSER TEST RAN: no Chromium was found."
_skipped: list[str] = []


def find_chromium() -> str | None:
    return os.environ.get("GENPLAT_CHROMIUM") or next(
        (path for name in NAMES if (path := shutil.which(name))), None
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("e2e") and find_chromium() is None:
            _skipped.append(item.nodeid)
            item.add_marker(pytest.mark.skip(reason=MISSING))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _skipped:
        terminalreporter.section("BROWSER TESTS", sep="!", red=True, bold=True)
        terminalreporter.line(
            f"{MISSING} {len(_skipped)} tests were skipped. Install one (on Debian: "
            "apt-get install chromium) or name it with GENPLAT_CHROMIUM.",
            red=True,
        )


# Playwright's synchronous API keeps an event loop running in this thread, in which no other test
# can start one of its own: it must end with these tests.
@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=find_chromium(), args=list(FLAGS), headless=True
        )
        yield browser
        browser.close()


class Console:
    """What a page complained about: errors of scripts, of the policy, of its own files."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def listen(self, page: Page) -> Page:
        page.on("console", lambda message: self._note(message.type, message.text))
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("dialog", lambda dialog: self.problems.append(f"dialog: {dialog.message}"))
        return page

    def _note(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.problems.append(text)
